"""What is asked of the model of a run, or of an export: to be written down, loaded, and asked about images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fl_client.export.described import otherwise_of
from fl_client.export.onnx_file import check_onnx
from fl_client.export.ready import Ready, from_folder, from_simulated, no_keys
from fl_client.export.write import export_plain, plain_model, refuse_folder
from medveil.errors import ConfigError, PolicyError
from medveil.pretraining import MASKED
from models.pretrained_header import EXPORT
from simulations.folders import MANIFEST, read_manifest
from simulations.site_models import model_of_run
from simulations.site_pixels import export_pixels, learned_pixels

if TYPE_CHECKING:
    from models.vits import VisionTransformer

PLAIN, HIDDEN = "plain", "hidden"
_PROG = "medveil-sim"


class Exported(NamedTuple):
    """A folder that was written.

    Attributes
    ----------
    folder : Path
        The folder.
    of : str
        Whose model it holds, after which round of which run.
    pixels : bool
        Whether it holds stem and trunk alone, of a run that learned pixels.
    otherwise : str
        That images are prepared in another way now than when the model learned; empty where they are not.
    """

    folder: Path
    of: str
    pixels: bool = False
    otherwise: str = ""


def export(run: Path, out: Path, *, site: str | None = None, onnx: bool = False) -> Exported:
    """Write a site's model of a run into a folder, for plain images.

    Parameters
    ----------
    run, out
        The run folder, and a folder that is new or empty.
    site
        Whose model; None is the first site's.
    onnx
        Whether to write ONNX as well.

    Raises
    ------
    ConfigError
        It is no run of a Vision Transformer, came through no round, has no such site, or the folder is not empty; or
        an extra is not installed.
    PolicyError
        Moved to plain images, the model would give away more than a model.
    StorageError, DataError
        The disk refuses, or the run's images are gone.
    """
    read_manifest(run)
    refuse_folder(out)
    if onnx:
        check_onnx()
    if learned_pixels(run):
        if onnx:
            raise ConfigError("answers no question", where="--onnx", cure=f"a run of {MASKED} leaves weights alone")
        return Exported(out, export_pixels(run, site, out), pixels=True)
    found = model_of_run(run, site)
    try:
        export_plain(found.kept, found.keys, out, onnx=onnx)
    except PolicyError as error:
        # A simulation has no key worth sealing under; its own `predict` asks the model as it is.
        cure = f"'{_PROG} predict {run} IMAGES --out FILE' asks it here"
        raise PolicyError(error.problem, where=error.where, cure=cure) from None
    of = f"{found.site} after round {found.kept.facts['round']} of {found.kept.run.name}"
    return Exported(out, of, otherwise=otherwise_of(found.kept.facts))


def ready_of(folder: Path, site: str | None = None) -> tuple[Ready, str]:
    """The model of a run folder or of an export, ready to be asked, and whose it is in words.

    Raises
    ------
    ConfigError
        It is neither, or has no such site.
    KeyMaterialError
        It is an export that is sealed under a site's key.
    StorageError, DataError, IntegrityError, FormatError
        A file is missing, damaged or changed.
    """
    if _is_export(folder):
        if site is not None:
            raise ConfigError("an export is of one site", where="--site", cure="leave it out, or name a run folder")
        ready = from_folder(folder, no_keys)
        return ready, f"the model of {ready.described.site} after round {ready.described.round} in {folder}"
    found = model_of_run(folder, site)
    return from_simulated(found.kept, found.keys), f"the model of {found.site} after round {found.kept.facts['round']}"


def timm_model(folder: Path, *, site: str | None = None, domain: str = PLAIN) -> VisionTransformer:
    """The model of a run folder or of an export, as timm has it: float32, on the CPU, in evaluation mode.

    Parameters
    ----------
    domain
        ``"plain"``: moved to plain images. ``"hidden"``: as the run had it, which reads images hidden under its key.

    Raises
    ------
    ConfigError, KeyMaterialError, StorageError, DataError, IntegrityError, FormatError
        As `ready_of`.
    PolicyError
        Moved to plain images, it would give away more than a model.
    """
    if domain not in {PLAIN, HIDDEN}:
        raise ConfigError(f"{domain[:40]!a} is no domain", where="domain", cure=f"'{PLAIN}' or '{HIDDEN}'")
    if _is_export(folder) or domain == HIDDEN:
        ready, _ = ready_of(folder, site)
        if domain == PLAIN and not ready.described.reads_plain:
            raise ConfigError("holds a model that reads hidden images", where=folder, cure=f"ask for domain='{HIDDEN}'")
        return ready.model
    found = model_of_run(folder, site)
    try:
        return plain_model(found.kept, found.keys)
    except PolicyError as error:
        cure = f"domain='{HIDDEN}' gives it as it is, for hidden images"
        raise PolicyError(error.problem, where=error.where, cure=cure) from None


def _is_export(folder: Path) -> bool:
    return (folder / EXPORT).is_file() and not (folder / MANIFEST).is_file()
