"""What is to be done with each entry of a tree: worked on, passed over, refused, or found done already."""

from __future__ import annotations

import os
from dataclasses import dataclass

from crypto.files.registry import recognise
from crypto.reading.look import HEAD_BYTES, Sort, look_at, read_head
from crypto.tree.index import FAILED, SKIPPED, WARNED, Index
from crypto.tree.plan import Plan
from crypto.tree.records import Marks
from crypto.tree.report import Summary
from crypto.tree.tasks import words
from crypto.tree.walk import FILE, REFUSED, Found
from medveil.errors import DataError, MedVeilError, StorageError
from medveil.files import storage_error
from medveil.plain import shown


@dataclass(frozen=True, kw_only=True)
class ToDo:
    """A file that is to be worked on.

    Parameters
    ----------
    name, target
        Relative names, of the source and of what it becomes.
    kind
        Name of its kind.
    replace
        Whether a file that is there is to be replaced.
    size
        Of the source, in bytes.
    """

    name: str
    target: str
    kind: str
    replace: bool
    size: int


class Decider:
    """Decides over one entry after another; what is not worked on it notes in index and summary.

    Parameters
    ----------
    plan
        What is asked for.
    index, summary
        Where to look up and note.
    marks
        Of the key; None where nothing can be known of earlier runs.
    ignores_case
        Whether names that differ in case alone are one on the output's disk.
    """

    def __init__(
        self, plan: Plan, index: Index, summary: Summary, *, marks: Marks | None, ignores_case: bool = False
    ) -> None:
        self._plan = plan
        self._index, self._summary = index, summary
        self._marks, self._ignores_case = marks, ignores_case

    def decide(self, found: Found) -> ToDo | None:
        """Decide over an entry; None where nothing is to be done with it."""
        if found.status == REFUSED:
            self.fail(found.name, found.why)
        elif found.status != FILE:
            self._skip(found.name, found.why)
        else:
            try:
                return self._file(found)
            except MedVeilError as error:
                self.fail(found.name, words(error), error.exit_code)
        return None

    def fail(self, name: str, why: str, code: int = DataError.exit_code) -> None:
        """Note a file that failed."""
        self._summary.failed += 1
        self._summary.codes[code] += 1
        self._index.say(FAILED, name, why)

    def _skip(self, name: str, why: str) -> None:
        self._summary.skipped += 1
        self._index.say(SKIPPED, name, why)

    def _file(self, found: Found) -> ToDo | None:
        head = read_head(self._plan.source / found.name, HEAD_BYTES, links=False)
        kind = recognise(head)
        seen = look_at(found.name, head)
        # What was hidden is shown again whatever its name.
        junk = seen.sort is Sort.JUNK and self._plan.recipe is not None
        if kind is None or junk:
            self._skip(found.name, seen.why) if seen.sort is not Sort.MISSED else self.fail(found.name, seen.why)
            return None
        target = self._plan.result_name(found.name, kind)
        self._check_name(found.name, target)
        todo = ToDo(name=found.name, target=target, kind=kind.name, replace=self._plan.force, size=found.stamp.size)
        return None if self._is_done(found, todo) else todo

    def _check_name(self, name: str, target: str) -> None:
        before = self._index.take(target, name)
        if before is None or before == (name, target):
            return
        source, taken = before
        if taken == target or self._ignores_case:
            problem = f"would be called {shown(target)}, as {shown(source)} is"
            raise DataError(problem, cure="rename one of them")
        self._index.say(WARNED, name, f"differs in case alone from {shown(source)}: some disks cannot hold both")

    def _is_done(self, found: Found, todo: ToDo) -> bool:
        """Whether an earlier run, or an earlier part of this one, finished the file.

        Raises
        ------
        StorageError
            Something else is in its place and may not be replaced.
        """
        try:
            there = os.stat(self._plan.target / todo.target, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise storage_error(error, todo.target, "write the file") from error
        record = self._index.find(todo.target)
        if record is not None and self._marks is not None:
            if record.size == there.st_size and record.stamp == self._marks.stamp(found.stamp):
                self._index.see(todo.target)
                self._summary.already += 1
                self._summary.kinds[todo.kind] += 1
                return True
            changed = "its result" if record.size != there.st_size else "it"
            problem = f"is done already, and {changed} was changed since"
        else:
            problem = f"{shown(todo.target)} is there already"
        if not self._plan.force:
            raise StorageError(problem, cure="--force (force=True) replaces it")
        return False
