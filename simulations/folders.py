"""The folder of a run: whether one may begin there, and what a refusal leaves of it."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crypto.config import FIRST_DERIVATION
from fl_client.data.config import SIMILAR_FILE as SIMILAR
from fl_server.manifest import WRITER, writing
from fl_server.manifest import read_manifest as read_whole
from medveil.claims import claimed
from medveil.errors import ConfigError, FederationError, FormatError, MedVeilError, StorageError
from medveil.files import make_folder, storage_error

MANIFEST = "manifest.json"
_LOCK = ".run"
_LOCK_FILE = f"{_LOCK}.lock"
_WRITER_FILE = f"{WRITER}.lock"
LEFT_S = 30.0
"""Seconds to wait for the processes of a command that was killed, which end with it."""
TAKEN = "taken.json"
"""In the folder of a run whose records alone lie there, taken from a file of results."""
_PHANTOMS = "phantoms"
BASIS = "basis.json"
_DRAWN = {_PHANTOMS, f"{_PHANTOMS}.lock", _LOCK_FILE, _WRITER_FILE, BASIS, SIMILAR}
_DRAWING = f".{_PHANTOMS}."
"""What a run that was killed before it began may leave in its folder."""


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold a run folder that is there, so that two processes never run in one.

    Raises
    ------
    StorageError
        Another process holds it, or a server's app that outlived its command writes there; which one and since when.
    """
    with claimed(out / _LOCK, seconds=LEFT_S, cure="wait for its end, or end it: kill {pid}"):
        if (out / _WRITER_FILE).exists():
            with writing(out):
                # Nobody of an earlier command writes here any more, and no later one comes in.
                pass
        yield


class Begun:
    """A run folder as it was found; see `begun`."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._missing = [each for each in (out, *out.parents) if not each.is_dir()]
        self._before = set() if self._missing else {path.name for path in out.iterdir()}

    def replace(self, *, but_phantoms: bool) -> None:
        """Remove the earlier run."""
        empty(self._out, but_phantoms=but_phantoms)
        self._before = {path.name for path in self._out.iterdir()}

    def leave(self) -> None:
        """Remove what came since, and of the folder and those above it what was not there."""
        for each in list(self._out.iterdir()):
            if each.name not in self._before:
                with contextlib.suppress(MedVeilError):
                    # The refusal is the error to tell.
                    _remove(each)
        for each in self._missing:
            with contextlib.suppress(OSError):
                each.rmdir()


@contextlib.contextmanager
def begun(out: Path, *, replace: bool) -> Iterator[Begun]:
    """Make and hold the folder of a new run; where the run is refused before it trained, nothing of it is left.

    Raises
    ------
    ConfigError
        As `check_free`.
    StorageError
        Another process holds it.
    """
    check_free(out, replace=replace)
    found = Begun(out)
    make_folder(out)
    with held(out):
        check_free(out, replace=replace)
        try:
            yield found
        except MedVeilError as error:
            # With space, or with its sites back, such a run goes on.
            mended = isinstance(error, FederationError | StorageError) and (out / MANIFEST).exists()
            if not mended and not _trained(out):
                found.leave()
            raise


@contextlib.contextmanager
def many(out: Path, lock: str, *, jobs: int) -> Iterator[Path]:
    """Make and hold the folder of many runs; where all are refused before one began, nothing of it is left.

    Raises
    ------
    ConfigError
        So many `jobs` side by side are none.
    StorageError
        Another process holds it.
    """
    if jobs < 1:
        raise ConfigError(f"is {jobs}", where="jobs", cure="1 or more")
    out = out.absolute()
    found = Begun(out)
    make_folder(out)
    with claimed(out / lock, seconds=LEFT_S, cure="wait for its end, or end it: kill {pid}; or name another folder"):
        try:
            yield out.resolve()
        except MedVeilError:
            if all(_is_drawn(each) or each.name == f"{lock}.lock" for each in out.iterdir()):
                found.leave()
            raise


def check_free(out: Path, *, replace: bool) -> None:
    """Refuse a folder in which no run may begin; nothing is changed.

    Raises
    ------
    ConfigError
        It is not empty, or holds what is no run and is to be replaced.
    """
    # What is no folder is refused when the folder is made.
    if not out.is_dir() or all(_is_drawn(each) for each in out.iterdir()):
        return
    if not replace:
        cure = "name another folder"
        if (out / MANIFEST).is_file():
            cure += ", replace the run there (--replace; replace=True) or go on with it (--resume; resume)"
        raise ConfigError("is not empty", where=out, cure=cure)
    try:
        read_manifest(out)
    except FormatError as error:
        raise ConfigError("holds something that is not a run", where=out, cure="name another folder") from error


def empty(out: Path, *, but_phantoms: bool) -> None:
    """Remove a run but for its locks, the manifest last: until then it still is a run."""
    # Which images look alike is of the images, and not of the run.
    kept = {_LOCK_FILE, _WRITER_FILE, SIMILAR, *({_PHANTOMS, f"{_PHANTOMS}.lock"} if but_phantoms else ())}
    for each in sorted(out.iterdir(), key=lambda path: path.name == MANIFEST):
        if each.name not in kept:
            _remove(each)


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises
    ------
    ConfigError
        There is none: `run` is not a run folder.
    """
    path = run / MANIFEST
    if not path.is_file():
        if run.is_dir() and (run / _LOCK_FILE).is_file() and all(_is_drawn(each) for each in run.iterdir()):
            cure = "give the command that was to begin it again"
            raise ConfigError("holds a run that was ended before it began", where=run, cure=cure)
        raise ConfigError("is not a run folder", where=run, cure=f"a run folder holds {MANIFEST}")
    document = read_whole(path)
    for section in ("experiment", "run_config"):
        # A run that names no derivation was made before there were two.
        if isinstance(document.get(section), dict) and isinstance(document[section].get("cipher"), dict):
            document[section]["cipher"].setdefault("derivation", FIRST_DERIVATION)
    return document


def resuming(run: Path | str) -> str:
    """The command that goes on with a run, as a shell takes it."""
    return f"medveil-sim run --resume {shlex.quote(str(run))}"


def refuse_taken(run: Path) -> None:
    """Refuse to go on with, or to ask the model of, a run of which only records lie here (ConfigError)."""
    if (run / TAKEN).is_file():
        problem = "holds the records of a run, taken from a file of results, and no model"
        raise ConfigError(problem, where=run, cure="its model lies where it ran; or run it anew into another folder")


def _is_drawn(path: Path) -> bool:
    return path.name in _DRAWN or path.name.startswith(_DRAWING)


def _trained(out: Path) -> bool:
    """Whether a run came so far that there is something to go on with, or to look at."""
    return (out / "metrics.jsonl").exists() or any((out / "checkpoints").glob("*"))


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as error:
        raise storage_error(error, path, "remove the earlier run") from error
