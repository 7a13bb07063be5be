"""`medveil-sim poison`: runs with bad hospitals in them, rule by rule."""

from __future__ import annotations

import argparse
from pathlib import Path

from medveil import plain
from medveil.bounded import word
from medveil.cli import subcommand
from medveil.completing import completing, names_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_block, tell_json, tell_result
from simulations.dry_run import add_dry_run, tell_runs
from simulations.run_command import add_experiment, configured

_LOCK = "poisoning"
_MOST_DIGITS = 9


def add_poison(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `medveil-sim`."""
    made = subcommand(
        commands,
        "poison",
        text="Put bad hospitals among the good ones of an experiment, and say which rule holds against how many.",
        example="medveil-sim poison poisoning data.path=mednist64.npz --bad 1,3 --seeds 0,1,2 --out POISONED",
        device=True,
    )
    add_experiment(made, "YAML file of an experiment of good sites, or a name: init --list")
    attacks = made.add_argument("--attacks", default="all", metavar="NAMES", help="by commas, or 'all' (--list)")
    completing(attacks, names_of(_attacks))
    rules = made.add_argument("--rules", default="all", metavar="NAMES", help="by commas, or 'all' (--list)")
    completing(rules, names_of(_rules))
    made.add_argument("--bad", default="1", metavar="N,N", help="numbers of bad sites (default: 1)")
    made.add_argument("--seeds", default="0,1,2", metavar="N,N", help="seeds (default: 0,1,2)")
    made.add_argument("--minutes", type=float, metavar="N", help="begin no run after so many; the same again goes on")
    made.add_argument("--out", type=Path, metavar="DIR", help="folder of the study; finished runs in it are kept")
    add_dry_run(made)
    made.add_argument("--list", action="store_true", help="print the attacks and the rules there are")
    made.add_argument("--json", action="store_true", help="print the table as JSON")
    made.set_defaults(command=_do_poison, goes_on=True)


def _attacks() -> list[str]:
    from simulations.attacks.poisoning.attacks import ALL, ATTACKS  # noqa: PLC0415

    return [*ATTACKS, ALL]


def _rules() -> list[str]:
    from simulations.attacks.poisoning.rules import ALL, RULES  # noqa: PLC0415 - Flower's strategies load here

    return [*RULES, ALL]


def _do_poison(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _tell_list(as_json=arguments.json)
    if arguments.config is None or arguments.out is None:
        raise ConfigError("needs CONFIG and --out", where="medveil-sim poison", cure="see 'medveil-sim poison --help'")
    bad, seeds = _numbers(arguments.bad, "--bad"), _numbers(arguments.seeds, "--seeds")
    if arguments.minutes is not None and not arguments.minutes >= 0:
        raise ConfigError(f"is {arguments.minutes:g}", where="--minutes", cure="0 or more")
    from simulations.attacks.poisoning.attacks import chosen as chosen_attacks  # noqa: PLC0415
    from simulations.attacks.poisoning.rules import chosen as chosen_rules  # noqa: PLC0415

    attacks, rules = chosen_attacks(arguments.attacks), chosen_rules(arguments.rules)
    config = configured(arguments)
    from medveil.claims import claimed  # noqa: PLC0415
    from simulations.attacks.poisoning import export  # noqa: PLC0415
    from simulations.attacks.poisoning.study import RUNS, Study, carried_out  # noqa: PLC0415
    from simulations.folders import LEFT_S  # noqa: PLC0415

    study, folder = Study(config, attacks, rules, bad, seeds), arguments.out
    study.check()
    if arguments.dry_run:
        done = {job.file for job in study.jobs() if (folder / RUNS / job.file).is_file()}
        tell(f"{len(done)} runs of {folder} are kept", error=arguments.json)
        runs = [(job.text, config) for job in study.jobs() if job.file not in done]
        return tell_runs(runs, as_json=arguments.json)
    console = plain.stderr_console()
    with claimed(folder / _LOCK, seconds=LEFT_S, cure="wait for its end, or end it: kill {pid}; or name another --out"):
        seconds = None if arguments.minutes is None else 60 * arguments.minutes
        cells, missing = carried_out(study, folder, seconds=seconds, said=lambda line: plain.say(console, line))
        export.write(folder, cells, missing=missing)
        from simulations.attacks.poisoning.page import write_page  # noqa: PLC0415

        page = write_page(folder, cells, name=config.name, missing=missing)
    if arguments.json:
        tell_json(export.document(cells, missing=missing))
    else:
        tell_block(export.as_markdown(cells), end="")
        tell(f"page: {page}")
    if missing:
        tell(f"{missing} runs are missing: the same command goes on", error=True)
    return EXIT_PARTIAL if missing else EXIT_OK


def _tell_list(*, as_json: bool) -> int:
    from simulations.attacks.poisoning.attacks import ATTACKS  # noqa: PLC0415
    from simulations.attacks.poisoning.rules import RULES  # noqa: PLC0415

    attacks = [{"name": each.name, "knows": each.knows, "goal": each.goal} for each in ATTACKS.values()]
    rules = [{"name": each.name, "text": each.text} for each in RULES.values()]
    lines = [f"{each['name']:<18}knows: {each['knows']}; after: {each['goal']}" for each in attacks]
    lines += [f"{each['name']:<18}{each['text']}" for each in rules]
    tell_result({"attacks": attacks, "rules": rules}, *lines, as_json=as_json)
    return EXIT_OK


def _numbers(text: str, where: str) -> list[int]:
    """Whole numbers of an option, each once, in order."""
    made = []
    for each in text.split(","):
        if not (each.strip().isascii() and each.strip().isdigit() and len(each.strip()) <= _MOST_DIGITS):
            raise ConfigError(f"'{word(each)}' is no whole number", where=where, cure="numbers by commas: 1,2,3")
        made.append(int(each))
    return sorted(set(made))
