"""One run over a tree: decide, work side by side, journal, put in place; and go on where an earlier run ended.

A file counts as done when its record is in the journal *and* its result in its place. Results are staged by the
workers; in batches, this process brings them to the disk, then their records, and then renames them. So a run that is
killed at any moment leaves files that are whole, a journal that names all of them, and staged leftovers that the next
run sweeps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from crypto.files.header import UNSAID
from crypto.keyring import Keyring
from crypto.tree.decide import Decider
from crypto.tree.earlier import Earlier
from crypto.tree.forms import Forms
from crypto.tree.index import FAILED, WARNED, Index, Reason
from crypto.tree.journal import VOID, Journal
from crypto.tree.manifest import read_manifest, write_manifest
from crypto.tree.paths import MANIFEST, REPORT, check_apart, folders_above
from crypto.tree.place import Workplace
from crypto.tree.plan import Plan
from crypto.tree.progress import TreeProgress
from crypto.tree.records import Marks, Record, read_heading
from crypto.tree.report import TABLE_ROWS, Summary, write_report
from crypto.tree.tasks import HIDE, SHOW, Outcome, Setup, Task, is_fatal, setup_of
from crypto.tree.walk import FILE, walk
from crypto.tree.workers import Crew, Workers, interrupts_held
from medveil.errors import IntegrityError, MedVeilError, StorageError
from medveil.log import logger
from medveil.plain import shown

BATCH = 256
BATCH_SECONDS = 0.5
NO_MANIFEST = "is not there: that no file is missing, or of another tree under the same key, cannot be told"
UNBOUND = "do not say under which name they were hidden, and no manifest does: each is taken as it is named now"

MakeCrew = Callable[[Setup, int, Path | None], Crew]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to.

    Parameters
    ----------
    summary
        Its counts.
    warnings
        How many things a person should look at.
    failed, warned
        The first rows of what failed and of what to look at, as (name, what is said of it); the report has all.
    reasons
        By sort of row (`crypto.tree.index`), what is said of all of them, each reason once.
    """

    summary: Summary
    warnings: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    warned: list[tuple[str, str]] = field(default_factory=list)
    reasons: dict[str, list[Reason]] = field(default_factory=dict)


def run_tree(plan: Plan, keys: Keyring, *, crew: MakeCrew = Workers, console: Console | None = None) -> Result:
    """Hide or show a tree.

    Parameters
    ----------
    plan
        What to do.
    keys
        The site's. The current one hides, and proves journal and manifest.
    crew
        Who works: by default processes.
    console
        Where to show progress; None is stderr.

    Returns
    -------
    Result
        Also when files failed: they are counted, named, and in the report.

    Raises
    ------
    ConfigError
        Input and output are not apart, or the output was begun with other settings.
    StorageError
        The output cannot be written, or its disk is full.
    IntegrityError, KeyMaterialError
        Of the journal or manifest of an earlier run.
    """
    check_apart(plan.source, plan.target)
    place = Workplace(plan.target, folder_mode=plan.folder_mode)
    with place.held(), Index(Marks(keys.current)) as index:
        return _Run(plan, keys, place, index).all(crew, console)


class _Run:
    """The state of one run."""

    def __init__(self, plan: Plan, keys: Keyring, place: Workplace, index: Index) -> None:
        self._plan, self._keys, self._place, self._index = plan, keys, place, index
        self._marks = Marks(keys.current)
        self._summary = Summary()
        self._decider = Decider(plan, index, self._summary, marks=self._marks, ignores_case=place.ignores_case())
        self._pending: list[Outcome] = []
        self._listed, self._unsaid, self._forms = False, 0, Forms(plan)
        self._flushed = time.monotonic()

    def all(self, crew: MakeCrew, console: Console | None) -> Result:
        """Do all of it, and leave a report however it ends."""
        self._remember()
        status = "failed"
        try:
            self._work(crew, console)
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        finally:
            # A disk that is full has no room for a report either; what stopped the run is the error to show.
            with contextlib.suppress(*(() if status == "finished" else (MedVeilError,))):
                self._report(status)
        self._place.clear()
        failed, warned = (list(self._index.said(sort, TABLE_ROWS)) for sort in (FAILED, WARNED))
        warnings = self._index.how_often(WARNED)
        reasons = {sort: list(self._index.reasons(sort, TABLE_ROWS)) for sort in (FAILED, WARNED)}
        return Result(summary=self._summary, warnings=warnings, failed=failed, warned=warned, reasons=reasons)

    def _remember(self) -> None:
        """Take up the records of earlier runs; with `force`, forget those of other settings."""
        earlier = Earlier(self._plan, self._keys, self._place.journal)
        for path in earlier.stale:
            path.unlink()
        for record in earlier.records():
            self._recall(record, counted=False)
        for record in earlier.unfinished():
            self._recall(record, counted=True)

    def _recall(self, record: Record, *, counted: bool) -> None:
        if record.size == VOID:
            self._index.drop(record.target)
            return
        self._index.add(record)
        self._index.take(record.target, record.source)
        self._forms.recall(record.target)
        if counted:
            self._note(record)

    def _note(self, record: Record) -> None:
        self._summary.counted(record)
        for warning in record.warnings:
            self._index.say(WARNED, record.source, warning)

    def _work(self, crew: MakeCrew, console: Console | None) -> None:
        with (
            self._expected() as expected,
            Journal(self._place.journal, self._plan.heading(self._keys.current), self._marks) as journal,
            crew(self._setup(), self._plan.jobs, self._place.lock) as workers,
            TreeProgress(self._plan.source, self._summary, console=console) as progress,
        ):
            try:
                for outcome in workers.run(self._tasks(expected, progress), tick=BATCH_SECONDS):
                    if outcome is not None:
                        progress.passed(outcome.task.size)
                        self._take(outcome, expected)
                    if len(self._pending) >= BATCH or time.monotonic() - self._flushed > BATCH_SECONDS:
                        self._flush(journal)
                    progress.show()
            except (KeyboardInterrupt, _DiskFullError):
                self._flush(journal)
                raise
            self._flush(journal)
            for record in expected.unseen():
                self._decider.fail(record.target, "is missing: the manifest lists it")
        if self._unsaid:
            self._index.say(WARNED, ".", f"{self._unsaid} files {UNBOUND}")
        if mixed := self._forms.said():
            self._index.say(WARNED, ".", mixed)
        self._settle()

    def _setup(self) -> Setup:
        heading = None if self._plan.recipe is not None else read_heading(self._plan.source / MANIFEST)
        return setup_of(
            self._keys,
            self._plan.recipe,
            lister="" if heading is None else heading.fingerprint,
            above=folders_above(self._plan.source),
            strict=not self._plan.renamed,
            scratch=self._place.scratch,
            leave_unsynced=self._place.syncs_at_once,
        )

    @contextlib.contextmanager
    def _expected(self) -> Iterator[Index]:
        """What the manifest of hidden files says there is to show; nothing where there is none."""
        with Index(self._marks) as index:
            manifest = self._plan.source / MANIFEST
            self._listed = self._plan.recipe is None and manifest.exists()
            if self._listed:
                for record in read_manifest(manifest, self._keys):
                    index.add(record)
            elif self._plan.recipe is None:
                self._index.say(WARNED, MANIFEST, NO_MANIFEST)
            yield index

    def _tasks(self, expected: Index, progress: TreeProgress) -> Iterator[Task]:
        action = SHOW if self._plan.recipe is None else HIDE
        for found in walk(self._plan.source):
            if found.status == FILE:
                expected.see(found.name)
            todo = self._decider.decide(found)
            if todo is None:
                progress.passed(found.stamp.size, worked=False)
                continue
            listed = self._listed_as(todo.name, expected)
            if listed is None:
                progress.passed(found.stamp.size, worked=False)
                self._decider.fail(todo.name, "is not in the manifest", IntegrityError.exit_code)
                continue
            source = os.fspath(self._plan.source / todo.name)
            part = os.fspath(self._place.stage())
            yield Task(action=action, source=source, part=part, listed=listed, **vars(todo))

    def _listed_as(self, name: str, expected: Index) -> str | None:
        """HMAC of the file of this name in the manifest; empty where none is asked, None where it is not in there."""
        if not self._listed or self._plan.renamed:
            return ""
        record = expected.find(name)
        return None if record is None else record.digest

    def _take(self, outcome: Outcome, expected: Index) -> None:
        if outcome.trace:
            for line in (f"a defect met {outcome.task.name}", *outcome.trace.splitlines()):
                logger("crypto").debug("%s", line)
        if outcome.fatal:
            raise _DiskFullError(outcome.problem, where=self._plan.target)
        if outcome.problem and not self._place.is_there():
            raise StorageError("was removed while it was worked on", where=self._plan.target, cure="run again")
        if outcome.problem:
            right = expected.named_with(outcome.found) if outcome.found else None
            is_other = f", but {shown(right.target)}" if right is not None else ""
            self._decider.fail(outcome.task.name, outcome.problem + is_other, outcome.exit_code)
        else:
            self._forms.add(outcome.report.channels)
            self._unsaid += outcome.report.place == UNSAID and not outcome.task.listed
            self._pending.append(outcome)

    def _flush(self, journal: Journal) -> None:
        """Record what was finished, then put it in its place."""
        with interrupts_held():
            self._flushed = time.monotonic()
            finished = [(outcome, self._record(outcome)) for outcome in self._pending]
            self._pending.clear()
            if not finished:
                return
            self._place.settle()
            journal.add(record for _, record in finished)
            void = [record for outcome, record in finished if not self._put(outcome, record)]
            if void:
                journal.add(dataclasses.replace(record, size=VOID) for record in void)

    def _record(self, outcome: Outcome) -> Record:
        task, report = outcome.task, outcome.report
        return Record(
            source=task.name,
            target=task.target,
            kind=task.kind,
            frames=report.frames,
            size=outcome.size,
            stamp=self._marks.stamp(outcome.stamp),
            digest=outcome.digest,
            warnings=tuple(report.warnings),
            removed=tuple(report.removed),
            replaced=tuple(report.replaced),
        )

    def _put(self, outcome: Outcome, record: Record) -> bool:
        task = outcome.task
        try:
            self._place.put(Path(task.part), task.target, replace=task.replace)
        except StorageError as error:
            if is_fatal(error):
                raise
            self._decider.fail(task.name, error.problem, error.exit_code)
            return False
        self._index.add(record)
        self._index.see(record.target)
        self._summary.finished(outcome)
        self._summary.kinds[record.kind] += 1
        self._note(record)
        return True

    def _settle(self) -> None:
        """Write the manifest of all that is there: done now, or by runs before."""
        gone = [each for each in self._index.unseen() if not os.path.lexists(self._plan.target / each.target)]
        for record in gone:
            self._index.drop(record.target)
            self._index.say(WARNED, record.source, "was done before, and input and output are both gone")
        self._place.settle()
        if self._index.count():
            write_manifest(
                self._plan.target / MANIFEST, self._plan.heading(self._keys.current), self._index.lines(), self._marks
            )

    def _report(self, status: str) -> None:
        path = self._plan.target / REPORT
        write_report(path, status=status, about=self._plan.as_json(), summary=self._summary, index=self._index)


class _DiskFullError(StorageError):
    """Every further file would meet the same."""
