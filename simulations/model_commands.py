"""Using the models of simulated runs: exporting them, and asking them about images."""

from __future__ import annotations

import argparse
from pathlib import Path

from medveil.bounded import word
from medveil.cli import add_json, add_page, add_views, subcommand
from medveil.errors import EXIT_OK, ConfigError
from medveil.plain import tell, tell_result
from models.pretrained_header import EXPORT

PROG = "medveil-sim"


def add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `export`, `predict` and `convert-checkpoint`."""
    _add_export(commands)
    _add_predict(commands)
    _add_convert(commands)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "export",
        text="Write a site's model of a run with its configuration and cards; it then reads plain images, in timm too.",
        example=f"{PROG} export RUN model",
    )
    made.add_argument("run", type=Path, metavar="RUN", help="run folder")
    made.add_argument(
        "out", type=Path, nargs="?", metavar="DIR", help="folder for it, new or empty (default: RUN/model)"
    )
    _add_site(made)
    made.add_argument("--onnx", action="store_true", help="also write ONNX (needs the extra: medveil[onnx])")
    add_json(made)
    made.set_defaults(command=_do_export)


def _do_export(arguments: argparse.Namespace) -> int:
    from simulations.folders import read_manifest  # noqa: PLC0415 - torch loads below

    read_manifest(arguments.run)
    from simulations.asked_models import export  # noqa: PLC0415 - a door opens fast

    out = arguments.run / "model" if arguments.out is None else arguments.out
    made = export(arguments.run, out, site=arguments.site, onnx=arguments.onnx)
    found = {"folder": str(out), "of": made.of, "trunk_alone": made.pixels, "warning": made.otherwise or None}
    if made.otherwise:
        tell(f"warning: {made.otherwise}", error=True)
    lines = [
        f"{out} holds the model of {made.of}, for plain images",
        "MODEL_CARD.md has the lines that load it in timm, what it is worth and what it is not: no medical device",
    ]
    if made.pixels:
        what = f"{out} holds stem and trunk of {made.of}, for plain images"
        lines = [f"{what}: begin another run with model.pretrained={out}"]
    tell_result(found, *lines, as_json=arguments.json)
    return EXIT_OK


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "predict",
        text="Ask a model about images; one row an image. Not a medical device.",
        example=f"{PROG} predict RUN new-images --out predictions.csv",
        device=True,
    )
    made.add_argument("model", type=Path, metavar="RUN", help="run folder, or the folder of an export")
    made.add_argument("images", type=Path, metavar="IMAGES", help="a file, or a folder with all below it")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="CSV of calibrated class probabilities")
    add_page(made)
    add_views(made)
    _add_site(made)
    add_json(made)
    made.set_defaults(command=_do_predict)


def _add_site(made: argparse.ArgumentParser) -> None:
    made.add_argument("--site", metavar="NAME", help="whose model, as the run names its sites (default: site-1)")


def _do_predict(arguments: argparse.Namespace) -> int:
    if not arguments.images.exists():
        raise ConfigError("no such file or folder", where=arguments.images, cure="name images to ask about")
    if not (arguments.model / EXPORT).is_file():
        from simulations.folders import read_manifest  # noqa: PLC0415 - torch loads below

        read_manifest(arguments.model)

    from fl_client.export.asking import ask  # noqa: PLC0415
    from fl_client.workbench import pick_device  # noqa: PLC0415
    from simulations.asked_models import ready_of  # noqa: PLC0415

    device = pick_device(arguments.device or "auto")
    ready, named = ready_of(arguments.model, arguments.site)
    asked = {"views": arguments.views, "level": arguments.view_level, "page": arguments.page}
    return ask(ready, arguments.images, arguments.out, device=device, named=named, as_json=arguments.json, **asked)


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "convert-checkpoint",
        text="Make safetensors of a checkpoint of PyTorch's, offline; everything else refuses pickles.",
        example=f"{PROG} convert-checkpoint weights.pth --out weights.safetensors",
    )
    made.add_argument("source", type=Path, metavar="IN", help="a .pth, .pt, .bin or .ckpt; read as tables of numbers")
    made.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .safetensors; its card (.card.json) comes beside it"
    )
    made.add_argument(
        "--part", metavar="NAME", help="whose weights, where it holds several, such as student (default: the usual one)"
    )
    add_json(made)
    made.set_defaults(command=_do_convert)


def _do_convert(arguments: argparse.Namespace) -> int:
    from simulations.convert import card_of, convert  # noqa: PLC0415 - torch loads here

    made = convert(arguments.source, arguments.out, part=arguments.part)
    of = f" of '{word(made.part)}'" if made.part else ""
    left = f"; left out: {', '.join(word(each) for each in made.others[:4])}" if made.others else ""
    found = {"file": str(arguments.out), "card": str(card_of(arguments.out)), "part": made.part}
    tell_result(
        {**found, "tensors": made.tensors, "numbers": made.numbers, "left_out": list(made.others)},
        f"{arguments.out} holds {made.tensors} tensors{of}, {made.numbers:,} numbers{left}",
        f"model.pretrained={arguments.out} takes them; its card names the file they came from by its SHA-256",
        as_json=arguments.json,
    )
    return EXIT_OK
