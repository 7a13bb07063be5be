"""`medveil-sim pretrain`: weights for a run to begin with."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path

from medveil.cli import subcommand
from medveil.errors import EXIT_OK, ConfigError
from medveil.plain import tell, tell_block, tell_json
from simulations.dry_run import add_dry_run, scratch, tell_runs
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
    add_dry_run(made)
    made.add_argument("--json", action="store_true", help="print what was left as JSON")
    made.set_defaults(command=lambda arguments: _do_pretrain(arguments, report), goes_on=True)


def add_pays(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `pays`."""
    made = subcommand(
        commands,
        "pays",
        text="Train for some minutes, and from weights pre-trained for a share of them for the rest: what that gains.",
        example="medveil-sim pays pneumonia data.path=pneumoniamnist.npz train.minutes=60 --out PAYS",
        device=True,
    )
    add_experiment(made, "YAML file, or a name (init --list); its 'compare' section names the seeds")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for it; what finished in it is kept")
    words = (
        "masked-autoencoding or supervised; behind it an experiment whose images are pre-trained on (default: its own)"
    )
    made.add_argument("--trunk", action="append", metavar="WAY[:CONFIG]", help=words)
    made.add_argument(
        "--share", type=float, default=0.5, metavar="S", help="of the minutes, to pre-train (default: 0.5)"
    )
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings side by side (default: 1)")
    add_dry_run(made)
    made.add_argument("--json", action="store_true", help="print the table as JSON")
    made.set_defaults(command=_do_pays, goes_on=True)


def _do_pays(arguments: argparse.Namespace) -> int:
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim pays", cure="see --help")
    config = configured(arguments, with_other_recipes=True)
    from simulations.pays import pays, trainings, trunk_of  # noqa: PLC0415

    trunks = [trunk_of(each) for each in arguments.trunk or ["masked-autoencoding"]]
    if arguments.dry_run:
        with scratch() as folder:
            runs = trainings(config, folder, trunks=trunks, share=arguments.share)
            return tell_runs(runs, jobs=arguments.jobs, as_json=arguments.json)
    typed = shlex.join(["medveil-sim", *arguments.words])
    made = pays(config, arguments.out, trunks=trunks, share=arguments.share, jobs=arguments.jobs, command=typed)
    tell_block((made.table_json if arguments.json else made.text).read_text(encoding="utf-8"), end="")
    return made.exit_code


def _do_pretrain(arguments: argparse.Namespace, report: Callable[[Path], Path]) -> int:
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim pretrain", cure="see --help")
    config = configured(arguments)
    from simulations.pretraining import as_pretraining, pretrain  # noqa: PLC0415 - a door opens fast

    if arguments.dry_run:
        return tell_runs([(f"{config.name} pre-training", as_pretraining(config))], as_json=arguments.json)
    made = pretrain(config, arguments.out, licence=arguments.licence, report=report)
    if arguments.json:
        named = {"weights": made.weights, "card": made.card, "run": made.run}
        tell_json({**{name: str(path) for name, path in named.items()}, "loss": made.loss})
    else:
        loss = "" if made.loss is None else f" (loss on validation images {made.loss:.4f})"
        tell(f"begin a run with: model.pretrained={made.weights}{loss}")
        tell(f"its card: {made.card}")
    return EXIT_OK
