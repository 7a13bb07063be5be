"""`medveil-sim sweep` and `medveil-sim search`: what is typed, and what a terminal is told."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil.cli import subcommand
from medveil.errors import ConfigError
from medveil.plain import tell, tell_block
from simulations.dry_run import add_dry_run, scratch, tell_planned, tell_runs
from simulations.results_command import add_results
from simulations.run_command import add_experiment

if TYPE_CHECKING:
    from simulations.config import ExperimentConfig


def add_sweep(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `sweep`."""
    made = subcommand(
        commands,
        "sweep",
        text="Run an experiment under many settings, all combinations or some drawn, and put the points side by side.",
        example="medveil-sim sweep pneumonia data.path=pneumoniamnist.npz train.lr=1e-3,3e-3 "
        "keys.policy=none,per-site compare.seeds='[0, 1, 2]' --out SWEEP",
        device=True,
    )
    add_experiment(
        made,
        "YAML file, or a name (init --list); its 'compare' section names the seeds. KEY=A,B runs both; with --random "
        "also KEY=uniform(A,B), log(A,B), int(A,B)",
    )
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for it; finished runs in it are kept")
    made.add_argument("--random", type=int, metavar="N", help="draw N points instead of running all combinations")
    made.add_argument("--leave-out", action="store_true", help="leave out combinations that cannot be, and say why")
    add_results(made)
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="runs side by side (default: 1)")
    add_dry_run(made)
    made.add_argument("--json", action="store_true", help="print the points and runs as JSON")
    made.set_defaults(command=_do_sweep, goes_on=True)


def add_search(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `search`."""
    made = subcommand(
        commands,
        "search",
        text="Look for settings that do best on validation images, trial after trial; test images choose nothing.",
        example="medveil-sim search pneumonia data.path=pneumoniamnist.npz 'train.lr=log(1e-4,1e-2)' "
        "train.optimizer=adamw,muon --trials 30 --out SEARCH",
        device=True,
    )
    add_experiment(
        made,
        "YAML file, or a name (init --list); its 'compare' section names the seeds. KEY=A,B are values, "
        "KEY=uniform(A,B), log(A,B), int(A,B) ranges",
    )
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for it; trials in it are kept")
    made.add_argument("--trials", type=int, default=20, metavar="N", help="trials in all (default: 20)")
    made.add_argument(
        "--measure", default="accuracy", metavar="NAME", help="of validation: accuracy, auroc, loss (default: accuracy)"
    )
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="seeds of a trial side by side (default: 1)")
    add_dry_run(made)
    made.add_argument("--json", action="store_true", help="print the trials as JSON")
    made.set_defaults(command=_do_search, goes_on=True)


def _do_search(arguments: argparse.Namespace) -> int:
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim search", cure="see --help")
    from simulations.points import axes_in, label_of, said  # noqa: PLC0415 - a door opens fast

    axes, fixed = axes_in(arguments.overrides)
    over = Over(arguments.config, fixed, arguments.device)
    from simulations.search import first_point, search  # noqa: PLC0415

    if arguments.dry_run:
        with scratch() as folder:
            point = first_point(over.made, axes, folder)
            runs = arguments.trials * len(point.experiment.compare.seeds)
            would = f"would try {arguments.trials} points; each is taken to cost what {point.label} does"
            tell(would, error=arguments.json)
            asked = {"jobs": arguments.jobs, "named": False, "as_json": arguments.json}
            return tell_runs([(point.label, point.experiment)] * runs, **asked)
    made = search(
        over.made,
        axes,
        arguments.out,
        trials=arguments.trials,
        measure=arguments.measure,
        jobs=arguments.jobs,
        command=shlex.join(["medveil-sim", *arguments.words]),
        again=over.again,
    )
    if arguments.json:
        tell_block((made.folder / "search.json").read_text(encoding="utf-8"), end="")
        return made.exit_code
    best = made.best
    settings = label_of({key: best[key] for key in axes})
    tell(
        f"best of {len(made.trials())} trials: {settings}: "
        f"validation {arguments.measure} {said(best[arguments.measure])}"
    )
    tell(f"test it, once: {best['command']}")
    tell(f"report: {made.report}")
    return made.exit_code


def _do_sweep(arguments: argparse.Namespace) -> int:
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim sweep", cure="see --help")
    from simulations.points import axes_in  # noqa: PLC0415 - a door opens fast

    axes, fixed = axes_in(arguments.overrides)
    over = Over(arguments.config, fixed, arguments.device)
    from simulations.sweep import planned, sweep  # noqa: PLC0415

    if arguments.dry_run:
        named = {"random": arguments.random, "leave_out": arguments.leave_out}
        return tell_planned(
            lambda folder: planned(over.made, axes, folder, **named),
            arguments.out,
            jobs=arguments.jobs,
            as_json=arguments.json,
        )
    made = sweep(
        over.made,
        axes,
        arguments.out,
        random=arguments.random,
        leave_out=arguments.leave_out,
        results=arguments.results,
        jobs=arguments.jobs,
        command=shlex.join(["medveil-sim", *arguments.words]),
        again=over.again,
    )
    if arguments.json:
        tell_block((made.folder / "sweep.json").read_text(encoding="utf-8"), end="")
    else:
        tell_block(made.text.read_text(encoding="utf-8"), end="")
        tell(f"report: {made.report}")
    return made.exit_code


class Over:
    """Points as a command line sets them: each is what `medveil-sim run` makes of the same words.

    Parameters
    ----------
    named
        The experiment.
    fixed
        Settings that all points share.
    device
        As ``--device``, or None.
    """

    def __init__(self, named: str, fixed: Sequence[str], device: str | None) -> None:
        self._named = named
        self._fixed = [*fixed, *([f"device={device}"] if device else [])]

    def made(self, values: Mapping[str, Any]) -> ExperimentConfig:
        """The experiment of a point (ConfigError where there is none)."""
        from simulations.experiments import load_experiment  # noqa: PLC0415 - a door opens fast

        found = load_experiment(self._named, [*self._fixed, *_typed(values)])
        # It has had its say: what is written down of a run says everything in its own place.
        found.without_recipe = {}
        return found

    def again(self, values: Mapping[str, Any], experiment: ExperimentConfig) -> list[str]:
        """The words that ask for a run of it again."""
        words = [self._named, *self._fixed, *_typed(values), f"seed={experiment.seed}"]
        drawn = experiment.data.path if experiment.data.source == "phantoms" else None
        return words if drawn is None or self._says("data.path") else [*words, f"data.path={drawn}"]

    def _says(self, key: str) -> bool:
        return any(each.partition("=")[0] == key for each in self._fixed)


def _typed(values: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items()]
