"""`medveil-sim pretrain`: weights for a run to begin with."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from medveil.cli import subcommand
from medveil.errors import EXIT_OK, ConfigError
from medveil.plain import tell, tell_json
from simulations.run_command import add_experiment, configured


def add_pretrain(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], *, report: Callable[[Path], Path]
) -> None:
    """Add `pretrain`; `report` writes the page of its run."""
    made = subcommand(
        commands,
        "pretrain",
        text="Pre-train a model on plain images in one place, with labels or without; again after it was cut off, it "
        "goes on.",
        example="medveil-sim pretrain brain-mri data.path=DIR train.recipe=pre-train --out mri.safetensors",
        device=True,
    )
    add_experiment(made, "YAML file, or a name (init --list); its 'pretrain' section says how")
    made.add_argument("--out", type=Path, metavar="CKPT", help="weights to write, .safetensors; the run beside them")
    made.add_argument("--licence", default="", metavar="TEXT", help="of the images, in a line for the card")
    made.add_argument("--json", action="store_true", help="print what was left as JSON")
    made.set_defaults(command=lambda arguments: _do_pretrain(arguments, report))


def _do_pretrain(arguments: argparse.Namespace, report: Callable[[Path], Path]) -> int:
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim pretrain", cure="see --help")
    config = configured(arguments)
    from simulations.pretraining import pretrain  # noqa: PLC0415 - a door opens fast

    try:
        made = pretrain(config, arguments.out, licence=arguments.licence, report=report)
    except KeyboardInterrupt:
        tell("go on with the same command", error=True)
        raise
    if arguments.json:
        named = {"weights": made.weights, "card": made.card, "run": made.run}
        tell_json({**{name: str(path) for name, path in named.items()}, "loss": made.loss})
    else:
        loss = "" if made.loss is None else f" (loss on validation images {made.loss:.4f})"
        tell(f"begin a run with: model.pretrained={made.weights}{loss}")
        tell(f"its card: {made.card}")
    return EXIT_OK
