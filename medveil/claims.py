"""What one process at a time may write in: a lock that names its holder.

A lock of the kernel's goes with the last process that has the file open. So what a process claims, the leash of its
processes (`medveil.tied`) holds as well, until the last of them has ended: whoever claims it next meets none of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from medveil.bounded import word
from medveil.errors import StorageError
from medveil.files import make_folder, private, storage_error
from medveil.times import moment

_POLL_S = 0.1
_MOST_BYTES = 200
_HELD: set[int] = set()


def held_here() -> tuple[int, ...]:
    """The open files of what this process claims, for those who hold it with this process."""
    return tuple(_HELD)


@contextlib.contextmanager
def claimed(path: str | Path, *, seconds: float, cure: str, patient: bool = False) -> Iterator[None]:
    """Claim a thing for this process and those it starts tied to itself; beside it stands ``PATH.lock``.

    Parameters
    ----------
    path
        What is claimed; it need not exist.
    seconds
        How long to wait for what a process that claimed it, and is gone, left behind.
    cure
        What to do where it is not let go of, with ``{pid}`` where the holder's process id is to stand.
    patient
        Wait as long for a process that is not gone.

    Raises
    ------
    StorageError
        Another process holds it; which one and since when. Or the lock file cannot be made.
    """
    lock = Path(f"{path}.lock")
    make_folder(lock.parent)
    try:
        # Its owner's alone: whoever can open a lock can hold it.
        stream = open(lock, "r+b" if lock.exists() else "w+b", buffering=0, opener=private)  # noqa: SIM115
    except OSError as error:
        raise storage_error(error, lock, "create the lock file") from error
    with stream:
        _take(stream.fileno(), lock, seconds=seconds, cure=cure, patient=patient)
        # Words for a refusal; a full disk must not keep anybody from what is theirs.
        with contextlib.suppress(OSError):
            stream.truncate(0)
            stream.write(f"{os.getpid()} {datetime.now(UTC).isoformat(timespec='seconds')}\n".encode())
        _HELD.add(stream.fileno())
        try:
            yield
        finally:
            _HELD.discard(stream.fileno())


def _take(handle: int, lock: Path, *, seconds: float, cure: str, patient: bool) -> None:
    until = time.monotonic() + seconds
    while not _took(handle, lock):
        holders, (claimant, since) = _holders(lock), _claimant(lock)
        if time.monotonic() < until and (patient or claimant not in holders):
            time.sleep(_POLL_S)
            continue
        pid = claimant if claimant in holders else next(iter(holders), None)
        begun = f"since {moment(since)}" if since else ""
        named = " ".join(filter(None, ["another process", str(pid) if pid else "", begun]))
        raise StorageError(
            f"is in use by {named}", where=lock.with_suffix(""), cure=cure.format(pid=pid or "its process id")
        )


def _took(handle: int, lock: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise storage_error(error, lock, "lock the file") from error
    return True


def _holders(lock: Path) -> list[int]:
    """Who has the lock now: the one that claimed it, or the leash of its processes; none without ``/proc``."""
    name, found = str(lock.resolve()), []
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        # Processes end while they are looked at, and others' are closed to us.
        with contextlib.suppress(OSError):
            if os.readlink(entry) == name and "lock:" in _flags(entry):
                found.append(int(entry.parts[2]))
    return found


def _flags(entry: Path) -> str:
    return (entry.parents[1] / "fdinfo" / entry.name).read_text(errors="replace")


def _claimant(lock: Path) -> tuple[int | None, str]:
    """Process id and time as they were written down, shown and never obeyed; None and no text where they were not."""
    try:
        with open(lock, "rb") as stream:
            said = stream.read(_MOST_BYTES).decode(errors="replace").split()
    except OSError:
        return None, ""
    if len(said) != 2 or not said[0].isascii() or not said[0].isdecimal():
        return None, ""
    return int(said[0]), word(said[1])
