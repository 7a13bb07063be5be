"""Whether what runs is what was hashed: the code Python compiled earlier, and the code a process has loaded.

Python runs ``__pycache__/NAME.pyc`` in place of ``NAME.py`` where size and time agree, whatever is in it. So a hash of
sources (`medveil.fab`) says what runs only where each compiled file is what its source compiles to.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import marshal
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from medveil import fab
from medveil.errors import IntegrityError
from medveil.stamps import Stamp, are_settled, stamp

_HEAD = 16
"""Bytes of a compiled file before its code: magic number, flags, time and size of the source."""
_found_right: dict[str, tuple[Stamp, Stamp]] = {}
"""Compiled files that would not run as something else, and how they and their sources were when that was seen."""


def installed_hash() -> str:
    """The hash of the installed MedVeil, none of whose files would run as something else.

    Raises
    ------
    IntegrityError
        What Python compiled of a file is not what the file compiles to, or the code lies behind a link.
    """
    for name in fab.installed():
        if name.endswith(".py"):
            _check_compiled(f"{fab.ROOT}/{name}")
    return fab.hash_of(fab.installed_fab())


def compared() -> str:
    """What this process compared, for one that it starts: a digest of how all files were then; empty if any changed."""
    now = _now()
    return _digest(now) if all(_found_right.get(path) == stamps for path, stamps in now.items()) else ""


def believe(digest: str) -> None:
    """Take the word of the process that started this one, and compare nothing again that is as it was there.

    Parameters
    ----------
    digest
        Its `compared`, over a way that is for the two alone.
    """
    now = _now()
    if digest == _digest(now):
        _found_right.update(now)


def load_all(packages: Sequence[str]) -> None:
    """Import every module of packages, so that a file that is changed later is not what runs.

    A module that needs what is not installed (an optional extra) stays away.
    """
    for name in packages:
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            try:
                importlib.import_module(found.name)
            except ImportError:
                continue


def _check_compiled(source: str) -> None:
    compiled = _compiled_of(source)
    try:
        stamps = stamp(source), stamp(compiled)
        if _found_right.get(compiled) == stamps:
            return
        data = Path(compiled).read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise IntegrityError(f"cannot be read: {error.strerror}", where=compiled, cure="remove it") from None
    # What is not fresh Python compiles anew.
    if data[:4] == importlib.util.MAGIC_NUMBER and _fresh(data, source) and not _is_same(data, source):
        raise IntegrityError("is not what its source compiles to", where=compiled, cure="remove it")
    if are_settled(stamps):
        _found_right[compiled] = stamps


def _is_same(data: bytes, source: str) -> bool:
    try:
        return bool(
            marshal.loads(data[_HEAD:]) == compile(Path(source).read_bytes(), source, "exec", dont_inherit=True)
        )
    except (ValueError, EOFError, TypeError, SyntaxError):
        return False


def _now() -> dict[str, tuple[Stamp, Stamp]]:
    """The compiled files there are, and how they and their sources are."""
    found = {}
    for name in fab.installed():
        if name.endswith(".py"):
            source = f"{fab.ROOT}/{name}"
            compiled = _compiled_of(source)
            with contextlib.suppress(OSError):
                found[compiled] = (stamp(source), stamp(compiled))
    return found


def _digest(stamps: dict[str, tuple[Stamp, Stamp]]) -> str:
    said = "\n".join(f"{path} {both}" for path, both in sorted(stamps.items()))
    return hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()


@functools.cache
def _compiled_of(source: str) -> str:
    return importlib.util.cache_from_source(source)


def _fresh(data: bytes, source: str) -> bool:
    """Whether Python would take a compiled file: by time and size of its source, or where it is told not to look."""
    if int.from_bytes(data[4:8], "little"):
        return True
    found = Path(source).stat()
    noted = (int(found.st_mtime), found.st_size)
    return data[8:_HEAD] == b"".join((each & 0xFFFFFFFF).to_bytes(4, "little") for each in noted)
