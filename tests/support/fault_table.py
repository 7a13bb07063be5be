"""A table after a run of the tests: a fault's kind, what was done, what happened, passed or not, seconds.

Where the variable `FILE` names a file, the same is left there as JSON, for the documentation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE = "MEDVEIL_FAULTS"
_HEAD = ("kind", "fault", "what happened", "outcome", "s")
_OUTCOMES = {"passed": "passed", "failed": "FAILED", "skipped": "not run"}


class FaultTable:
    """Collects tests marked ``@pytest.mark.fault(done, happened)``; a test may carry several.

    ``kind`` may be named where it is another than that of the test's file.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[str, str, str]]] = {}
        self._seconds: dict[str, float] = {}
        self._outcomes: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Count every phase: a test whose processes do not end has not passed."""
        report: pytest.TestReport = yield  # type: ignore[assignment]
        marks = [(mark.kwargs.get("kind", _kind(item)), *mark.args) for mark in item.iter_markers("fault")]
        if marks:
            rows = [(kind, done.format_map(_given(item)), happened) for kind, done, happened in reversed(marks)]
            self._rows[item.nodeid] = rows
            self._seconds[item.nodeid] = self._seconds.get(item.nodeid, 0.0) + report.duration
            # What was only set up, and then interrupted, did not pass.
            if report.outcome != "passed" or (report.when == "call" and item.nodeid not in self._outcomes):
                self._outcomes[item.nodeid] = report.outcome
        return report  # type: ignore[return-value]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, and leave it as a file where one is named."""
        if not self._rows:
            return
        lines = [
            (kind, done, happened, _OUTCOMES[self._outcomes.get(test, "skipped")], f"{self._seconds[test]:.0f}")
            for test, rows in self._rows.items()
            for kind, done, happened in rows
        ]
        if os.environ.get(FILE):
            leave(Path(os.environ[FILE]), lines)
        widths = [max(len(row[column]) for row in [_HEAD, *lines]) for column in range(len(_HEAD))]
        terminalreporter.section("faults")
        for row in (_HEAD, *lines):
            cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
            terminalreporter.line("  ".join([*cells, row[-1].rjust(widths[-1])]))


def leave(path: Path, lines: list[tuple[str, str, str, str, str]]) -> None:
    """Write the table as JSON, as ``docs/tools/docsite`` reads it."""
    rows = [
        {"kind": kind, "fault": done, "happened": happened, "outcome": outcome, "seconds": float(seconds)}
        for kind, done, happened, outcome, seconds in lines
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": "medveil-faults", "version": 1, "rows": rows}, indent=2) + "\n")


def _kind(item: pytest.Item) -> str:
    """What kind of fault a test is of: the first word of its file's name beside what all have in common."""
    return item.path.stem.removeprefix("test_").removeprefix("faults_").partition("_")[0]


class _Given(dict[str, object]):
    def __missing__(self, name: str) -> str:
        return "not set up"


def _given(item: pytest.Item) -> _Given:
    """What a title may name: the parameters of a test, and what it has recorded as its properties."""
    called = getattr(item, "callspec", None)
    return _Given({**(called.params if called is not None else {}), **dict(item.user_properties)})
