"""One file hidden or shown by name, with neither journal nor manifest."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from crypto.files.header import UNSAID
from crypto.files.registry import recognise
from crypto.keyring import Keyring
from crypto.reading.look import HEAD_BYTES, no_image, read_head
from crypto.tree.paths import folders_above
from crypto.tree.place import move
from crypto.tree.plan import Plan
from crypto.tree.tasks import HIDE, SHOW, Desk, Outcome, Task, setup_of
from medveil.errors import DataError, StorageError
from medveil.files import storage_error


def run_file(plan: Plan, keys: Keyring) -> tuple[Path, Outcome]:
    """Hide or show one file.

    Parameters
    ----------
    plan
        Its source is the file; its target a file to write, or a folder to write into under the file's own name.
    keys
        The site's.

    Returns
    -------
    Path, Outcome
        The file that was written, and what was done.

    Raises
    ------
    DataError
        It is no image, or of a sort that is refused.
    StorageError
        There is a file already, or the disk refused.
    FormatError, KeyMaterialError, IntegrityError
        As `crypto.files.kinds.FileKind.show`.
    """
    source = Path(os.path.realpath(plan.source))
    head = read_head(source, HEAD_BYTES, links=False)
    kind = recognise(head)
    if kind is None:
        raise DataError(no_image(plan.source.name, head), where=plan.source)
    target = place_of(plan, plan.result_name(plan.source.name, kind))
    action = SHOW if plan.recipe is None else HIDE
    with _staging(target) as folder:
        part = folder / "part"
        task = Task(
            action=action,
            name=plan.source.name,
            target=target.name if plan.recipe is not None else "",
            kind=kind.name,
            source=str(source),
            part=str(part),
        )
        outcome = Desk(setup_of(keys, plan.recipe, above=folders_above(source.parent), strict=False)).attempt(task)
        if outcome.report.place == UNSAID:
            outcome.report.warnings.append("it does not say under which name it was hidden")
        try:
            move(part, target, replace=plan.force)
        except FileExistsError:
            raise _there(target) from None
        except OSError as error:
            raise storage_error(error, target, "write the file") from error
    return target, outcome


def place_of(plan: Plan, name: str) -> Path:
    """Where the result of a file goes.

    Raises
    ------
    StorageError
        There is a file and the plan does not force, or it is the source itself.
    """
    target = plan.target / name if plan.target.is_dir() else plan.target
    if os.path.lexists(target):
        if target.exists() and target.samefile(plan.source):
            raise StorageError("is the input itself", where=target, cure="choose another name")
        if not plan.force:
            raise _there(target)
        if not stat.S_ISREG(os.lstat(target).st_mode):
            raise StorageError("is no plain file", where=target, cure="choose another name")
    return target


def _there(target: Path) -> StorageError:
    return StorageError("is there already", where=target, cure="--force (force=True) replaces it")


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A private folder beside the target, always the same for it: what a killed run left there goes first.

    Raises
    ------
    StorageError
        The disk refuses, or another process writes the same file.
    """
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    folder = target.parent / f".medveil.{name}.part"
    with contextlib.ExitStack() as stack:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            # Not a folder that somebody else made or a link leads to: it would get the plain file.
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            stack.callback(os.close, handle)
            found = os.fstat(handle)
            if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
                raise StorageError("is not a private folder of ours", where=folder, cure="remove it")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.iterdir():
                left.unlink()
        except BlockingIOError:
            raise StorageError("is being written by another process", where=target, cure="wait for it") from None
        except OSError as error:
            raise storage_error(error, target, "write the file") from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
