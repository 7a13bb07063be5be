"""Models of runs and exports asked for from Python: see `simulations.api`, which has these names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from medveil.called import typed
from medveil.log import logger

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_log = logger("api")


class Answers(NamedTuple):
    """What a model said of images. It is research software, and no medical device.

    Attributes
    ----------
    ids : list of str
        The images, as their paths below what was asked about.
    classes : tuple of str
        Class names, in the order of the columns.
    probabilities : ndarray
        float64 (n, K), calibrated, rows summing to 1.
    unread : dict
        Why a file could not be read, by its path.
    warning : str
        That images are prepared in another way now than when the model learned; empty where they are not.
    """

    ids: list[str]
    classes: tuple[str, ...]
    probabilities: npt.NDArray[np.float64]
    unread: dict[str, str]
    warning: str = ""


@typed
def load_model(folder: str | Path, *, site: str | None = None, domain: str = "plain") -> VisionTransformer:
    """The model of a run folder or of an export, as a plain timm model.

    Parameters
    ----------
    folder
        A run folder, whose images must be where they were, or a folder that an export left, from anyone: nothing in it
        is run or unpickled.
    site
        Whose model of a run; None is the first site's.
    domain
        ``"plain"``: moved to plain images. ``"hidden"``: as the run had it, which reads images hidden under its key.

    Returns
    -------
    VisionTransformer
        timm's own class, float32, on the CPU, in evaluation mode. It takes (n, C, H, W) pixels from -1 to 1, which are
        ``(2 v - 255) / 255`` of 8-bit pixels v, as `models.api.normalise` makes them.

    Raises
    ------
    ConfigError
        It is neither, came through no round, has no such site, or learned pixels and no classes.
    PolicyError
        Moved to plain images, the model would give away more than a model.
    KeyMaterialError
        It is an export that is sealed under a site's key.
    StorageError, DataError, IntegrityError, FormatError
        A file is missing, damaged or changed.
    """
    from simulations.asked_models import timm_model  # noqa: PLC0415 - scipy and more load here

    return timm_model(Path(folder), site=site, domain=domain)


@typed
def export(run: str | Path, out: str | Path, *, site: str | None = None, onnx: bool = False) -> Path:
    """Write a site's model of a run into a folder, for plain images, with its cards; timm and `load_model` read it.

    Of a run that learned pixels it is stem and trunk, which another run begins with.

    Parameters
    ----------
    run, out
        The run folder, and a folder that is new or empty.
    site
        Whose model; None is the first site's.
    onnx
        Whether to write ONNX as well (the extra ``medveil[onnx]``).

    Raises
    ------
    ConfigError, PolicyError, StorageError, DataError
        As for `load_model`; or the folder is not empty.
    """
    from simulations.asked_models import export as exported  # noqa: PLC0415 - scipy and more load here

    made = exported(Path(run), Path(out), site=site, onnx=onnx)
    if made.otherwise:
        _log.warning("%s: %s", made.folder, made.otherwise)
    return made.folder


@typed
def predict(
    folder: str | Path,
    images: str | Path,
    *,
    site: str | None = None,
    views: int | None = None,
    device: str = "auto",
) -> Answers:
    """Ask the model of a run, or of an export, about a file of images or all below a folder.

    Parameters
    ----------
    folder, site
        As for `load_model`. Plain images are hidden in memory on the way to a model that reads hidden ones.
    images
        The images.
    views
        Views of each image whose probabilities are averaged; None: as many as the run measured the model with.
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``.

    Raises
    ------
    ConfigError, KeyMaterialError, StorageError, IntegrityError, FormatError
        As for `load_model`.
    DataError
        There is nothing there.
    """
    from fl_client.export.asking import asked  # noqa: PLC0415 - scipy and more load here
    from fl_client.workbench import pick_device  # noqa: PLC0415
    from simulations.asked_models import ready_of  # noqa: PLC0415

    ready, _ = ready_of(Path(folder), site)
    found = asked(ready, Path(images), device=pick_device(device), views=views)
    unread = {each.path: each.reason for each in [*found.skipped, *found.no_images]}
    return Answers(found.ids, ready.described.classes, found.probabilities, unread, ready.described.otherwise)
