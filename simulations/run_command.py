"""`medveil-sim run`: one experiment, begun or taken up again, and what a terminal is told of it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil.cli import subcommand
from medveil.completing import completing, settings_of
from medveil.counting import STATISTICS
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_json, tell_lines, tell_result
from medveil.pretraining import MASKED, PRETRAINED
from simulations.dry_run import add_dry_run, tell_runs

if TYPE_CHECKING:
    from simulations.config import ExperimentConfig
    from simulations.run import Finished

_MOST_DIGITS = 6


def add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser], *, report: Callable[[Path], Path]) -> None:
    """Add `run`; `report` writes a run's page."""
    made = subcommand(
        commands,
        "run",
        text="Run one experiment, or go on with an interrupted one.",
        example="medveil-sim run brain-mri data.path=images/ rounds=10 --out RUN",
        device=True,
    )
    add_experiment(made, "YAML file of the experiment, or a name: init --list")
    made.add_argument("--out", type=Path, metavar="RUN", help="run folder, new or empty")
    made.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run; rounds=N gives it more")
    made.add_argument("--replace", action="store_true", help="remove an earlier run at --out first")
    made.add_argument("--engine", choices=("inprocess", "flower"), help="same as engine=...")
    made.add_argument("--json", action="store_true", help="print the summary as JSON")
    add_dry_run(made)
    made.add_argument("--shared", type=Path, help=argparse.SUPPRESS)
    made.set_defaults(command=lambda arguments: _do_run(arguments, report))


def add_experiment(made: argparse.ArgumentParser, text: str) -> None:
    """Let a command be told its experiment, with what a shell may complete it to."""
    from simulations.confs import complete_conf  # noqa: PLC0415

    completing(made.add_argument("config", nargs="?", metavar="CONFIG", help=text), complete_conf)
    settings = made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that replace the file's")
    completing(settings, settings_of(experiment_schema))


def experiment_schema() -> type:
    """The class of an experiment's settings, loaded where it is asked for."""
    from simulations.config import ExperimentConfig  # noqa: PLC0415

    return ExperimentConfig


def _do_run(arguments: argparse.Namespace, report: Callable[[Path], Path]) -> int:
    if arguments.dry_run:
        return _told_before(arguments)
    if arguments.resume is not None:
        rounds = _rounds_beside_resume(arguments)
        from simulations.run import resume_experiment  # noqa: PLC0415 - a door opens fast: torch only where it is used

        with _said_how_to_go_on(arguments.resume):
            return _told(
                resume_experiment(arguments.resume, rounds=rounds, report=report, shared=arguments.shared), arguments
            )
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim run", cure="see 'medveil-sim run --help'")
    from simulations.folders import check_free  # noqa: PLC0415

    config = configured(arguments)
    check_free(arguments.out, replace=arguments.replace)
    from simulations.run import run_experiment  # noqa: PLC0415

    with _said_how_to_go_on(arguments.out):
        done = run_experiment(config, arguments.out, replace=arguments.replace, report=report, shared=arguments.shared)
        return _told(done, arguments)


def _told_before(arguments: argparse.Namespace) -> int:
    """What the run would take; a resumed one is no other than the run it goes on with."""
    if arguments.config is None or arguments.resume is not None:
        raise ConfigError("--dry-run needs CONFIG", where="medveil-sim run", cure="the settings the run would have")
    config = configured(arguments)
    if arguments.out is not None:
        from simulations.folders import check_free  # noqa: PLC0415

        check_free(arguments.out, replace=arguments.replace)
    if config.task == STATISTICS:
        said = "would read every image once; nothing trains, and there is no model"
        none = {"jobs": 1, "estimate": None, "not_estimated": [config.name], "kept": [], "left_out": []}
        tell_result({"runs": [config.name], **none}, said, as_json=arguments.json)
        return EXIT_OK
    return tell_runs([(config.name, config)], as_json=arguments.json)


@contextlib.contextmanager
def _said_how_to_go_on(run: Path) -> Iterator[None]:
    """Whoever interrupts a run is told how it goes on; before it trained there is nothing to go on with."""
    from simulations.folders import MANIFEST, resuming  # noqa: PLC0415

    try:
        yield
    except KeyboardInterrupt:
        begun = (run / MANIFEST).is_file()
        tell(f"go on with: {resuming(run)}" if begun else "it had not begun: give the same command again", error=True)
        raise


def _told(done: Finished, arguments: argparse.Namespace) -> int:
    from simulations.left_out import as_text  # noqa: PLC0415

    if done.left_out:
        tell_lines(as_text(done.left_out), error=True)
    if arguments.json:
        tell_json(done.summary)
    else:
        print_result(done.summary)
        tell(f"report: {done.report}")
    return EXIT_PARTIAL if done.partial else EXIT_OK


def _rounds_beside_resume(arguments: argparse.Namespace) -> int | None:
    """A resumed run repeats what the interrupted one would have done: only more rounds may be asked of it."""
    settings = [each for each in (arguments.config, *arguments.overrides) if each is not None]
    rounds, other = _rounds_of(settings)
    given = {"CONFIG": other, "--out": arguments.out, "--engine": arguments.engine}
    given |= {"--device": arguments.device, "--replace": arguments.replace or None}
    for name, value in given.items():
        if value is not None:
            cure = "the run knows its settings; only rounds=N, more than it had, may be added"
            raise ConfigError(f"--resume takes no {name}", where="medveil-sim run", cure=cure)
    return rounds


def _rounds_of(settings: list[str]) -> tuple[int | None, str | None]:
    """The rounds that are asked for, and the first setting that asks for something else."""
    rounds = None
    for each in settings:
        name, _, value = each.partition("=")
        if name != "rounds":
            return None, each
        if not (value.isascii() and value.isdigit() and len(value) <= _MOST_DIGITS):
            raise ConfigError("'rounds' is no whole number", where="medveil-sim run", cure="rounds=20, for example")
        rounds = int(value)
    return rounds, None


def configured(arguments: argparse.Namespace, *, with_other_recipes: bool = False) -> ExperimentConfig:
    """The experiment a command line names; what of it cannot be is refused before anything slow is imported.

    Parameters
    ----------
    with_other_recipes
        Whether it is to remember what holds ``without_recipe``.
    """
    from simulations.experiments import load_experiment  # noqa: PLC0415

    overrides = list(arguments.overrides)
    if getattr(arguments, "engine", None):
        overrides.append(f"engine={arguments.engine}")
    if getattr(arguments, "device", None):
        overrides.append(f"device={arguments.device}")
    found = load_experiment(arguments.config, overrides)
    if not with_other_recipes:
        # It has had its say: what is written down of a run says everything in its own place.
        found.without_recipe = {}
    return found


def print_result(summary: dict[str, Any]) -> None:
    """Say in one line what a run came to."""
    from fl_server.secagg.said import in_words  # noqa: PLC0415

    if "statistics" in summary:
        tell(f"{summary['name']}: counted at {len(summary['sites'])} sites; nothing was trained")
        return
    parts = [f"{summary['name']}: {summary['status']}"]
    if not (summary.get("baseline") or {}).get("deterministic"):
        parts[0] += f" after {summary['rounds']} round{'' if summary['rounds'] == 1 else 's'}"
    if summary.get("task") == MASKED and isinstance(summary["loss"], float):
        parts.append(f"reconstruction loss {summary['loss']:.4f} on test images; begin another run from {PRETRAINED}")
    for key in ("accuracy", "balanced_accuracy", "auroc"):
        value = summary[key]
        if isinstance(value, float):
            interval = (summary.get("intervals") or {}).get(key)
            within = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
            parts.append(f"{key.replace('_', ' ')} {value:.3f}{within}{_caveat(summary, key)}")
    rate = summary.get("majority_rate")
    if isinstance(rate, float):
        parts.append(f"majority rate {rate:.3f}")
    if not summary.get("n"):
        parts.append("no test images, so no scores")
    if (summary.get("secagg") or {}).get("on"):
        parts.append(f"updates {in_words(summary['secagg'])}")
    tell("; ".join(parts))


def _caveat(summary: dict[str, Any], key: str) -> str:
    """Where a mean does not rest on every site: on how many, and the measure over all images."""
    rests = (summary.get("rests_on") or {}).get(key) or {}
    pooled = ((summary.get("pooled") or {}).get(key) or {}).get("value")
    if not rests or rests["sites"] == rests["of_sites"]:
        return ""
    over_all = "" if pooled is None else f"; over all images {pooled:.3f}"
    return f" ({rests['sites']} of {rests['of_sites']} sites{over_all})"
