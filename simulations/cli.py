"""`medveil-sim`: experiments on one machine."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil.cli import ending_in_order, parser, run_command, subcommand
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.files import read_json
from medveil.plain import tell, tell_block, tell_json
from simulations.attacks.commands import add_attack_commands
from simulations.attacks.matrix.command import add_matrix_command
from simulations.model_commands import add_model_commands

if TYPE_CHECKING:
    from simulations.compare import Comparison
    from simulations.config import ExperimentConfig
    from simulations.run import Finished


_MOST_DIGITS = 6


def main(argv: list[str] | None = None) -> int:
    """Run a `medveil-sim` command.

    Returns
    -------
    int
        0 ok, 2 usage or configuration, 3 data or disk, 4 key, 5 federation, 6 finished in part, 128 and the signal
        where one ended it (130 Ctrl-C, 143 SIGTERM).
    """
    with ending_in_order():
        return run_command(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "medveil-sim",
        "Multi-site federated experiments on hidden medical images, on one machine.",
        "medveil-sim run demo --out demo-run",
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_init(commands)
    _add_report(commands)
    _add_compare(commands)
    add_model_commands(commands)
    _add_bench(commands)
    add_attack_commands(commands, report=_report_of)
    add_matrix_command(commands)
    return made


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "run",
        text="Run one experiment, or go on with an interrupted one.",
        example="medveil-sim run brain-mri data.path=images/ rounds=10 --out RUN",
        device=True,
    )
    _add_experiment(made, "YAML file of the experiment, or a name: init --list")
    made.add_argument("--out", type=Path, metavar="RUN", help="run folder, new or empty")
    made.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run; rounds=N gives it more")
    made.add_argument("--replace", action="store_true", help="remove an earlier run at --out first")
    made.add_argument("--engine", choices=("inprocess", "flower"), help="same as engine=...")
    made.add_argument("--json", action="store_true", help="print the summary as JSON")
    made.set_defaults(command=_do_run)


def _add_experiment(made: argparse.ArgumentParser, text: str) -> None:
    """Let a command be told its experiment, with what a shell may complete it to."""
    from simulations.confs import complete_conf, complete_setting  # noqa: PLC0415

    config: Any = made.add_argument("config", nargs="?", metavar="CONFIG", help=text)
    config.completer = complete_conf
    settings: Any = made.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings that replace the file's"
    )
    settings.completer = complete_setting


def _do_run(arguments: argparse.Namespace) -> int:
    if arguments.resume is not None:
        rounds = _rounds_beside_resume(arguments)
        from simulations.run import resume_experiment  # noqa: PLC0415 - a door opens fast: torch only where it is used

        with _said_how_to_go_on(arguments.resume):
            return _told(resume_experiment(arguments.resume, rounds=rounds, report=_report_of), arguments)
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim run", cure="see 'medveil-sim run --help'")
    from simulations.folders import check_free  # noqa: PLC0415

    config = _configured(arguments)
    check_free(arguments.out, replace=arguments.replace)
    from simulations.run import run_experiment  # noqa: PLC0415

    with _said_how_to_go_on(arguments.out):
        done = run_experiment(config, arguments.out, replace=arguments.replace, report=_report_of)
        return _told(done, arguments)


@contextlib.contextmanager
def _said_how_to_go_on(run: Path) -> Iterator[None]:
    """Whoever interrupts a run is told how it goes on, where it came far enough to."""
    from simulations.folders import MANIFEST  # noqa: PLC0415

    try:
        yield
    except KeyboardInterrupt:
        if (run / MANIFEST).is_file():
            tell(f"go on with: medveil-sim run --resume {run}", error=True)
        raise


def _told(done: Finished, arguments: argparse.Namespace) -> int:
    from simulations.left_out import as_text  # noqa: PLC0415

    if done.left_out:
        tell_block(as_text(done.left_out), error=True)
    if arguments.json:
        tell_json(done.summary)
    else:
        _print_result(done.summary)
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


def _configured(arguments: argparse.Namespace) -> ExperimentConfig:
    """The experiment a command line names; what of it cannot be is refused before anything slow is imported."""
    from simulations.confs import find_conf  # noqa: PLC0415

    file = find_conf(arguments.config)
    from models.described import load_with_model  # noqa: PLC0415
    from simulations.config import ExperimentConfig  # noqa: PLC0415

    overrides = list(arguments.overrides)
    if getattr(arguments, "engine", None):
        overrides.append(f"engine={arguments.engine}")
    if getattr(arguments, "device", None):
        overrides.append(f"device={arguments.device}")
    return load_with_model(ExperimentConfig, file, overrides)


def _print_result(summary: dict[str, Any]) -> None:
    parts = [f"{summary['name']}: {summary['status']} after {summary['rounds']} rounds"]
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
    tell("; ".join(parts))


def _caveat(summary: dict[str, Any], key: str) -> str:
    """Where a mean does not rest on every site: on how many, and the measure over all images."""
    rests = (summary.get("rests_on") or {}).get(key) or {}
    pooled = ((summary.get("pooled") or {}).get(key) or {}).get("value")
    if not rests or rests["sites"] == rests["of_sites"]:
        return ""
    over_all = "" if pooled is None else f"; over all images {pooled:.3f}"
    return f" ({rests['sites']} of {rests['of_sites']} sites{over_all})"


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from simulations.confs import complete_name  # noqa: PLC0415

    made = subcommand(
        commands,
        "init",
        text="Print a YAML of all settings, each under its help; or an experiment that comes with MedVeil.",
        example="medveil-sim init > experiment.yaml",
    )
    name: Any = made.add_argument("name", nargs="?", metavar="NAME", help="an experiment of MedVeil's, as it is")
    name.completer = complete_name
    made.add_argument("--list", action="store_true", help="print the names there are, which 'run' and 'compare' take")
    made.add_argument("--out", type=Path, metavar="FILE", help="write here instead; a file that is there is kept")
    made.set_defaults(command=_do_init)


def _do_init(arguments: argparse.Namespace) -> int:
    from simulations.confs import conf_files, find_conf, what_it_is  # noqa: PLC0415

    if arguments.list:
        for name, path in conf_files().items():
            tell(f"{name:<12} {what_it_is(path)}")
        return 0
    from medveil.files import read_bytes, write_text  # noqa: PLC0415

    if arguments.out is not None and arguments.out.exists():
        raise ConfigError("is there already", where=arguments.out, cure="name another file")
    text = _all_settings() if arguments.name is None else read_bytes(find_conf(arguments.name)).decode("utf-8")
    if arguments.out is None:
        tell_block(text, end="")
    else:
        write_text(arguments.out, text)
    return 0


def _all_settings() -> str:
    from medveil.config import commented_yaml  # noqa: PLC0415
    from simulations.config import ExperimentConfig  # noqa: PLC0415

    return "# A MedVeil experiment. Run it with: medveil-sim run FILE --out RUN\n" + commented_yaml(ExperimentConfig)


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "report",
        text="Write RUN/report.html again, also for an unfinished run.",
        example="medveil-sim report RUN",
    )
    made.add_argument("run", type=Path, metavar="RUN", help="run folder")
    made.set_defaults(command=_do_report)


def _do_report(arguments: argparse.Namespace) -> int:
    from simulations.run import read_manifest  # noqa: PLC0415

    read_manifest(arguments.run)
    tell(f"report: {_report_of(arguments.run)}")
    return 0


def _report_of(run: Path) -> Path:
    """Write a run's page, with the attacks on it where there were any."""
    if not any((run / "attacks").glob("*.json")):
        from simulations.report.page import write_report  # noqa: PLC0415

        return write_report(run)
    # scipy and scikit-image are slow to import, and most runs were never attacked.
    from simulations.attacks.matrix.part import report_of  # noqa: PLC0415

    return report_of(run)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "compare",
        text="Run several arms (policies, local-only, centralised) of one experiment and put them side by side.",
        example="medveil-sim compare pneumonia data.path=pneumoniamnist.npz --out COMPARISON",
        device=True,
    )
    _add_experiment(made, "YAML file, or a name (init --list); its 'compare' section names the arms")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the comparison; finished runs in it are kept")
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="runs side by side (default: 1)")
    made.add_argument("--list", action="store_true", help="print the arms there are")
    made.add_argument("--json", action="store_true", help="print the table as JSON")
    made.set_defaults(command=_do_compare)


def _do_compare(arguments: argparse.Namespace) -> int:
    if arguments.list:
        from simulations.arms import ARMS  # noqa: PLC0415

        for arm in ARMS.values():
            tell(f"{arm.name:<20} {arm.text}")
        return 0
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim compare", cure="see --help")
    config = _configured(arguments)
    from simulations.compare import compare  # noqa: PLC0415

    done = compare(config, arguments.out, jobs=arguments.jobs)
    if arguments.json:
        tell_block(done.table_json.read_text(), end="")
    else:
        _tell_arms(done)
        tell(f"report: {done.report}")
    return done.exit_code


def _tell_arms(done: Comparison) -> None:
    """The table as Markdown, for whoever reads it from a pipe; a line an arm on a terminal, where no table fits."""
    if not sys.stdout.isatty():
        tell_block(done.table_text.read_text(encoding="utf-8").replace("\u00a0", " "), end="")
        return
    for arm in read_json(done.table_json)["arms"]:
        found = ((name.replace("_", " "), score) for name, score in arm["scores"].items())
        scores = [f"{name} {_score(score['mean'], score['interval'])}" for name, score in found]
        tell(f"{arm['name']}: {'; '.join(scores)}")


def _score(value: float | None, interval: list[float] | None) -> str:
    within = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
    return "-" if value is None else f"{value:.3f}{within}"


def _add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "bench",
        text="Measure speed as ratios within one run: cipher, engine, a round on ciphertext; or a real consortium.",
        example="medveil-sim bench --deployment --parts overhead --json bench.json",
        device=True,
    )
    made.add_argument("--deployment", action="store_true", help="real servers and sites on this machine, on its CPU")
    made.add_argument("--parts", metavar="LIST", help="of overhead,bytes,fleet, for --deployment (default: all)")
    made.add_argument(
        "--models", metavar="LIST", help="timm names: all for bytes, the first for overhead (default: ViT-Ti, ViT-B)"
    )
    made.add_argument("--sites", type=int, default=32, metavar="N", help="sites of the part fleet (default: 32)")
    made.add_argument("--rounds", type=int, default=4, metavar="N", help="rounds measured for overhead (default: 4)")
    made.add_argument("--images", type=int, default=48, metavar="N", help="images a site for overhead (default: 48)")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    made.add_argument("--attended", action="store_true", help=argparse.SUPPRESS)
    made.set_defaults(command=_do_bench)


def _do_bench(arguments: argparse.Namespace) -> int:
    from medveil.files import write_json  # noqa: PLC0415

    if arguments.deployment and not arguments.attended:
        from medveil.tied import run_tied  # noqa: PLC0415

        # Its servers and sites are made to outlive who starts them: here they end with this command, also a killed one.
        program = [sys.executable, "-m", "simulations.cli"]
        done = run_tied([*program, *arguments.words, "--attended"])
        return int(done.returncode)
    if arguments.deployment:
        from simulations.deployment_bench.bench import LARGE, PARTS, SMALL, bench_deployment, print_tables  # noqa: PLC0415
        from simulations.deployment_bench.work import Work  # noqa: PLC0415

        parts = PARTS if arguments.parts is None else arguments.parts.split(",")
        models = (SMALL, LARGE) if arguments.models is None else arguments.models.split(",")
        work = Work({"name": models[0]}, rounds=arguments.rounds, images=arguments.images)
        found = bench_deployment(parts, work=work, models=models, sites=arguments.sites)
        print_tables(found)
        if arguments.json is not None:
            write_json(arguments.json, found)
        return EXIT_OK

    from simulations.bench import bench, print_table  # noqa: PLC0415

    figures = bench(device=arguments.device or "auto")
    print_table(figures)
    if arguments.json is not None:
        write_json(arguments.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
