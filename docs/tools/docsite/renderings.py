"""How each kind of result file is shown as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docsite.comparisons import NOTHING, number, size
from docsite.tables import code, table


def attacks(found: Sequence[dict[str, Any]]) -> str:
    """Attacks' files: an attack a row, its main metric beside control, chance and a wrong key."""
    heads = ("attack", "attacker has", "figure", "target", "control", "chance", "wrong key", "verdict")
    rows = [_attack(each) for each in sorted(found, key=lambda each: (len(each["knowledge"]), each["attack"]))]
    return table(heads, rows)


def bench(found: dict[str, Any]) -> str:
    """``bench.json``: every figure, as the command prints it."""
    rows = [(code(name), f"{value:,.3f}") for name, value in found.items() if isinstance(value, int | float)]
    return table(("figure", "value"), rows)


def deployment(found: dict[str, Any]) -> str:
    """``deployment.json``: a round beside plain Flower's, bytes, a fleet; the parts that were measured."""
    parts = []
    over = found["overhead"]
    rows = [
        (name.replace("_", " "), *(f"{over[name][key]:.2f} s" for key in ("wall_s", "worked_s", "cost_s")))
        for name in ("medveil", "plain_flower")
    ]
    parts.append(table((f"a round, {over['model']}", "wall", "worked", "cost"), rows))
    if "bytes" in found:
        rows = [
            (each["model"], each["variant"], f"{each['bytes_down'] / 1e6:,.2f} MB", f"{each['bytes_up'] / 1e6:,.2f} MB")
            for each in found["bytes"]
        ]
        parts.append(table(("model", "what travels", "down", "up"), rows))
    if "fleet" in found:
        flat = [(key, value) for key, value in found["fleet"].items() if not isinstance(value, dict)]
        parts.append(table((f"{found['fleet']['sites']} sites", "value"), [(k, f"{v:,.1f}") for k, v in flat]))
    return "\n".join(parts)


def scopes(found: dict[str, Any]) -> str:
    """``bytes.json``: what a site sends in a round under each scope, and is sent."""
    rows = found["rows"]
    columns = [(name, wire) for name in dict.fromkeys(row["model"] for row in rows) for wire in ("fp32", "bf16")]
    by_scope: dict[str, dict[tuple[str, str], int]] = {}
    for row in rows:
        by_scope.setdefault(row["scope"], {}).update({(row["model"], wire): row[wire] for wire in ("fp32", "bf16")})
    heads = ("train.scope", *(f"{name}, {wire}" for name, wire in columns))
    return table(heads, [(code(scope), *(size(own[each]) for each in columns)) for scope, own in by_scope.items()])


def faults(found: dict[str, Any]) -> str:
    """``faults.json``, which `make test-faults` leaves: a fault a row."""
    rows = [
        (row["kind"], row["fault"], row["happened"], row["outcome"], f"{row['seconds']:.0f}") for row in found["rows"]
    ]
    return table(("kind", "fault", "what happens", "outcome", "s"), rows)


def _attack(found: dict[str, Any]) -> tuple[str, ...]:
    main = found["metrics"].get(found["main"])
    if main is None:
        return code(found["attack"]), ", ".join(found["knowledge"]), found["main"], *[NOTHING] * 4, found["verdict"]
    arms = (_arm(main, arm) for arm in ("target", "control", "chance", "wrong_key"))
    return code(found["attack"]), ", ".join(found["knowledge"]), main["text"], *arms, found["verdict"]


def _arm(main: dict[str, Any], arm: str) -> str:
    bounds = main["ci95"].get(arm)
    return number(main[arm]) + (f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds and main[arm] is not None else "")
