"""A table after a run of the tests: a fault's kind, what was done, what happened, passed or not, seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

_OUTCOMES = {"passed": "passed", "failed": "FAILED", "skipped": "not run"}


class FaultTable:
    """Collects tests marked ``@pytest.mark.fault(done, happened)``; a test may carry several."""

    def __init__(self) -> None:
        self._rows: dict[str, list[tuple[str, str, str]]] = {}
        self._seconds: dict[str, float] = {}
        self._outcomes: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Count every phase: a test whose processes do not end has not passed."""
        report: pytest.TestReport = yield  # type: ignore[assignment]
        marks = [mark.args for mark in item.iter_markers("fault")]
        if marks:
            rows = [(_kind(item), done.format_map(_given(item)), happened) for done, happened in reversed(marks)]
            self._rows[item.nodeid] = rows
            self._seconds[item.nodeid] = self._seconds.get(item.nodeid, 0.0) + report.duration
            # What was only set up, and then interrupted, did not pass.
            if report.outcome != "passed" or (report.when == "call" and item.nodeid not in self._outcomes):
                self._outcomes[item.nodeid] = report.outcome
        return report  # type: ignore[return-value]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if not self._rows:
            return
        lines = [
            (kind, done, happened, _OUTCOMES[self._outcomes.get(test, "skipped")], f"{self._seconds[test]:.0f}")
            for test, rows in self._rows.items()
            for kind, done, happened in rows
        ]
        head = ("kind", "fault", "what happened", "outcome", "s")
        widths = [max(len(row[column]) for row in [head, *lines]) for column in range(len(head))]
        terminalreporter.section("faults")
        for row in (head, *lines):
            cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
            terminalreporter.line("  ".join([*cells, row[-1].rjust(widths[-1])]))


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
