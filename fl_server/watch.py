"""Who watches a federation: nothing, a log, or a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fl_server.rows import SiteRow
from medveil import plain
from medveil.log import logger

_SHORT = 8
_log = logger("server")


class Watcher:
    """Hears what happens, as it happens; this one does nothing. Override what you need."""

    def say(self, text: str) -> None:
        """A sentence for people."""

    def sites(self, rows: Sequence[SiteRow]) -> None:
        """The sites that take part, before round 1."""

    def goes_on(self, round_: int) -> None:
        """Training begins after this round (0: from the start); what was heard of later ones no longer counts."""

    def phase(self, round_: int, phase: str, sites: Sequence[str]) -> None:
        """Messages of a phase ("train" or "evaluate") are about to go to these sites."""

    def line(self, line: dict[str, Any]) -> None:
        """A line was added to metrics.jsonl."""

    def left_out(self, round_: int, site: str, reason: str) -> None:
        """A site's update was left out of a round."""

    def ended(self, summary: dict[str, Any]) -> None:
        """The run is over."""


class Watchers(Watcher):
    """Several who watch, each told the same in the order given."""

    def __init__(self, *watchers: Watcher) -> None:
        self._watchers = watchers

    def say(self, text: str) -> None:
        """Tell all."""
        for each in self._watchers:
            each.say(text)

    def sites(self, rows: Sequence[SiteRow]) -> None:
        """Tell all."""
        for each in self._watchers:
            each.sites(rows)

    def goes_on(self, round_: int) -> None:
        """Tell all."""
        for each in self._watchers:
            each.goes_on(round_)

    def phase(self, round_: int, phase: str, sites: Sequence[str]) -> None:
        """Tell all."""
        for each in self._watchers:
            each.phase(round_, phase, sites)

    def line(self, line: dict[str, Any]) -> None:
        """Tell all."""
        for each in self._watchers:
            each.line(line)

    def left_out(self, round_: int, site: str, reason: str) -> None:
        """Tell all."""
        for each in self._watchers:
            each.left_out(round_, site, reason)

    def ended(self, summary: dict[str, Any]) -> None:
        """Tell all."""
        for each in self._watchers:
            each.ended(summary)


class LogWatcher(Watcher):
    """Writes each event to the log; shows the preflight table where there is a terminal.

    Parameters
    ----------
    reveal
        Show key fingerprints in full.
    console
        Where to show the table; by default stderr.
    """

    def __init__(self, *, reveal: bool = False, console: Console | None = None) -> None:
        self._reveal = reveal
        self._console = console or plain.stderr_console()

    def say(self, text: str) -> None:
        """Log a sentence."""
        _log.info("%s", text)

    def sites(self, rows: Sequence[SiteRow]) -> None:
        """Show the preflight table, or log a line for each site."""
        if self._console.is_terminal:
            plain.say_table(self._console, site_table(rows, reveal=self._reveal))
            return
        for row in rows:
            cells = zip(_COLUMNS, _cells(row, reveal=self._reveal), strict=True)
            _log.info("%s", ", ".join(f"{name} {cell}" for name, cell in cells))

    def phase(self, round_: int, phase: str, sites: Sequence[str]) -> None:
        """Log which sites a phase begins with."""
        _log.info("round %d: %s at %s", round_, phase, ", ".join(sites))

    def line(self, line: dict[str, Any]) -> None:
        """Log the measures of a site."""
        _log.info("round %d: %s: %s%s", line["round"], line["site"], line["phase"], _measures(line))

    def ended(self, summary: dict[str, Any]) -> None:
        """Log the result."""
        _log.info("%s after %d rounds: test%s", summary["status"], summary["rounds"], _measures(summary))


_COLUMNS = ("site", "train", "validation", "test", "images per class", "skipped", "scheme", "key")


def site_table(rows: Sequence[SiteRow], *, reveal: bool = False) -> Table:
    """The preflight table, for a rich console."""
    table = Table(title="Sites (0 images: none, or fewer than the site tells of)")
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in {"train", "validation", "test", "skipped"} else "left")
    for row in rows:
        # A site chooses its own name and classes: no markup of theirs is interpreted.
        table.add_row(*(escape(cell) for cell in _cells(row, reveal=reveal)))
    return table


def _cells(row: SiteRow, *, reveal: bool) -> tuple[str, ...]:
    counts = ", ".join(f"{name} {count}" for name, count in zip(row.classes, row.counts, strict=False))
    key = row.fingerprint if reveal or not row.fingerprint else _shortened(row.fingerprint)
    scheme = f"{row.scheme} {row.block}{' negated' if row.negate else ''}"
    parts = (str(row.n_train), str(row.n_validation), str(row.n_test))
    return (row.site, *parts, counts, str(row.skipped), scheme, key or "none")


def _shortened(fingerprint: str) -> str:
    prefix = "sim-" if fingerprint.startswith("sim-") else ""
    return f"{prefix}{fingerprint.removeprefix(prefix)[:_SHORT]}..."


def _measures(values: dict[str, Any]) -> str:
    shown = [f" {name} {values[name]:.4f}" for name in ("loss", "accuracy", "auroc") if values.get(name) is not None]
    return "".join(shown) or " not measured"
