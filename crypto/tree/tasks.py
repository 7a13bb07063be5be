"""What is done to one file, in whatever process: plain data goes in, plain data comes out, no error escapes."""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import stat
import traceback
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crypto.files.header import ELSEWHERE
from crypto.files.kinds import FileKind, FileReport
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_named
from crypto.files.sealed_kind import hide_sealed
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree.records import Marks
from crypto.tree.walk import Stamp
from medveil.errors import DataError, IntegrityError, MedVeilError, StorageError
from medveil.files import storage_error

HIDE, SHOW, VERIFY, DIGEST = "hide", "show", "verify", "digest"
MOVED = "was hidden under another name, or in another folder"

_DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_DEFECT = 1
_MODES = {HIDE: 0o644, SHOW: 0o600}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One file to work on.

    Parameters
    ----------
    action
        ``HIDE``, ``SHOW``, ``VERIFY`` (its MAC and its digest) or ``DIGEST`` alone.
    name, target
        Relative names of the source and of what it becomes.
    kind
        Name of the source's kind.
    source, part
        Paths: of the source, and of the place the result is staged in.
    size, replace
        Bytes of the source, and whether a file in the target's place is to be replaced.
    listed
        HMAC of the hidden file that the manifest lists under this name; empty where there is no manifest to be asked.
    """

    action: str
    name: str
    target: str = ""
    kind: str = ""
    source: str
    part: str = ""
    size: int = 0
    replace: bool = False
    listed: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a task.

    Parameters
    ----------
    task
        The task.
    problem
        What was wrong, with its cure; empty if nothing was.
    exit_code
        Of the error; 0 if there was none.
    trace
        Of a defect of ours, where it was met.
    fatal
        Whether every further file would meet the same: a full disk.
    report, size, stamp, digest
        Of a task that went well.
    found
        HMAC of a hidden file that is not the listed one.
    """

    task: Task
    problem: str = ""
    exit_code: int = 0
    trace: str = ""
    fatal: bool = False
    report: FileReport = field(default_factory=FileReport)
    size: int = 0
    stamp: Stamp = field(default_factory=lambda: Stamp(0, 0))
    digest: str = ""
    found: str = ""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a process needs besides its tasks. It crosses to worker processes through the pipe they are started by.

    Parameters
    ----------
    keys
        Site names and secrets, the current key first. A `SiteKey` refuses to be pickled so that none leaves a process
        by oversight; here it does so on purpose, and only here: never by argument, environment or disk.
    proof
        Fingerprint of the key that digests are made under.
    recipe
        For hiding.
    lister
        Fingerprint of the key that the manifest of hidden files was written under; empty where it is not asked.
    above
        Folders in front of names, for files whose names are given from inside the folder that was hidden.
    strict
        Whether a file that was hidden under another name is refused; else it is said.
    scratch
        A private folder for temporary files, swept by the run that owns it; empty for the system's own.
    leave_unsynced
        Whether results may be left for the parent to bring to the disk.
    """

    keys: tuple[tuple[str, bytes], ...] = field(repr=False)
    proof: str
    recipe: Recipe | None = None
    lister: str = ""
    above: tuple[str, ...] = ()
    strict: bool = True
    scratch: str = ""
    leave_unsynced: bool = False


def setup_of(
    keys: Keyring,
    recipe: Recipe | None,
    *,
    proof: str | None = None,
    lister: str = "",
    above: tuple[str, ...] = (),
    strict: bool = True,
    scratch: Path | None = None,
    leave_unsynced: bool = False,
) -> Setup:
    """What a worker is started with; the one place where secrets are handed to another process."""
    return Setup(
        keys=tuple((key.site, key.secret) for key in keys),
        proof=proof or keys.current.fingerprint,
        recipe=recipe,
        lister=lister,
        above=above,
        strict=strict,
        scratch=str(scratch or ""),
        leave_unsynced=leave_unsynced,
    )


class Desk:
    """Where tasks are done, one after another.

    Parameters
    ----------
    setup
        Keys and recipe.
    """

    def __init__(self, setup: Setup) -> None:
        current, *retired = (SiteKey(secret, site) for site, secret in setup.keys)
        self._keys = Keyring(current, tuple(retired))
        self._recipe = setup.recipe
        self._marks = Marks(self._keys.find(setup.proof))
        self._listed = Marks(self._keys.find(setup.lister)) if setup.lister else None
        self._above, self._strict = setup.above, setup.strict

    def do(self, task: Task) -> Outcome:
        """Do a task. Only the end of the process, or an interrupt, keeps it from an outcome."""
        try:
            return self.attempt(task)
        except _UnlistedError as error:
            return Outcome(task=task, problem=words(error), exit_code=error.exit_code, found=error.found)
        except MedVeilError as error:
            return Outcome(task=task, problem=words(error), exit_code=error.exit_code, fatal=is_fatal(error))
        except MemoryError:
            return Outcome(task=task, problem="needs more memory than there is", exit_code=DataError.exit_code)
        except Exception as error:
            # One file that meets a defect of ours must not end the work on all others.
            said = f"MedVeil failed over it ({type(error).__name__}); see --log-level debug"
            return Outcome(task=task, problem=said, exit_code=_DEFECT, trace=traceback.format_exc())

    def attempt(self, task: Task) -> Outcome:
        """Do a task; what is wrong is raised, and nothing is staged then. Errors as `crypto.files.kinds.FileKind`."""
        source = Path(task.source)
        whole = False
        try:
            before = _state(source)
            report = self._worked(task, source)
            if _state(source) != before:
                raise DataError("changed while it was read", cure="run again when nobody writes to it")
            result = Path(task.part) if task.part else source
            if task.part:
                # Never wider than it was made: the umask counts.
                result.chmod(stat.S_IMODE(result.stat().st_mode) & _MODES[task.action])
            made = Outcome(
                task=task,
                report=report,
                size=result.stat().st_size,
                stamp=Stamp(before.size, before.mtime_ns),
                digest=self._marks.file(result),
            )
            whole = True
        except OSError as error:
            raise storage_error(error, source, "use the file") from error
        finally:
            if task.part and not whole:
                with contextlib.suppress(OSError):
                    os.unlink(task.part)
        return made

    def _worked(self, task: Task, source: Path) -> FileReport:
        if task.action == DIGEST:
            return FileReport()
        kind = kind_named(task.kind)
        if task.action == VERIFY:
            kind.verify(source, self._keys)
            return FileReport()
        if task.action == SHOW:
            return self._shown(kind, task, source)
        assert self._recipe is not None
        hide = partial(hide_sealed, kind) if self._recipe.seal else kind.hide
        return hide(source, Path(task.part), self._recipe, self._keys.current, name=task.target or task.name)

    def _shown(self, kind: FileKind, task: Task, source: Path) -> FileReport:
        if task.listed and self._listed is not None:
            found = self._listed.file(source)
            if not hmac.compare_digest(found, task.listed):
                raise _UnlistedError(found)
        names = [task.name, *(f"{folder}/{task.name}" for folder in self._above)]
        report = kind.show(source, Path(task.part), self._keys, names=names)
        if report.place == ELSEWHERE and not task.listed:
            if self._strict:
                raise IntegrityError(MOVED, cure="put it back, or use --renamed (renamed=True)")
            report.warnings.append(MOVED)
        return report


class _UnlistedError(IntegrityError):
    """A file is not the one that the manifest lists under its name."""

    def __init__(self, found: str) -> None:
        super().__init__("is not the file that the manifest lists under this name")
        self.found = found


def words(error: MedVeilError) -> str:
    """What an error says, without the path, which stands beside it."""
    return error.problem if error.cure is None else f"{error.problem}; {error.cure}"


class _State(NamedTuple):
    """What tells that a file was written to, or replaced, while it was read."""

    size: int
    mtime_ns: int
    ctime_ns: int
    device: int
    inode: int


def _state(path: Path) -> _State:
    found = os.stat(path, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise DataError("is no plain file any more")
    return _State(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_dev, found.st_ino)


def is_fatal(error: MedVeilError) -> bool:
    """Whether the disk refused in a way that every further file would meet: it is full, or read-only."""
    cause = error.__cause__
    return isinstance(error, StorageError) and isinstance(cause, OSError) and cause.errno in _DISK_IS_FULL
