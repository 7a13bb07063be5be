"""`medveil-sim bench`: speed on this machine, as ratios within one run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medveil.cli import subcommand
from medveil.errors import EXIT_OK, ConfigError
from medveil.paths import check_writable
from medveil.plain import tell_json, tell_result
from simulations.dry_run import add_dry_run, scratch, tell_runs

_IMAGES, _ROUNDS, _SITES = 48, 4, 32
_TAKEN = {
    "": ("device",),
    "--gpu": ("device",),
    "--scale": ("rounds", "images"),
    "--deployment": ("parts", "models", "sites", "masked_sites", "rounds", "images"),
}
"""What is measured, and the options that say how; an option of another would do nothing."""


def add_bench(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `bench`."""
    made = subcommand(
        commands,
        "bench",
        text="Measure speed as ratios within one run: cipher, engine, a round on ciphertext; or a real consortium.",
        example="medveil-sim bench --deployment --parts overhead --json bench.json",
        device=True,
    )
    words = "images/s and share of the roofline of a ViT-B on a GPU, then the ratios; untried: no GPU has run it"
    made.add_argument("--gpu", action="store_true", help=words)
    made.add_argument("--deployment", action="store_true", help="real servers and sites on this machine, on its CPU")
    made.add_argument("--parts", metavar="LIST", help="of overhead,bytes,fleet,masked, for --deployment (default: all)")
    made.add_argument(
        "--models", metavar="LIST", help="timm names: all for bytes, the first for the others (default: ViT-Ti, ViT-B)"
    )
    made.add_argument(
        "--sites",
        type=int,
        metavar="N",
        help="sites of fleet, and simulated ones of masked, 0 for none (default: 32)",
    )
    made.add_argument(
        "--masked-sites",
        type=int,
        nargs="*",
        metavar="N",
        help="real sites of each consortium of masked (default: 3 5)",
    )
    made.add_argument(
        "--scale", metavar="LIST", help="numbers of simulated sites, such as 4,16,64: rounds of each at constant data"
    )
    made.add_argument(
        "--rounds", type=int, metavar="N", help="rounds of --deployment or --scale (default: 4, the first not measured)"
    )
    made.add_argument(
        "--images",
        type=int,
        metavar="N",
        help=f"images a site of --deployment (default: {_IMAGES}); of --scale, where sites are most (default: 16, and "
        "4096 in all)",
    )
    words = "print the figures as JSON; with FILE print the tables, and write the figures there"
    made.add_argument("--json", type=Path, nargs="?", const=True, metavar="FILE", help=words)
    add_dry_run(made)
    made.add_argument("--attended", action="store_true", help=argparse.SUPPRESS)
    made.set_defaults(command=_do_bench)


def _do_bench(arguments: argparse.Namespace) -> int:
    if isinstance(arguments.json, Path):
        check_writable(arguments.json)
    _refuse_idle(arguments)
    if arguments.dry_run:
        return _tell_bench(arguments)
    if arguments.deployment and not arguments.attended:
        from medveil.tied import told_tied  # noqa: PLC0415

        _parts(arguments)
        # Its servers and sites are made to outlive who starts them: here they end with this command, also a killed one.
        program = [sys.executable, "-m", "simulations.cli", *arguments.words, "--attended"]
        return told_tied(program, as_json=arguments.json is True)
    if arguments.deployment:
        from simulations.deployment_bench.bench import LARGE, SMALL, bench_deployment, print_tables  # noqa: PLC0415
        from simulations.deployment_bench.masked import SITES  # noqa: PLC0415
        from simulations.deployment_bench.work import Work  # noqa: PLC0415

        models = (SMALL, LARGE) if arguments.models is None else arguments.models.split(",")
        images = _IMAGES if arguments.images is None else arguments.images
        work = Work({"name": models[0]}, rounds=_rounds(arguments), images=images)
        masking = SITES if arguments.masked_sites is None else arguments.masked_sites
        sites = _SITES if arguments.sites is None else arguments.sites
        asked: dict[str, Any] = {"work": work, "models": models, "sites": sites, "masking": masking}
        return _told(bench_deployment(_parts(arguments), **asked), arguments, print_tables)
    if arguments.scale is not None:
        from simulations.bench_sites import bench_sites, print_rows  # noqa: PLC0415

        counts = [_whole_number(each) for each in arguments.scale.split(",")]
        found = bench_sites(counts, rounds=_rounds(arguments), images_a_site=arguments.images)
        return _told(found, arguments, print_rows)
    if arguments.gpu:
        return _do_gpu(arguments)
    from simulations.bench import bench, print_table  # noqa: PLC0415

    return _told(bench(device=arguments.device or "auto"), arguments, print_table)


def _do_gpu(arguments: argparse.Namespace) -> int:
    from fl_client.workbench import pick_device  # noqa: PLC0415
    from simulations.bench import bench, print_table  # noqa: PLC0415
    from simulations.bench_gpu import bench_device, check_gpu  # noqa: PLC0415

    check_gpu()
    device = pick_device(arguments.device or "cuda")
    if device.type != "cuda":
        raise ConfigError("'--device' is no GPU", where="bench --gpu", cure="cuda or cuda:N")
    return _told({**bench_device(device), **bench(device=str(device))}, arguments, print_table)


def _refuse_idle(arguments: argparse.Namespace) -> None:
    """Refuse two things to measure, and options of what is not measured (ConfigError)."""
    chosen = [name for name in ("--gpu", "--scale", "--deployment") if getattr(arguments, name[2:])]
    if len(chosen) > 1:
        raise ConfigError(f"measures {chosen[0]} or {chosen[1]}", where="bench", cure="one after the other")
    what = chosen[0] if chosen else ""
    for option in dict.fromkeys(each for taken in _TAKEN.values() for each in taken):
        if getattr(arguments, option) is not None and option not in _TAKEN[what]:
            cure = " or ".join(name or "the ratios" for name, taken in _TAKEN.items() if option in taken)
            problem = f"'--{option.replace('_', '-')}' would do nothing"
            raise ConfigError(problem, where="bench", cure=f"it is for {cure}")


def _rounds(arguments: argparse.Namespace) -> int:
    return _ROUNDS if arguments.rounds is None else arguments.rounds


def _told(found: dict[str, Any], arguments: argparse.Namespace, table: Callable[[dict[str, Any]], None]) -> int:
    """Print figures as a table or as JSON, and write them where a file is named."""
    if arguments.json is True:
        tell_json(found)
        return EXIT_OK
    table(found)
    if arguments.json is not None:
        from medveil.files import write_json  # noqa: PLC0415

        write_json(arguments.json, found)
    return EXIT_OK


def _parts(arguments: argparse.Namespace) -> Sequence[str]:
    """The parts of ``--deployment`` that are asked for (ConfigError for one there is not)."""
    from simulations.deployment_bench.bench import PARTS, check_parts  # noqa: PLC0415

    parts = PARTS if arguments.parts is None else arguments.parts.split(",")
    check_parts(parts)
    return parts


def _whole_number(text: str) -> int:
    if not text.strip().isdecimal():
        raise ConfigError("'--scale' is no list of numbers", where="bench", cure="--scale 4,16,64")
    return int(text)


def _tell_bench(arguments: argparse.Namespace) -> int:
    """What `bench` would measure: of real consortia the parts alone, of engines the rounds and what they take."""
    as_json = arguments.json is True
    if arguments.scale is not None:
        from simulations.bench_sites import check_counts  # noqa: PLC0415

        counts = [_whole_number(each) for each in arguments.scale.split(",")]
        check_counts(counts, rounds=_rounds(arguments), images_a_site=arguments.images)
        said = f"would run {_rounds(arguments)} rounds under each of {arguments.scale} sites, one after another"
        tell_result({"rounds": _rounds(arguments), "sites": counts}, said, as_json=as_json)
        return EXIT_OK
    if arguments.deployment:
        parts = _parts(arguments)
        tell_result(
            {"rounds": _rounds(arguments), "parts": list(parts)},
            f"would start real consortia on this machine for {', '.join(parts)}; {_rounds(arguments)} rounds each",
            "not estimated: a consortium's time is its processes', and no batch tells it",
            as_json=as_json,
        )
        return EXIT_OK
    if arguments.gpu:
        from simulations.bench_gpu import check_gpu  # noqa: PLC0415

        check_gpu()
    from simulations.bench import engine_runs  # noqa: PLC0415

    with scratch() as folder:
        return tell_runs(engine_runs(folder, device=arguments.device or "auto"), as_json=as_json)
