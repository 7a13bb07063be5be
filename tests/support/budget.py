"""What the tests of each package may take in all, beside what they took: printed, never a reason to fail.

Seconds are those of set-up, call and teardown added up over the workers, so that two of them side by side count twice.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

BUDGET_S = {
    "crypto": 150,
    "e2e": 700,
    "fl_client": 130,
    "fl_server": 90,
    "medveil": 90,
    "models": 40,
    "simulations": 220,
}
"""Seconds a package: aims, on two cores that do nothing else, for `make test` to end within eight minutes."""


class Budget:
    """Prints a line a package at the end of a run."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        took: Counter[str] = Counter()
        for reports in terminalreporter.stats.values():
            for report in reports:
                if isinstance(report, pytest.TestReport):
                    took[package_of(report.nodeid)] += report.duration
        terminalreporter.section("seconds a package, and its budget")
        for package, seconds in sorted(took.items()):
            allowed = BUDGET_S.get(package)
            over = "" if allowed is None or seconds <= allowed else "   over"
            terminalreporter.line(f"{package:<12} {seconds:7.1f} {'-' if allowed is None else allowed:>5}{over}")


def package_of(nodeid: str) -> str:
    """The package that a test's file is about: the folder below ``tests``."""
    parts = Path(nodeid.partition("::")[0]).parts
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else "other"
