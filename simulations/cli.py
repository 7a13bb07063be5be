"""`medveil-sim`: experiments on one machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeVar

from medveil.cli import guarded, parser, start_logging, subcommand
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_block, tell_json
from simulations.attacks.commands import add_attack_commands
from simulations.attacks.matrix.command import add_matrix_command

T = TypeVar("T")


def main(argv: list[str] | None = None) -> int:
    """Run a `medveil-sim` command.

    Returns
    -------
    int
        0 ok, 2 usage or configuration, 3 data or disk, 4 key, 5 federation, 6 finished in part, 130 interrupted.
    """
    return guarded(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    start_logging(arguments)
    code: int = arguments.command(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "medveil-sim",
        "Multi-site federated experiments on hidden medical images, on one machine.",
        "medveil-sim run simulations/conf/demo.yaml --out demo-run",
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_init(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_bench(commands)
    add_attack_commands(commands, report=_report_of)
    add_matrix_command(commands)
    return made


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "run",
        text="Run one experiment, or go on with an interrupted one.",
        example="medveil-sim run simulations/conf/brain-mri.yaml data.path=images/ rounds=10 --out RUN",
        device=True,
    )
    made.add_argument("config", nargs="?", metavar="CONFIG", help="YAML file of the experiment")
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that replace the file's")
    made.add_argument("--out", type=Path, metavar="RUN", help="run folder, new or empty")
    made.add_argument("--resume", type=Path, metavar="RUN", help="go on with this run")
    made.add_argument("--replace", action="store_true", help="remove an earlier run at --out first")
    made.add_argument("--engine", choices=("inprocess", "flower"), help="same as engine=...")
    made.add_argument("--json", action="store_true", help="print the summary as JSON")
    made.set_defaults(command=_do_run)


def _do_run(arguments: argparse.Namespace) -> int:
    from simulations.config import ExperimentConfig  # noqa: PLC0415 - a door opens fast: torch only where it is used
    from simulations.left_out import as_text  # noqa: PLC0415
    from simulations.run import MANIFEST, resume_experiment, run_experiment  # noqa: PLC0415

    if arguments.resume is not None:
        _refuse_beside_resume(arguments)
        done = resume_experiment(arguments.resume)
    else:
        if arguments.config is None or arguments.out is None:
            raise ConfigError("needs CONFIG and --out", where="medveil-sim run", cure="see 'medveil-sim run --help'")
        config = _configured(arguments, ExperimentConfig)
        try:
            done = run_experiment(config, arguments.out, replace=arguments.replace)
        except KeyboardInterrupt:
            if (arguments.out / MANIFEST).is_file():
                tell(f"go on with: medveil-sim run --resume {arguments.out}", error=True)
            raise
    if done.left_out:
        tell_block(as_text(done.left_out), error=True)
    if arguments.json:
        tell_json(done.summary)
    else:
        _print_result(done.summary)
        tell(f"report: {done.report}")
    return EXIT_PARTIAL if done.partial else EXIT_OK


def _refuse_beside_resume(arguments: argparse.Namespace) -> None:
    """A resumed run repeats what the interrupted one would have done: nothing about it is chosen anew."""
    given = {"CONFIG": arguments.config, "--out": arguments.out, "--engine": arguments.engine}
    given |= {"--device": arguments.device, "--replace": arguments.replace or None}
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"--resume takes no {name}", where="medveil-sim run", cure="the run knows its settings")


def _configured(arguments: argparse.Namespace, schema: type[T]) -> T:
    from medveil.config import load_config  # noqa: PLC0415

    overrides = list(arguments.overrides)
    if getattr(arguments, "engine", None):
        overrides.append(f"engine={arguments.engine}")
    if getattr(arguments, "device", None):
        overrides.append(f"device={arguments.device}")
    return load_config(schema, arguments.config, overrides)


def _print_result(summary: dict[str, object]) -> None:
    parts = [f"{summary['name']}: {summary['status']} after {summary['rounds']} rounds"]
    for key in ("accuracy", "balanced_accuracy", "auroc"):
        value = summary[key]
        if isinstance(value, float):
            interval = (summary.get("intervals") or {}).get(key)  # type: ignore[attr-defined]
            within = "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
            parts.append(f"{key.replace('_', ' ')} {value:.3f}{within}")
    rate = summary.get("majority_rate")
    if isinstance(rate, float):
        parts.append(f"majority rate {rate:.3f}")
    tell("; ".join(parts))


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "init",
        text="Print a YAML of all settings, each under its help.",
        example="medveil-sim init > experiment.yaml",
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="write here instead; a file that is there is kept")
    made.set_defaults(command=_do_init)


def _do_init(arguments: argparse.Namespace) -> int:
    from medveil.config import commented_yaml  # noqa: PLC0415
    from medveil.files import write_text  # noqa: PLC0415
    from simulations.config import ExperimentConfig  # noqa: PLC0415

    text = "# A MedVeil experiment. Run it with: medveil-sim run FILE --out RUN\n" + commented_yaml(ExperimentConfig)
    if arguments.out is None:
        tell_block(text, end="")
        return 0
    if arguments.out.exists():
        raise ConfigError("is there already", where=arguments.out, cure="name another file")
    write_text(arguments.out, text)
    return 0


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
        example="medveil-sim compare simulations/conf/pneumonia.yaml data.path=pneumoniamnist.npz --out COMPARISON",
        device=True,
    )
    made.add_argument("config", nargs="?", metavar="CONFIG", help="YAML file; its 'compare' section names the arms")
    made.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings that replace the file's")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the comparison; finished runs in it are kept")
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="runs side by side (default: 1)")
    made.add_argument("--list", action="store_true", help="print the arms there are")
    made.add_argument("--json", action="store_true", help="print the table as JSON")
    made.set_defaults(command=_do_compare)


def _do_compare(arguments: argparse.Namespace) -> int:
    from simulations.compare import ARMS, compare  # noqa: PLC0415
    from simulations.config import ExperimentConfig  # noqa: PLC0415

    if arguments.list:
        for arm in ARMS.values():
            tell(f"{arm.name:<20} {arm.text}")
        return 0
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim compare", cure="see --help")
    config = _configured(arguments, ExperimentConfig)
    done = compare(config, arguments.out, jobs=arguments.jobs)
    if arguments.json:
        tell_block(done.table_json.read_text(), end="")
    else:
        tell_block(done.table_text.read_text(), end="")
        tell(f"report: {done.report}")
    return done.exit_code


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
    made.set_defaults(command=_do_bench)


def _do_bench(arguments: argparse.Namespace) -> int:
    from medveil.files import write_json  # noqa: PLC0415

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
