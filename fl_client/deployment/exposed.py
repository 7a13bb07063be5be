"""A site's state in numbers, for Prometheus: of what `status` and its own audit log show, and nothing of its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.running import status
from medveil.audit import ANSWERED, REFUSED
from medveil.bounded import parse_json
from medveil.errors import FormatError
from medveil.exposition import Family, disk_free, moment_of
from medveil.kinds import KINDS

_MOST_LINE = 2**20
_OTHER = "other"


class Exposed:
    """Looks at one site, again and again.

    Parameters
    ----------
    files
        The site.
    """

    def __init__(self, files: OwnFiles) -> None:
        self._files = files
        self._log = CountedLog(files.audit.path)

    def __call__(self) -> Iterator[Family]:
        """Look (errors as `status`)."""
        found = status(self._files)
        yield Family("site_connected", "Whether this site is in session with its server.").add(found["connected"])
        up = Family("process_up", "Whether a process of this site runs.")
        for name, pid in found["processes"].items():
            up.add(pid is not None, process=name)
        yield up
        answered = found["answered"] or {}
        seen = Family("server_last_answer_timestamp_seconds", "When the server answered last, in seconds since 1970.")
        yield seen.add(moment_of(answered.get("at")))
        left = Family("certificate_days_left", "Days until the authority's certificate expires.")
        yield left.add(found["authority_days_left"], of="authority")
        self._log.read()
        done = Family("answered_total", "Messages answered since the audit log began; train: rounds of training.")
        for kind, count in sorted(self._log.answered.items()):
            done.add(count, kind=kind)
        yield done
        refused = Family("refused_total", "Messages refused since the audit log began, by the kind of the refusal.")
        for kind, count in sorted(self._log.refused.items()):
            refused.add(count, error=kind)
        yield refused
        spent = found["privacy"] or {}
        yield Family("privacy_epsilon", "What all runs with noise have cost a unit of the images.").add(
            spent.get("epsilon")
        )
        yield disk_free(state=self._files.state)


class CountedLog:
    """How often an audit log says that something was answered or refused; only what was added is read anew.

    Parameters
    ----------
    path
        The log.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def read(self) -> None:
        """Count the whole lines that were added; a log that became shorter is another, counted from its start."""
        if not self._path.exists():
            return
        if self._path.stat().st_size < self._read:
            self._read = 0
            self.answered.clear()
            self.refused.clear()
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            while (line := stream.readline(_MOST_LINE)).endswith(b"\n"):
                self._read += len(line)
                self._count(line)

    def _count(self, line: bytes) -> None:
        try:
            record = parse_json(line.decode(), where=self._path)
            event, details = record["event"], record["details"]
        except (FormatError, ValueError, KeyError, TypeError):
            # Whether the log is whole, `audit verify` says.
            return
        if event == ANSWERED:
            kind = str(details.get("kind"))
            self.answered[kind if kind in KINDS else _OTHER] += 1
        elif event == REFUSED:
            error = str(details.get("error"))
            self.refused[error if error.isidentifier() else _OTHER] += 1
