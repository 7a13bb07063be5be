"""Whether what runs is what was hashed: the code Python compiled earlier, and the code a process has loaded.

Python runs ``__pycache__/NAME.pyc`` in place of ``NAME.py`` where size and time agree, whatever is in it. So a hash of
sources (`medveil.fab`) says what runs only where each compiled file is what its source compiles to.
"""

from __future__ import annotations

import importlib
import importlib.util
import marshal
import pkgutil
import time
from collections.abc import Sequence
from pathlib import Path

from medveil import fab
from medveil.errors import IntegrityError

_HEAD = 16
"""Bytes of a compiled file before its code: magic number, flags, time and size of the source."""
_SETTLED_NS = 2 * 10**9
_Stamp = tuple[int, ...]
_found_same: dict[Path, tuple[_Stamp, _Stamp]] = {}
"""Compiled files that this process compared, and how they and their sources were then."""


def installed_hash() -> str:
    """The hash of the installed MedVeil, none of whose files would run as something else.

    Raises
    ------
    IntegrityError
        What Python compiled of a file is not what the file compiles to, or the code lies behind a link.
    """
    for name in fab.installed():
        if name.endswith(".py"):
            _check_compiled(fab.ROOT / name)
    return fab.hash_of(fab.installed_fab())


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


def _check_compiled(source: Path) -> None:
    compiled = Path(importlib.util.cache_from_source(str(source)))
    try:
        stamps = _stamp(source), _stamp(compiled)
        if _found_same.get(compiled) == stamps:
            return
        data = compiled.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise IntegrityError(f"cannot be read: {error.strerror}", where=compiled, cure="remove it") from None
    if data[:4] != importlib.util.MAGIC_NUMBER or not _fresh(data, source):
        # Python compiles the source anew.
        return
    try:
        same = marshal.loads(data[_HEAD:]) == compile(source.read_bytes(), str(source), "exec", dont_inherit=True)
    except (ValueError, EOFError, TypeError, SyntaxError):
        same = False
    if not same:
        raise IntegrityError("is not what its source compiles to", where=compiled, cure="remove it")
    # What changes again within one tick of a disk's clock bears the same time.
    if all(time.time_ns() - stamp[-1] > _SETTLED_NS for stamp in stamps):
        _found_same[compiled] = stamps


def _stamp(path: Path) -> _Stamp:
    """What no writer of a file can leave as it was: the system alone sets the time of a file's last change."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _fresh(data: bytes, source: Path) -> bool:
    """Whether Python would take a compiled file: by time and size of its source, or where it is told not to look."""
    if int.from_bytes(data[4:8], "little"):
        return True
    found = source.stat()
    noted = (int(found.st_mtime), found.st_size)
    return data[8:_HEAD] == b"".join((each & 0xFFFFFFFF).to_bytes(4, "little") for each in noted)
