"""`medveil-sim`: experiments on one machine."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medveil import plugins
from medveil.cli import add_json, parser, run_command, subcommand
from medveil.completing import completing
from medveil.errors import EXIT_OK, ConfigError
from medveil.files import read_json
from medveil.plain import tell, tell_block, tell_json, tell_result, tell_text
from simulations.attacks.commands import add_attack_commands
from simulations.attacks.matrix.command import add_matrix_command
from simulations.attacks.poisoning.command import add_poison
from simulations.attacks.tradeoff.command import add_matrix
from simulations.bench_command import add_bench
from simulations.consortium_command import add_consortium
from simulations.dry_run import add_dry_run, tell_planned
from simulations.model_commands import add_model_commands
from simulations.pretrain_command import add_pays, add_pretrain
from simulations.reported import report_of
from simulations.results_command import add_pack, add_results
from simulations.run_command import add_experiment, add_run, configured
from simulations.sweep_command import add_search, add_sweep

if TYPE_CHECKING:
    from simulations.compare import Comparison
    from simulations.config import ExperimentConfig


def main(argv: list[str] | None = None) -> int:
    """Run a `medveil-sim` command.

    Returns
    -------
    int
        0 ok, 2 usage or configuration, 3 data or disk, 4 key, 5 federation, 6 finished in part, 128 and the signal
        where one ended it (130 Ctrl-C, 143 SIGTERM).
    """
    plugins.simulating()
    return run_command(_parser, argv)


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "medveil-sim",
        "Multi-site federated experiments on hidden medical images, on one machine.",
        "medveil-sim run demo --out demo-run",
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    add_run(commands, report=report_of)
    add_pretrain(commands, report=report_of)
    _add_init(commands)
    _add_report(commands)
    _add_compare(commands)
    _add_ablate(commands)
    add_sweep(commands)
    add_search(commands)
    add_pack(commands)
    add_pays(commands)
    add_model_commands(commands)
    add_consortium(commands)
    add_bench(commands)
    add_attack_commands(commands, report=report_of)
    add_matrix_command(commands)
    add_matrix(commands)
    add_poison(commands)
    return made


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from simulations.confs import complete_name  # noqa: PLC0415

    made = subcommand(
        commands,
        "init",
        text="Print a YAML of all settings, each under its help; or an experiment that comes with MedVeil.",
        example="medveil-sim init > experiment.yaml",
    )
    name = made.add_argument("name", nargs="?", metavar="NAME", help="an experiment of MedVeil's, as it is")
    completing(name, complete_name)
    made.add_argument("--list", action="store_true", help="print the names there are, which 'run' and 'compare' take")
    made.add_argument("--out", type=Path, metavar="FILE", help="write here instead; a file that is there is kept")
    add_json(made)
    made.set_defaults(command=_do_init)


def _do_init(arguments: argparse.Namespace) -> int:
    from simulations.confs import conf_files, find_conf, what_it_is  # noqa: PLC0415

    if arguments.list:
        rows = [{"name": name, "text": what_it_is(path)} for name, path in conf_files().items()]
        return _listed(rows, 12, as_json=arguments.json)
    from medveil.files import read_bytes, write_text  # noqa: PLC0415

    if arguments.out is not None and arguments.out.exists():
        raise ConfigError("is there already", where=arguments.out, cure="name another file")
    text = _all_settings() if arguments.name is None else read_bytes(find_conf(arguments.name)).decode("utf-8")
    if arguments.out is None:
        tell_text("yaml", text, as_json=arguments.json)
        return EXIT_OK
    write_text(arguments.out, text)
    if arguments.json:
        tell_json({"file": str(arguments.out)})
    return EXIT_OK


def _listed(rows: list[dict[str, str]], width: int, *, as_json: bool) -> int:
    """Tell the names there are, each with what it is."""
    tell_result(rows, *(f"{row['name']:<{width}} {row['text']}" for row in rows), as_json=as_json)
    return EXIT_OK


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
    add_json(made)
    made.set_defaults(command=_do_report)


def _do_report(arguments: argparse.Namespace) -> int:
    from simulations.run import read_manifest  # noqa: PLC0415

    read_manifest(arguments.run)
    page = report_of(arguments.run)
    tell_result({"report": str(page)}, f"report: {page}", as_json=arguments.json)
    return EXIT_OK


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "compare",
        text="Run several arms (policies, local-only, centralised) of one experiment and put them side by side.",
        example="medveil-sim compare pneumonia data.path=pneumoniamnist.npz --out COMPARISON",
        device=True,
    )
    add_experiment(made, "YAML file, or a name (init --list); its 'compare' section names the arms")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the comparison; finished runs in it are kept")
    add_results(made)
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="runs side by side (default: 1)")
    add_dry_run(made)
    made.add_argument("--list", action="store_true", help="print the arms there are")
    made.add_argument("--json", action="store_true", help="print the table as JSON")
    made.set_defaults(command=_do_compare, goes_on=True)


def _do_compare(arguments: argparse.Namespace) -> int:
    if arguments.list:
        from simulations.arms import ARMS  # noqa: PLC0415

        rows = [{"name": arm.name, "text": arm.text} for arm in ARMS.values()]
        return _listed(rows, max(map(len, ARMS)), as_json=arguments.json)
    config = _configured_for(arguments, "compare")
    from simulations.compare import compare, planned  # noqa: PLC0415

    if arguments.dry_run:
        asked = {"jobs": arguments.jobs, "as_json": arguments.json}
        return tell_planned(lambda folder: planned(config, folder), arguments.out, **asked)
    asked = {"results": arguments.results, "jobs": arguments.jobs}
    done = compare(config, arguments.out, **asked, command=_typed(arguments))
    if arguments.json:
        tell_block(done.table_json.read_text(), end="")
    else:
        _tell_arms(done)
        tell(f"report: {done.report}")
    return done.exit_code


def _typed(arguments: argparse.Namespace) -> str:
    """The command line, as a shell would take it again."""
    return shlex.join(["medveil-sim", *arguments.words])


def _configured_for(
    arguments: argparse.Namespace, command: str, *, with_other_recipes: bool = False
) -> ExperimentConfig:
    """The experiment of a command that takes several runs of it into a folder."""
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where=f"medveil-sim {command}", cure="see --help")
    return configured(arguments, with_other_recipes=with_other_recipes)


def _add_ablate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    made = subcommand(
        commands,
        "ablate",
        text="Run an experiment with one switch of training more at a time, and say what each brings on validation.",
        example="medveil-sim ablate pneumonia data.path=pneumoniamnist.npz compare.seeds='[0, 1, 2]' --out ABLATION",
        device=True,
    )
    add_experiment(made, "YAML file, or a name (init --list); its 'compare' section names the seeds")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder for it; finished runs in it are kept")
    made.add_argument("--switch", action="append", metavar="NAME", help="only this one, and others named so (--list)")
    made.add_argument(
        "--from", dest="recipe", metavar="RECIPE", help="begin with a recipe, and leave out one at a time"
    )
    add_results(made)
    made.add_argument("--jobs", type=int, default=1, metavar="N", help="runs side by side (default: 1)")
    add_dry_run(made)
    made.add_argument("--list", action="store_true", help="print the switches there are")
    made.add_argument("--json", action="store_true", help="print the table as JSON")
    made.set_defaults(command=_do_ablate, goes_on=True)


def _do_ablate(arguments: argparse.Namespace) -> int:
    if arguments.list:
        from simulations.switches import NAMED, SWITCHES  # noqa: PLC0415

        found = {
            name: [f"{part}.{key}={value}" for part, values in sections.items() for key, value in values.items()]
            for name, sections in {**SWITCHES, **NAMED}.items()
        }
        width = max(map(len, found))
        lines = [f"{name:<{width}} {' '.join(said)}" for name, said in found.items()]
        lines += ["RECIPE without SWITCH, RECIPE with SWITCH: the recipe but for that, or with that as well"]
        rows = [{"name": name, "settings": said} for name, said in found.items()]
        tell_result(rows, *lines, as_json=arguments.json)
        return EXIT_OK
    config = _configured_for(arguments, "ablate", with_other_recipes=True)
    from simulations.ablation import ablate, planned  # noqa: PLC0415

    if arguments.dry_run:
        named = {"switches": arguments.switch, "recipe": arguments.recipe or ""}
        asked = {"jobs": arguments.jobs, "as_json": arguments.json}
        return tell_planned(lambda folder: planned(config, folder, **named), arguments.out, **asked)
    asked = {"switches": arguments.switch, "recipe": arguments.recipe or "", "jobs": arguments.jobs}
    made = ablate(config, arguments.out, **asked, results=arguments.results, command=_typed(arguments))
    tell_block((made.table_json if arguments.json else made.text).read_text(encoding="utf-8"), end="")
    return made.exit_code


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


if __name__ == "__main__":
    sys.exit(main())
