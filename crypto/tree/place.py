"""Where a run works: results are staged beside the output, noted in the journal, and only then put in their place."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from crypto.tree.paths import WORK, make_folders
from crypto.tree.workers import wait_for_workers
from medveil.disks import can_sync_disk, sync_disk, sync_folder
from medveil.errors import StorageError
from medveil.files import locked, make_folder, storage_error

JOURNAL = "journal.jsonl"
LOCK = "workers.lock"
_PARTS = "parts"
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EACCES})


class Workplace:
    """The work folder of one output, held by one run at a time.

    Parameters
    ----------
    root
        The output.
    folder_mode
        Of the folders made in it.

    Attributes
    ----------
    journal, lock : Path
        The run's journal, and the file its workers hold.
    syncs_at_once : bool
        Whether results may be staged unsynced, for `settle` brings them to the disk.
    scratch : Path
        A private folder in this machine's own temporary storage.
    """

    def __init__(self, root: Path, *, folder_mode: int) -> None:
        self.root = root
        self._folder_mode = folder_mode
        self._work = root / WORK
        self._parts = self._work / _PARTS
        self._staged = 0
        self.syncs_at_once = can_sync_disk()
        self._unsynced: set[Path] = set()
        self.journal = self._work / JOURNAL
        self.lock = self._work / LOCK
        name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]
        self.scratch = Path(tempfile.gettempdir()) / f"medveil-{os.getuid()}-{name}"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, and sweep what a killed run left in it.

        Raises
        ------
        StorageError
            The output cannot be written, or another run holds it.
        """
        make_folder(self.root, self._folder_mode)
        make_folder(self._work, 0o700)
        with locked(self._work / "run", wait=False):
            wait_for_workers(self.lock)
            shutil.rmtree(self._parts, ignore_errors=True)
            make_folder(self._parts, 0o700)
            self._make_scratch()
            try:
                yield
            finally:
                shutil.rmtree(self.scratch, ignore_errors=True)
                shutil.rmtree(self._parts, ignore_errors=True)

    def clear(self) -> None:
        """Remove the work folder: the run is over."""
        shutil.rmtree(self._work, ignore_errors=True)

    def is_there(self) -> bool:
        """Whether nobody removed the work folder meanwhile."""
        return self._parts.is_dir()

    def ignores_case(self) -> bool:
        """Whether the output's disk takes names for one that differ in case alone."""
        probe = self._parts / "case"
        try:
            probe.touch()
            return (self._parts / "CASE").exists()
        except OSError as error:
            raise storage_error(error, self.root, "write into the folder") from error

    def stage(self) -> Path:
        """A fresh name to write a result to."""
        self._staged += 1
        return self._parts / f"{self._staged}"

    def settle(self) -> None:
        """Bring to the disk what was staged or put and is not there yet.

        Raises
        ------
        StorageError
            The disk refused.
        """
        here = self._work
        try:
            if self.syncs_at_once:
                sync_disk(here)
            for here in self._unsynced:
                sync_folder(here)
        except OSError as error:
            raise storage_error(error, here, "write to the disk") from error
        self._unsynced.clear()

    def put(self, part: Path, target: str, *, replace: bool) -> None:
        """Move a staged result to its place below the root.

        Parameters
        ----------
        part
            What `stage` gave.
        target
            Relative name.
        replace
            Whether a file that is there may be replaced.

        Raises
        ------
        StorageError
            There is a file already, or the disk refused.
        """
        place = self.root / target
        try:
            make_folders(self.root, Path(*PurePosixPath(target).parts[:-1]), mode=self._folder_mode)
            move(part, place, replace=replace)
        except FileExistsError:
            raise StorageError("is there already", cure="--force (force=True) replaces it") from None
        except OSError as error:
            raise storage_error(error, place, "write the file") from error
        if not self.syncs_at_once:
            self._unsynced.add(place.parent)

    def _make_scratch(self) -> None:
        # Its name can be guessed, so that it can be swept; a folder somebody else made there is not used.
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.scratch, 0o700)
            found = os.lstat(self.scratch)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
                raise StorageError("is not a private folder of ours", where=self.scratch, cure="remove it")
            for left in self.scratch.iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        except OSError as error:
            raise storage_error(error, self.scratch, "use the temporary folder") from error


def move(part: Path, place: Path, *, replace: bool) -> None:
    """Rename a file, but never over one that is there unless asked.

    Raises
    ------
    FileExistsError
        There is one.
    OSError
        The disk refused.
    """
    if replace:
        os.replace(part, place)
        return
    try:
        os.link(part, place)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # A disk without hard links; we are the only one who writes here.
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place)) from None
        os.rename(part, place)
    else:
        os.unlink(part)
