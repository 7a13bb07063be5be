"""A tree against its manifest: what is missing, was added, changed or renamed; and every file's own MAC."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from crypto.files.kinds import FileKind
from crypto.files.registry import kind_of, recognise
from crypto.keyring import Keyring
from crypto.reading.look import HEAD_BYTES, read_head
from crypto.tree.index import FAILED, Index
from crypto.tree.manifest import read_manifest
from crypto.tree.paths import MANIFEST, folders_above
from crypto.tree.progress import TreeProgress
from crypto.tree.records import HIDE, Marks, read_heading
from crypto.tree.report import TABLE_ROWS, Summary
from crypto.tree.run import BATCH_SECONDS, MakeCrew, Result
from crypto.tree.tasks import DIGEST, VERIFY, Outcome, Task, setup_of
from crypto.tree.walk import FILE, Found, walk
from crypto.tree.workers import Workers
from medveil.errors import FormatError, IntegrityError, MedVeilError
from medveil.plain import shown

_EXTRA = "extra"


def verify_tree(
    root: Path, keys: Keyring, *, jobs: int = 1, crew: MakeCrew = Workers, console: Console | None = None
) -> Result:
    """Check a tree that `crypto.tree.run.run_tree` wrote; nothing in it is written.

    Parameters
    ----------
    root
        The folder with the manifest.
    keys, jobs, crew, console
        As for `run_tree`.

    Returns
    -------
    Result
        ``done`` counts files that are as they were written; every other is named.

    Raises
    ------
    IntegrityError
        There is no manifest, or it was changed itself.
    KeyMaterialError
        It was written under a key the ring does not hold.
    """
    heading = read_heading(root / MANIFEST)
    if heading is None:
        cure = "let the run that writes it end, or verify files one by one"
        raise IntegrityError("there is no manifest", where=root / MANIFEST, cure=cure)
    records = read_manifest(root / MANIFEST, keys)
    with Index(Marks(keys.find(heading.fingerprint))) as index:
        for record in records:
            index.add(record)
        check = _Check(root, index, hidden=heading.action == HIDE)
        setup = setup_of(keys, None, proof=heading.fingerprint)
        with crew(setup, jobs, None) as workers, TreeProgress(root, check.summary, console=console) as progress:
            for outcome in workers.run(check.tasks(), tick=BATCH_SECONDS):
                if outcome is not None:
                    progress.passed(outcome.task.size)
                    check.take(outcome)
                progress.show()
        check.settle()
        reasons = {FAILED: list(index.reasons(FAILED, TABLE_ROWS))}
        return Result(summary=check.summary, failed=list(index.said(FAILED, TABLE_ROWS)), reasons=reasons)


class _Check:
    """The state of one check.

    Parameters
    ----------
    root
        The tree.
    index
        What the manifest lists.
    hidden
        Whether its files are hidden, and have MACs of their own.
    """

    def __init__(self, root: Path, index: Index, *, hidden: bool) -> None:
        self._root, self._index, self._hidden = root, index, hidden
        self.summary = Summary()

    def tasks(self) -> Iterator[Task]:
        """A task for each file: those of the manifest to be verified, others to be known again by their digest."""
        for found in walk(self._root):
            record = self._index.find(found.name)
            if found.status != FILE:
                self._fail(found.name, found.why if record else "is not in the manifest")
                self._index.see(found.name)
                continue
            source = os.fspath(self._root / found.name)
            if record is None:
                yield Task(action=DIGEST, name=found.name, source=source, size=found.stamp.size)
                continue
            self._index.see(found.name)
            kind = self._kind(found) if self._hidden else ""
            action = VERIFY if self._hidden else DIGEST
            if kind is not None:
                yield Task(action=action, name=found.name, kind=kind, source=source, size=found.stamp.size)

    def take(self, outcome: Outcome) -> None:
        """Judge a file by what its task gave."""
        name = outcome.task.name
        record = self._index.find(name)
        if outcome.problem:
            self._fail(name, outcome.problem, outcome.exit_code)
        elif record is None:
            self._index.say(_EXTRA, name, outcome.digest)
        elif outcome.digest != record.digest:
            self._fail(name, "was written anew: its bytes are not those of the manifest")
        else:
            self.summary.done += 1
            self.summary.bytes_read += outcome.size
            self.summary.frames += record.frames
            self.summary.kinds[record.kind] += 1

    def settle(self) -> None:
        """Name what was renamed, added or is missing."""
        for name, digest in self._index.said(_EXTRA):
            lost = self._index.unseen_with(digest)
            if lost is None:
                self._fail(name, "is not in the manifest")
            else:
                self._index.see(lost.target)
                self._fail(name, f"is {shown(lost.target)}, renamed")
        for record in self._index.unseen():
            self._fail(record.target, "is missing")

    def _kind(self, found: Found) -> str | None:
        try:
            kind = recognise(read_head(self._root / found.name, HEAD_BYTES, links=False))
        except MedVeilError as error:
            self._fail(found.name, error.problem, error.exit_code)
            return None
        if kind is None:
            self._fail(found.name, "is damaged: it is no hidden file any more")
            return None
        return kind.name

    def _fail(self, name: str, why: str, code: int = IntegrityError.exit_code) -> None:
        self.summary.failed += 1
        self.summary.codes[code] += 1
        self._index.say(FAILED, name, why)


def verify_file(path: Path, keys: Keyring) -> str:
    """Check one hidden file; whether it was hidden under the name it has (`crypto.files.header.place_of`).

    Raises
    ------
    FormatError
        It is no hidden file.
    KeyMaterialError, IntegrityError
        It was hidden under another key, or was changed.
    """
    names = [path.name, *(f"{folder}/{path.name}" for folder in folders_above(path.parent))]
    return hidden_kind(path).verify(path, keys, names=names)


def hidden_kind(path: Path) -> FileKind:
    """The kind of a hidden file (FormatError where it is none)."""
    kind = kind_of(path)
    if kind is None:
        raise FormatError("is not a hidden file", where=path)
    return kind
