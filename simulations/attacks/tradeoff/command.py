"""`medveil-sim matrix`: what a model is worth and what attacks recover, policy by policy, scope by scope."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medveil import plain
from medveil.cli import subcommand
from medveil.completing import completing, names_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_block, tell_json
from simulations.run_command import add_experiment, configured

if TYPE_CHECKING:
    from simulations.attacks.situations.update_attack import UpdateAttack
    from simulations.attacks.study.result import Result
    from simulations.attacks.tradeoff.study import Study
    from simulations.config import ExperimentConfig

_LOCK = ".matrix"
_MINUTES = 150.0
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
        default="deployment,diagnostic",
        help="of deployment,diagnostic and deployment-blind,diagnostic-blind (default: the first two)",
    )
    attacks = made.add_argument("--attacks", metavar="A,B", help="on updates (default: all)")
    completing(attacks, names_of(_attacks))
    made.add_argument("--seeds", default="0", metavar="N,N", help="seeds of the runs (default: 0)")
    made.add_argument("--keys", type=int, default=3, metavar="N", help="keys of a measurement (default: 3, a trial)")
    made.add_argument("--images-per-key", type=int, default=24, metavar="N", help="images under each (default: 24)")
    made.add_argument("--full", action="store_true", help="attacks with all their effort, in place of a trial's")
    made.add_argument(
        "--minutes",
        type=float,
        default=_MINUTES,
        metavar="N",
        help=f"begin nothing after so many; the same command goes on (default: {_MINUTES:g})",
    )
    made.add_argument(
        "--cell-seconds",
        type=float,
        default=180.0,
        metavar="N",
        help="a measurement takes no further key after so many (default: 180)",
    )
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="processes side by side (default: 1)")
    made.add_argument("--json", action="store_true", help="print the table as JSON")
    made.add_argument("--helps", action="store_true", help=argparse.SUPPRESS)
    made.set_defaults(command=_do_matrix)


def _policies() -> list[str]:
    from models.policy import POLICIES  # noqa: PLC0415

    return [f"{each.keys}.{each.init}.{each.train}" for each in POLICIES]


def _attacks() -> list[str]:
    from simulations.attacks.tradeoff.leakage import attackers  # noqa: PLC0415 - scipy and torch load here

    return [each.name for each in attackers()]


def _do_matrix(arguments: argparse.Namespace) -> int:
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where=_WHERE, cure=f"see '{_WHERE} --help'")
    _check(arguments)
    config = configured(arguments)
    folder: Path = arguments.out
    if config.data.source == "phantoms" and config.data.path is None:
        config.data.path = str(folder.resolve() / "phantoms")
    study = _study(config, arguments)
    console = plain.stderr_console()
    from simulations.attacks.tradeoff.study import missing, refuse_other, work  # noqa: PLC0415

    if arguments.jobs > 1:
        import torch  # noqa: PLC0415

        # Processes that each take all cores would fight over them.
        torch.set_num_threads(_threads(arguments.jobs))
    seconds = 60 * arguments.minutes
    if arguments.helps:
        # Of another process's table, which holds the folder and writes the page.
        work(study, folder, seconds=seconds, said=lambda line: plain.say(console, line))
        return EXIT_OK
    from medveil.claims import claimed  # noqa: PLC0415
    from simulations.folders import LEFT_S  # noqa: PLC0415

    with claimed(folder / _LOCK, seconds=LEFT_S, cure="wait for its end, or end it: kill {pid}; or name another --out"):
        refuse_other(study, folder)
        left, every = len(missing(study, folder)), len(study.jobs())
        plain.say(console, f"{every - left} of {every} done; nothing is begun after {arguments.minutes:g} minutes")
        if left and arguments.minutes:
            with _helped(arguments):
                work(study, folder, seconds=seconds, said=lambda line: plain.say(console, line))
        return _written(study, folder, arguments)


def _check(arguments: argparse.Namespace) -> None:
    for name, value, right in (
        ("--minutes", arguments.minutes, arguments.minutes >= 0),
        ("--cell-seconds", arguments.cell_seconds, arguments.cell_seconds > 0),
        ("--jobs", arguments.jobs, arguments.jobs >= 1),
        ("--keys", arguments.keys, arguments.keys >= 1),
        ("--images-per-key", arguments.images_per_key, arguments.images_per_key >= 1),
    ):
        if not right:
            raise ConfigError(f"is {value:g}", where=name, cure="a number above 0")


def _study(config: ExperimentConfig, arguments: argparse.Namespace) -> Study:
    from simulations.attacks.tradeoff import places  # noqa: PLC0415
    from simulations.attacks.tradeoff.leakage import Effort  # noqa: PLC0415
    from simulations.attacks.tradeoff.study import Study  # noqa: PLC0415
    from simulations.config import refuse_pixels  # noqa: PLC0415

    refuse_pixels(config, "matrix")
    for field, wanted, found in (
        ("federation", "federated", config.federation),
        ("engine", "inprocess", config.engine),
    ):
        if found != wanted:
            raise ConfigError(f"is {found}, which has no such table", where=field, cure=wanted)
    return Study(
        config=config,
        places=places.places(
            places.chosen_policies(arguments.policies),
            places.chosen_scopes(arguments.scopes, config),
            places.chosen_layers(arguments.layers),
        ),
        views=places.chosen_views(arguments.views),
        attacks=_chosen(arguments.attacks),
        seeds=_seeds(arguments.seeds),
        effort=Effort(
            keys=arguments.keys,
            images=arguments.images_per_key,
            seconds=arguments.cell_seconds,
            quick=not arguments.full,
        ),
    )


def _chosen(text: str | None) -> list[UpdateAttack]:
    from simulations.attacks.tradeoff.leakage import attackers  # noqa: PLC0415

    known = {each.name: each for each in attackers()}
    if text is None:
        return list(known.values())
    names = [each.strip() for each in text.split(",")]
    wrong = next((each for each in names if each not in known), None)
    if wrong is not None:
        cure = f"of {', '.join(known)}"
        raise ConfigError(f"{wrong[:60]!a} is no attack on updates", where="--attacks", cure=cure)
    return [each for name, each in known.items() if name in names]


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


def _written(study: Study, folder: Path, arguments: argparse.Namespace) -> int:
    from simulations.attacks.tradeoff import export  # noqa: PLC0415
    from simulations.attacks.tradeoff.page import write_page  # noqa: PLC0415 - matplotlib is slow to import
    from simulations.attacks.tradeoff.study import missing  # noqa: PLC0415
    from simulations.attacks.tradeoff.table import read_table  # noqa: PLC0415

    left = len(missing(study, folder))
    table = read_table(study, folder, missing=left)
    export.write(folder, table)
    page = write_page(folder, table, spent=_spent(study, arguments, table.results))
    if arguments.json:
        tell_json(export.document(table))
    else:
        tell_block(export.as_markdown(table), end="")
        tell(f"page: {page}")
    if left:
        tell(f"{left} runs and measurements are missing: the same command goes on", error=True)
    return EXIT_PARTIAL if left else EXIT_OK


def _spent(study: Study, arguments: argparse.Namespace, results: list[Result]) -> dict[str, str]:
    seconds = sum(each.seconds for each in results)
    effort = study.effort
    how = "with the effort of a trial" if effort.quick else "with all their effort"
    return {
        "budget": f"{arguments.minutes:g} minutes a call, {effort.seconds:g} s a measurement before its last key",
        "measurements": f"{len(results)} with figures, {seconds / 60:.1f} minutes one after another",
        "attacks": f"{how}; {effort.keys} keys, {effort.images} images under each",
        "runs": f"{study.config.rounds} rounds, {study.config.sites} sites, seeds {', '.join(map(str, study.seeds))}",
    }
