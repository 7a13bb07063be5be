"""`medveil-sim matrix`: what a model is worth and what attacks recover, policy by policy, scope by scope."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medveil import plain
from medveil.cli import subcommand
from medveil.completing import completing, names_of, settings_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_block, tell_json
from simulations.attacks.tradeoff import asked
from simulations.dry_run import add_dry_run
from simulations.run_command import add_experiment, configured, experiment_schema

if TYPE_CHECKING:
    from simulations.attacks.tradeoff.study import Study

_MOST_SEEDS = 100
_WHERE = "medveil-sim matrix"


def add_matrix(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `medveil-sim`."""
    made = subcommand(
        commands,
        "matrix",
        text="Put accuracy and what attacks on updates recover side by side: policies, scopes, layers of protection.",
        example="medveil-sim matrix pneumonia data.path=pneumoniamnist.npz --jobs 2 --out MATRIX",
        device=True,
    )
    add_experiment(made, "YAML file of the experiment, or a name: init --list")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the table; what is done in it is kept")
    policies = made.add_argument("--policies", metavar="A,B", help="as per-site.adapted.local (default: all)")
    completing(policies, names_of(_policies))
    made.add_argument("--scopes", metavar="A,B", help="of train.scope (default: full,last-2-blocks,head,lora-core)")
    made.add_argument("--layers", metavar="A,B", help="plain,secagg,epsilon-8,epsilon-3,epsilon-1 (default: all)")
    made.add_argument(
        "--views",
        metavar="A,B",
        default=asked.VIEWS,
        help="of deployment,diagnostic and deployment-blind,diagnostic-blind (default: the first two)",
    )
    attacks = made.add_argument("--attacks", metavar="A,B", help="on updates (default: all)")
    completing(attacks, names_of(_attacks))
    private = made.add_argument(
        "--private",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="settings of lines with a number, beside the others': noise asks for other rates, batches and rounds",
    )
    completing(private, settings_of(experiment_schema))
    made.add_argument("--seeds", default="0", metavar="N,N", help="seeds of the runs (default: 0)")
    made.add_argument(
        "--keys", type=int, default=asked.KEYS, metavar="N", help="keys of a measurement (default: 3, a trial)"
    )
    made.add_argument(
        "--images-per-key", type=int, default=asked.IMAGES, metavar="N", help="images under each (default: 24)"
    )
    made.add_argument("--full", action="store_true", help="attacks with all their effort, in place of a trial's")
    made.add_argument(
        "--minutes",
        type=float,
        default=asked.MINUTES,
        metavar="N",
        help=f"begin nothing after so many; the same command goes on (default: {asked.MINUTES:g})",
    )
    made.add_argument(
        "--cell-seconds",
        type=float,
        default=asked.CELL_SECONDS,
        metavar="N",
        help="a measurement takes no further key after so many (default: 180)",
    )
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="processes side by side (default: 1)")
    add_dry_run(made)
    made.add_argument("--json", action="store_true", help="print the table as JSON")
    made.add_argument("--helps", action="store_true", help=argparse.SUPPRESS)
    made.set_defaults(command=_do_matrix, goes_on=True)


def _policies() -> list[str]:
    from models.policy import POLICIES  # noqa: PLC0415

    return [f"{each.keys}.{each.init}.{each.train}" for each in POLICIES]


def _attacks() -> list[str]:
    from simulations.attacks.tradeoff.leakage import attackers  # noqa: PLC0415 - scipy and torch load here

    return [each.name for each in attackers()]


def _do_matrix(arguments: argparse.Namespace) -> int:
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where=_WHERE, cure=f"see '{_WHERE} --help'")
    asked.above_zero(jobs=arguments.jobs)
    folder: Path = arguments.out
    if arguments.dry_run:
        from simulations.attacks.tradeoff.planned import tell_planned_table  # noqa: PLC0415 - scipy and torch load here

        found = tell_planned_table(
            partial(_study, arguments), folder, minutes=arguments.minutes, jobs=arguments.jobs, aside=arguments.json
        )
        if arguments.json:
            tell_json(found)
        return EXIT_OK
    study = _study(arguments, folder)
    console = plain.stderr_console()
    if arguments.jobs > 1:
        import torch  # noqa: PLC0415

        # Processes that each take all cores would fight over them.
        torch.set_num_threads(_threads(arguments.jobs))
    said = partial(plain.say, console)
    if arguments.helps:
        # The command that it helps has the say.
        arguments.goes_on = False
        from simulations.attacks.tradeoff.study import work  # noqa: PLC0415

        # Of another process's table, which holds the folder and writes the page.
        work(study, folder, seconds=60 * arguments.minutes, said=said)
        return EXIT_OK
    made = asked.carried_out(study, folder, minutes=arguments.minutes, said=said, helped=_helped(arguments))
    return _told(made, as_json=arguments.json)


def _study(arguments: argparse.Namespace, folder: Path) -> Study:
    private = argparse.Namespace(**vars(arguments))
    private.overrides = [*arguments.overrides, *arguments.private]
    return asked.study_of(
        configured(arguments),
        folder,
        policies=arguments.policies,
        scopes=arguments.scopes,
        layers=arguments.layers,
        views=arguments.views,
        attacks=arguments.attacks,
        seeds=_seeds(arguments.seeds),
        keys=arguments.keys,
        images_per_key=arguments.images_per_key,
        cell_seconds=arguments.cell_seconds,
        full=arguments.full,
        private=configured(private) if arguments.private else None,
    )


def _seeds(text: str) -> list[int]:
    found = [each.strip() for each in text.split(",")]
    if len(found) > _MOST_SEEDS or not all(each.isascii() and each.isdigit() and len(each) < 10 for each in found):
        raise ConfigError("are no seeds", where="--seeds", cure="whole numbers by commas: 0,1,2")
    return sorted({int(each) for each in found})


@contextlib.contextmanager
def _helped(arguments: argparse.Namespace) -> Iterator[None]:
    """Have further processes share the work; they end with this one, and before the table is written."""
    from medveil.tied import tied  # noqa: PLC0415

    command = [sys.executable, "-m", "simulations.cli", *arguments.words, "--helps"]
    environment = {"OMP_NUM_THREADS": str(_threads(arguments.jobs)), **os.environ}
    with contextlib.ExitStack() as stack:
        others = [
            stack.enter_context(tied(command, env=environment, stdout=subprocess.DEVNULL))
            for _ in range(arguments.jobs - 1)
        ]
        yield
        for each in others:
            each.wait()


def _threads(jobs: int) -> int:
    return max(1, (os.cpu_count() or 1) // jobs)


def _told(made: asked.Tabled, *, as_json: bool) -> int:
    from simulations.attacks.tradeoff import export  # noqa: PLC0415

    if as_json:
        tell_json(export.document(made.table))
    else:
        tell_block(export.as_markdown(made.table), end="")
        tell(f"page: {made.page}")
    left = made.table.missing
    if left:
        tell(f"{left} runs and measurements are missing: the same command goes on", error=True)
    return EXIT_PARTIAL if left else EXIT_OK
