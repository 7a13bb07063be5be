"""Using the models of runs: listing, exporting, and asking them about images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fl_client.commands.common import PROG, Commands, Passphrases, confirm, site_of
from medveil.cli import add_json, add_page, add_views, subcommand
from medveil.errors import EXIT_OK, ConfigError
from medveil.plain import tell, tell_block, tell_json, tell_result
from medveil.times import moment

if TYPE_CHECKING:
    from fl_client.deployment.own_files import OwnFiles
    from fl_client.deployment.own_keys import OwnKeys
    from fl_client.export.kept import KeptModel
    from fl_client.export.ready import Ready
    from fl_client.reports.writing import Asking


def add_export(commands: Commands) -> argparse.ArgumentParser:
    """Add `export`."""
    made = subcommand(
        commands,
        "export",
        text="Write the model of a run with its configuration and cards; it then reads plain images.",
        example=f"{PROG} export model",
    )
    made.add_argument("out", type=Path, metavar="DIR", help="folder for it, new or empty")
    _add_run(made)
    made.add_argument("--onnx", action="store_true", help="also write ONNX (needs the extra: medveil[onnx])")
    made.add_argument("--monai", action="store_true", help="also write a MONAI bundle, the folder 'monai' of DIR")
    made.add_argument(
        "--hidden",
        action="store_true",
        help="as it is, for hidden images: key-bearing, and sealed under this site's key",
    )
    add_json(made)
    made.set_defaults(command=_do_export)
    return made


def _do_export(arguments: argparse.Namespace) -> int:
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.export.asking import warn_of_preparation  # noqa: PLC0415
    from fl_client.export.write import export_hidden, export_plain  # noqa: PLC0415

    if arguments.hidden and (arguments.onnx or arguments.monai):
        option = "--onnx" if arguments.onnx else "--monai"
        raise ConfigError(f"{option} with --hidden", where=f"{PROG} export", cure="a key-bearing model is only sealed")
    files = site_of(arguments)
    kept, keys = _opened(files, Passphrases(read_passphrase), arguments.run)
    _refuse_undisclosed(files, kept)
    if arguments.hidden:
        export_hidden(kept, keys, arguments.out)
        how = "sealed; KEY-BEARING"
    else:
        export_plain(kept, keys, arguments.out, onnx=arguments.onnx, bundle=arguments.monai)
        how = "for plain images"
    warn_of_preparation(kept)
    found = {"folder": str(arguments.out), "run": kept.run.run, "name": kept.run.name, "round": kept.facts["round"]}
    tell_result(
        {**found, "key_bearing": arguments.hidden},
        f"{arguments.out} holds the model of round {kept.facts['round']} of {kept.run.name}, {how}",
        "MODEL_CARD.md says what it is worth and what it is not: not a medical device",
        as_json=arguments.json,
    )
    return EXIT_OK


def _refuse_undisclosed(files: OwnFiles, kept: KeptModel) -> None:
    """Refuse to export a model that this site has not disclosed, where its limits say so; what it disclosed is told."""
    from fl_client.disclosure.required import is_required, require  # noqa: PLC0415

    if not is_required(files.config.limits):
        return
    from fl_client.deployment.roster import own_identity  # noqa: PLC0415
    from fl_client.disclosure.subject import model_digest, settings_digest  # noqa: PLC0415

    settings, model = settings_digest(kept.run), model_digest(kept)
    found = require(files, own_identity(files), settings=settings, run=kept.run.run, model=model)
    if found is not None:
        tell(f"disclosed {moment(found.made)}: {found.said}", error=True)


def add_predict(commands: Commands) -> argparse.ArgumentParser:
    """Add `predict`."""
    made = subcommand(
        commands,
        "predict",
        text="Ask the model of a run about plain or hidden images; one row an image. Not a medical device.",
        example=f"{PROG} predict /dicom/new --out predictions.csv",
    )
    made.add_argument("images", type=Path, metavar="IMAGES", help="a file, or a folder with all below it")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="CSV of calibrated class probabilities")
    made.add_argument(
        "--dicom-sr",
        type=Path,
        metavar="DIR",
        help="also write DICOM Structured Reports to this new folder (needs --codes and the extra: medveil[sr])",
    )
    made.add_argument("--codes", type=Path, metavar="FILE", help="YAML of the classes' coded concepts, for --dicom-sr")
    made.add_argument("--sr-per", choices=("image", "series"), help="one report an image (default), or one a series")
    made.add_argument(
        "--stow",
        type=Path,
        metavar="FILE",
        help="also send the reports to the DICOMweb server of this file (needs the extra: medveil[dicomweb])",
    )
    add_page(made)
    add_views(made)
    chosen = made.add_mutually_exclusive_group()
    _add_run(chosen)
    chosen.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="an exported model instead: any site's plain one, or this site's hidden",
    )
    add_json(made)
    made.set_defaults(command=_do_predict)
    return made


def _do_predict(arguments: argparse.Namespace) -> int:
    from fl_client.export.asking import ask  # noqa: PLC0415
    from fl_client.workbench import pick_device  # noqa: PLC0415

    reports = _asking(arguments)
    files = site_of(arguments)
    ready, model = _ready(files, arguments)
    return ask(
        ready,
        arguments.images,
        arguments.out,
        device=pick_device(files.config.device),
        named=model,
        views=arguments.views,
        level=arguments.view_level,
        reports=reports,
        as_json=arguments.json,
        page=arguments.page,
    )


def _asking(arguments: argparse.Namespace) -> Asking | None:
    """What reports are asked for (ConfigError where options stand alone that need each other)."""
    from fl_client.reports.writing import IMAGE, Asking  # noqa: PLC0415

    where = f"{PROG} predict"
    if arguments.dicom_sr is None:
        for option, given in (
            ("--codes", arguments.codes),
            ("--sr-per", arguments.sr_per),
            ("--stow", arguments.stow),
        ):
            if given is not None:
                raise ConfigError(f"{option} without --dicom-sr", where=where, cure="name the folder of the reports")
        return None
    if arguments.codes is None:
        raise ConfigError("--dicom-sr without --codes", where=where, cure="name a file of the classes' coded concepts")
    if arguments.stow is not None:
        from fl_client.commands.pacs import refuse_without  # noqa: PLC0415

        refuse_without("--stow")
    return Asking(arguments.dicom_sr, arguments.codes, arguments.sr_per or IMAGE, arguments.stow)


def _ready(files: OwnFiles, arguments: argparse.Namespace) -> tuple[Ready, str]:
    """The model that is asked for, and its name."""
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.deployment.own_keys import open_keys  # noqa: PLC0415
    from fl_client.export.held import MODELS, find_kept  # noqa: PLC0415
    from fl_client.export.kept import open_kept  # noqa: PLC0415
    from fl_client.export.ready import LazyKeys, from_folder, from_kept  # noqa: PLC0415

    keys = LazyKeys(lambda: open_keys(files, Passphrases(read_passphrase), serving=False))
    if arguments.model is not None:
        ready = from_folder(arguments.model, keys)
        beside = f" in {arguments.model}"
    else:
        path = find_kept(files.own / MODELS, arguments.run)
        ready, beside = from_kept(open_kept(path, keys().own), keys), ""
    return ready, f"the model of round {ready.described.round} of {ready.described.name}{beside}"


def add_models(commands: Commands) -> argparse.ArgumentParser:
    """Add `models`."""
    made = subcommand(
        commands,
        "models",
        text="List the models this site kept of its runs, or remove one; nothing else ever removes them.",
        example=f"{PROG} models --remove 0f2c7cf0",
    )
    made.add_argument("--remove", metavar="RUN", help="first characters of the run whose model is to go, for good")
    made.add_argument("--yes", action="store_true", help="do not ask before removing")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.set_defaults(command=_do_models)
    return made


def _do_models(arguments: argparse.Namespace) -> int:
    from fl_client.export.held import MODELS, find_one, held, megabytes, remove, said  # noqa: PLC0415
    from medveil.tables import plain_table  # noqa: PLC0415

    files = site_of(arguments)
    folder = files.own / MODELS
    if arguments.remove is not None:
        model = find_one(folder, arguments.remove, option="--remove")
        named = f"the model of run {model.run}, kept {moment(model.kept)}, {megabytes(model.size)}"
        if not arguments.yes:
            confirm(f"remove {named}, for good?", where=f"{PROG} models --remove")
        # First what is to be done, then doing it: a removal that cannot be written down does not happen.
        files.audit.append("model-removed", run=model.run)
        remove(model)
        gone = {"removed": [model.run], "bytes": model.size}
        tell_result(gone, f"removed: {named}", as_json=arguments.json)
        return EXIT_OK
    models = [each.plain() for each in held(folder)]
    if arguments.json:
        tell_json(models)
        return EXIT_OK
    if models:
        rows = [{"run": each["run"], "kept": each["kept"], "size": megabytes(each["bytes"])} for each in models]
        tell_block(plain_table(rows))
    tell(said(models))
    return EXIT_OK


def _add_run(made: argparse._ActionsContainer) -> None:
    made.add_argument("--run", metavar="RUN", help="first characters of the run's identity (default: the newest kept)")


def _opened(files: OwnFiles, passphrases: Passphrases, run: str | None) -> tuple[KeptModel, OwnKeys]:
    from fl_client.deployment.own_keys import open_keys  # noqa: PLC0415
    from fl_client.export.held import MODELS, find_kept  # noqa: PLC0415
    from fl_client.export.kept import open_kept  # noqa: PLC0415

    path = find_kept(files.own / MODELS, run)
    keys = open_keys(files, passphrases, serving=False)
    return open_kept(path, keys.own), keys
