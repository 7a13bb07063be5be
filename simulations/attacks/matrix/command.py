"""`medveil-sim attack-matrix`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil import plain
from medveil.cli import add_json, subcommand
from medveil.completing import completing, names_of
from medveil.errors import EXIT_OK, EXIT_PARTIAL, ConfigError
from medveil.plain import tell, tell_result
from simulations.attacks.commands import add_measure_options, configured, known_attacks, known_schemes, tell_pace
from simulations.dry_run import add_dry_run

if TYPE_CHECKING:
    from fl_client.data.base import Source
    from simulations.attacks.config import AttackConfig
    from simulations.attacks.matrix.run import Failures
    from simulations.attacks.matrix.targets import Column

_LOCK = ".matrix"
_LARGEST = 128
_MEASURED_SCHEME = "block-pixel"


def add_matrix_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `medveil-sim`."""
    made = subcommand(
        commands,
        "attack-matrix",
        text="Put all schemes and all attacks on one page, and measure what is missing.",
        example="medveil-sim attack-matrix --images brain-mri --out MATRIX",
        device=True,
    )
    made.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images, or an .npz file; without it only the page is made of what is there",
    )
    made.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the page and of the results")
    schemes = made.add_argument("--schemes", metavar="A,B", help="schemes, SCHEME+negate with negation (default: all)")
    completing(schemes, names_of(known_schemes))
    attacks = made.add_argument("--attacks", metavar="A,B", default="all", help="attacks (default: all)")
    completing(attacks, names_of(known_attacks))
    made.add_argument("--jobs", type=int, metavar="N", help="processes side by side (default: one for each core)")
    add_dry_run(made)
    add_json(made)
    add_measure_options(made, size=f"as data.image_size, at most {_LARGEST}")
    made.set_defaults(command=_do_matrix, goes_on=True, run=None, cipher="none", negate=False, stolen=False)


def _do_matrix(arguments: argparse.Namespace) -> int:
    from simulations.attacks.matrix.page import write_page  # noqa: PLC0415 - matplotlib is slow to import
    from simulations.attacks.matrix.run import read_record  # noqa: PLC0415
    from simulations.attacks.matrix.table import read_table  # noqa: PLC0415

    folder: Path = arguments.out
    if arguments.dry_run:
        return _tell_before(folder, arguments)
    failures: Failures = {}
    if arguments.images is not None:
        failures = _measured(folder, arguments)
    record = read_record(folder)
    if record is None:
        table = read_table(folder)
    else:
        table = read_table(folder, columns=record.columns, failures=record.failures, settings=record.settings)
    if not table.columns:
        raise ConfigError("holds no results of attacks", where=folder, cure="give --images to measure them")
    page = write_page(folder, table)
    left = [f"left out: {problem}" for problem in table.problems]
    failed = {column: sorted(each) for column, each in failures.items() if each}
    found = {"page": str(page), "left_out": [str(each) for each in table.problems], "failed": failed}
    tell_result(found, *left, f"page: {page}", as_json=arguments.json)
    return EXIT_PARTIAL if any(failures.values()) or table.problems else EXIT_OK


def _tell_before(folder: Path, arguments: argparse.Namespace) -> int:
    """What is missing of the table, and about what measuring it takes."""
    from simulations.attacks.matrix.run import missing  # noqa: PLC0415
    from simulations.attacks.matrix.targets import columns_of  # noqa: PLC0415
    from simulations.attacks.registry import ATTACKS, chosen  # noqa: PLC0415

    if arguments.images is None:
        said = "would only make the page of what is there"
        tell_result({"missing": {}, "pace": None}, said, as_json=arguments.json)
        return EXIT_OK
    columns, names = columns_of(arguments.schemes), [each.name for each in chosen(arguments.attacks)]
    jobs = missing(folder, columns, names)
    wanting = {job.column.label: list(job.attacks) for job in jobs}
    for label, theirs in wanting.items():
        tell(f"{label}: {len(theirs)} of {len(names)} attacks are missing", error=arguments.json)
    if not jobs:
        said = "nothing is missing: would only make the page"
        tell_result({"missing": {}, "pace": None}, said, as_json=arguments.json)
        return EXIT_OK
    config, _ = _sized(arguments)
    config.cipher.scheme, config.cipher.negate = _MEASURED_SCHEME, False
    wanted = sum(len(job.attacks) for job in jobs)
    beside = min(len(jobs), arguments.jobs or os.cpu_count() or 1)
    attacks = [ATTACKS[name]() for name in names]
    times = wanted / len(names) / beside
    device = arguments.device or "auto"
    pace = tell_pace(attacks, config, run=None, device=device, times=times, aside=arguments.json)
    said = f"looked at under {_MEASURED_SCHEME} for all schemes, {beside} of them side by side"
    tell_result({"missing": wanting, "pace": pace}, said, as_json=arguments.json)
    return EXIT_OK


def _measured(folder: Path, arguments: argparse.Namespace) -> Failures:
    from medveil.claims import claimed  # noqa: PLC0415
    from medveil.files import make_folder  # noqa: PLC0415
    from simulations.attacks.matrix.targets import columns_of  # noqa: PLC0415
    from simulations.attacks.registry import chosen  # noqa: PLC0415
    from simulations.folders import LEFT_S  # noqa: PLC0415

    columns = columns_of(arguments.schemes)
    attacks = [each.name for each in chosen(arguments.attacks)]
    beside = (os.cpu_count() or 1) if arguments.jobs is None else arguments.jobs
    if beside < 1:
        raise ConfigError(f"--jobs is {beside}", where="medveil-sim attack-matrix", cure="at least 1")
    config, source = _sized(arguments)
    make_folder(folder)
    # Two at once would measure the same, and each write its own record.
    with claimed(folder / _LOCK, seconds=LEFT_S, cure="wait for its end, or end it: kill {pid}; or name another --out"):
        options = _options(arguments, config)
        return _measured_into(folder, columns, attacks, config=config, source=source, options=options, beside=beside)


def _measured_into(
    folder: Path,
    columns: list[Column],
    attacks: list[str],
    *,
    config: AttackConfig,
    source: Source,
    options: list[str],
    beside: int,
) -> Failures:
    from simulations.attacks.matrix.run import Record, check_settings, merged, missing, run  # noqa: PLC0415
    from simulations.attacks.matrix.standing import refuse_other, standing  # noqa: PLC0415

    settings, basis = _settings(config), standing(config, source)
    record = check_settings(folder, settings)
    console = plain.stderr_console()
    if any(folder.glob("*/*.json")):
        known = {} if record is None else record.basis
        refuse_other(known, basis, where=folder)
        if not known:
            told = "what results are there do not say which images they were measured on: these cannot be compared"
            plain.say(console, told)
            # Today's images are not what they stand on.
            basis = {}
    jobs = missing(folder, columns, attacks)
    labels = tuple(dict.fromkeys([*(record.columns if record else ()), *(each.label for each in columns)]))
    Record(settings, labels, merged(record, [], {}), basis).write(folder)
    kept = len(columns) * len(attacks) - sum(len(job.attacks) for job in jobs)
    if kept:
        plain.say(console, f"{kept} results kept")
    failures = run(folder, jobs, options, beside=beside, said=lambda line: plain.say(console, line))
    Record(settings, labels, merged(record, jobs, failures), basis).write(folder)
    return failures


def _sized(arguments: argparse.Namespace) -> tuple[AttackConfig, Source]:
    """The configuration, with a size of images that all attacks can be afforded at, and the images."""
    from fl_client.data.source import open_source  # noqa: PLC0415

    config = configured(arguments)
    source = open_source(config.data)
    if arguments.size is None and config.data.image_size is None:
        config.data.image_size = min(source.size, _LARGEST)
    return config, source


def _settings(config: AttackConfig) -> dict[str, Any]:
    """What results must share to stand in one table."""
    from medveil.config import to_mapping  # noqa: PLC0415
    from simulations.attacks.config import STANDARD_IMAGES  # noqa: PLC0415

    data = {name: value for name, value in to_mapping(config.data).items() if name != "path"}
    return {
        "images": str(Path(config.data.path or "").resolve()),
        "data": data,
        "block": config.cipher.block,
        "keys": config.keys,
        "images per key": STANDARD_IMAGES if config.images is None else config.images,
        # Before images per key was a limit for every attack, there was none.
        "at most": config.images,
        "quick": config.quick or None,
        "seed": config.seed,
        "public": None if config.public is None else str(Path(config.public).resolve()),
    }


def _options(arguments: argparse.Namespace, config: AttackConfig) -> list[str]:
    """The same choices as options of `medveil-sim attack`."""
    made = ["--images", str(arguments.images), "--size", str(config.data.image_size)]
    for option, value in (
        ("--block", arguments.block),
        ("--keys", arguments.keys),
        ("--images-per-key", arguments.images_per_key),
        ("--public", arguments.public),
        ("--seed", arguments.seed),
        ("--device", arguments.device),
    ):
        made += [] if value is None else [option, str(value)]
    made += ["--quick"] if arguments.quick else []
    return [*made, *(["--set", *arguments.overrides] if arguments.overrides else [])]
