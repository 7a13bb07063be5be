"""What the tests of each package may take in all, beside what they took: printed, never a reason to fail.

Seconds are those of set-up, call and teardown added up over the workers, so that two of them side by side count twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

BUDGET_S = {
    "crypto": 230,
    "docsite": 24,
    "e2e": 380,
    "fl_client": 260,
    "fl_server": 95,
    "medveil": 110,
    "models": 50,
    "simulations": 480,
}
"""Seconds a package: aims, on two cores that do nothing else, for `make test` to end within eight minutes.

Four workers have 1920 s in eight minutes, two of them waiting at any time; collecting, once for all, comes first.
"""


class Budget:
    """Prints a line a package at the end of a run."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        took: Counter[str] = Counter()
        for reports in terminalreporter.stats.values():
            for report in reports:
                if isinstance(report, pytest.TestReport):
                    took[package_of(report.nodeid)] += report.duration
        terminalreporter.section("seconds a package, and its budget")
        for line in lines(took):
            terminalreporter.line(line)


def lines(took: Mapping[str, float]) -> Iterator[str]:
    """A line a package, and one for all of them: seconds, budget, and by how much it is over."""
    for package, seconds in sorted(took.items()):
        yield _line(package, seconds, BUDGET_S.get(package))
    yield _line("all", sum(took.values()), sum(BUDGET_S.get(package, 0) for package in took))


def _line(what: str, seconds: float, allowed: int | None) -> str:
    over = "" if allowed is None or seconds <= allowed else f"   over by {seconds - allowed:.1f}"
    return f"{what:<12} {seconds:7.1f} {'-' if allowed is None else allowed:>5}{over}"


def package_of(nodeid: str) -> str:
    """The package that a test's file is about: the folder below ``tests``."""
    parts = Path(nodeid.partition("::")[0]).parts
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else "other"
