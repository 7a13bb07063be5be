"""All parts of `medveil-sim bench --deployment`, and their tables."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from medveil import plain
from medveil.errors import ConfigError
from medveil.files import make_folder
from medveil.versions import environment
from simulations.deployment_bench.fleet import measure_fleet
from simulations.deployment_bench.masked import AIM_S, SITES, measure_masked, measure_simulated
from simulations.deployment_bench.overhead import measure_overhead
from simulations.deployment_bench.traffic import measure_traffic
from simulations.deployment_bench.work import Work

PARTS = ("overhead", "bytes", "fleet", "masked")
SMALL, LARGE = "vit_tiny_patch16_224", "vit_base_patch16_224"


def check_parts(parts: Sequence[str]) -> None:
    """Refuse what is no part, or none (ConfigError)."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ConfigError(
            f"{', '.join(unknown) or 'nothing'} is no part", where="--parts", cure=f"of {','.join(PARTS)}"
        )


def bench_deployment(
    parts: Sequence[str] = PARTS,
    *,
    work: Work | None = None,
    models: Sequence[str] = (SMALL, LARGE),
    sites: int = 32,
    masking: Sequence[int] = SITES,
) -> dict[str, Any]:
    """Measure the parts that are named.

    Parameters
    ----------
    parts
        Of ``overhead``, ``bytes``, ``fleet`` and ``masked``.
    work
        What a round of ``overhead`` and ``masked`` does; its model is left as it is.
    models
        timm names, for ``bytes``.
    sites
        Real sites of ``fleet``, and simulated ones of ``masked``; without any there, none are simulated.
    masking
        Real sites of each consortium of ``masked``.

    Raises
    ------
    ConfigError
        A part has another name.
    FederationError
        A command failed, or the machine is too small.
    """
    check_parts(parts)
    work = work or Work({"name": SMALL})
    figures: dict[str, Any] = {"environment": {**environment(), "load_before": os.getloadavg()[0]}}
    # Processes' sockets and logs are in it: short, and gone afterwards.
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix="medveil-bench-") as scratch:
        if "overhead" in parts:
            figures["overhead"] = measure_overhead(make_folder(Path(scratch) / "overhead"), work)
        if "bytes" in parts:
            figures["bytes"] = [
                row
                for model in models
                for row in measure_traffic(
                    make_folder(Path(scratch) / model), replace(work, model={**work.model, "name": model})
                )
            ]
        if "fleet" in parts:
            figures["fleet"] = measure_fleet(make_folder(Path(scratch) / "fleet"), sites=sites)
        if "masked" in parts:
            figures["masked"] = [
                *(measure_masked(make_folder(Path(scratch) / f"masked-{n}"), work, sites=n) for n in masking),
                *([measure_simulated(make_folder(Path(scratch) / "simulated"), sites=sites)] if sites else []),
            ]
    figures["environment"]["load_after"] = os.getloadavg()[0]
    return figures


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """End the processes that were started also where this one is told to end."""

    def leave(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {each: signal.signal(each, leave) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def print_tables(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console = plain.console()
    for part in PARTS:
        if part in figures:
            plain.say_table(console, _TABLES[part](figures[part]))


def _overhead(found: dict[str, Any]) -> Table:
    table = Table("a round, s", "wall", "worked", "cost", title=f"{found['model']}, 2 sites, TLS on loopback")
    for name in ("medveil", "plain_flower"):
        row = found[name]
        table.add_row(name.replace("_", " "), *(f"{row[key]:.2f}" for key in ("wall_s", "worked_s", "cost_s")))
    median = found["cost_over_plain_flower_median"]
    table.add_row("medveil / plain", "", "", f"{found['cost_over_plain_flower']:.3f} (medians {median:.3f})")
    return table


def _bytes(rows: list[dict[str, Any]]) -> Table:
    table = Table("model", "what travels", "MB down", "MB up", title="a round and site")
    for row in rows:
        table.add_row(row["model"], row["variant"], f"{row['bytes_down'] / 1e6:,.2f}", f"{row['bytes_up'] / 1e6:,.2f}")
    return table


def _fleet(found: dict[str, Any]) -> Table:
    table = Table("figure", "value", title=f"{found['sites']} sites on this machine")
    for name, value in found.items():
        if isinstance(value, dict):
            for inner, number in value.items():
                table.add_row(f"{name} {inner}", f"{number:,.1f}")
        else:
            table.add_row(name, f"{value:,.1f}" if isinstance(value, float) else str(value))
    return table


def _masked(rows: list[dict[str, Any]]) -> Table:
    title = f"secure aggregation, of all sites together (aim: 1.0 times the bytes up, and {AIM_S:g} s a round)"
    table = Table("a round of", "without, s", "masked, s", "more, s", "MB up", "times", "MB down", "times", title=title)
    for row in rows:
        bare, masked = row["bare"], row["masked"]
        table.add_row(
            f"{row['sites']} sites, {row['where']}, {row['model']}",
            f"{bare['wall_s']:.2f}",
            f"{masked['wall_s']:.2f}",
            f"{row['seconds_more']:.2f} (medians {row['seconds_more_median']:.2f})",
            f"{masked['bytes_up'] / 1e6:,.2f}",
            f"{row['bytes_up_over_bare']:.3f}",
            f"{masked['bytes_down'] / 1e6:,.2f}",
            f"{row['bytes_down_over_bare']:.3f}",
        )
    return table


_TABLES: dict[str, Callable[[Any], Table]] = {
    "overhead": _overhead,
    "bytes": _bytes,
    "fleet": _fleet,
    "masked": _masked,
}
