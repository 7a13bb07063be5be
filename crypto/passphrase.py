"""Where a passphrase comes from: a file, systemd, the environment, or the person at the terminal; never an argument.

What is on a command line can be read by every user of the machine, and stays in the shell's history.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from pathlib import Path

from medveil.errors import KeyMaterialError, StorageError
from medveil.files import storage_error
from medveil.log import logger

VARIABLE = "MEDVEIL_PASSPHRASE"
CREDENTIAL = "medveil-passphrase"
CREDENTIALS = "CREDENTIALS_DIRECTORY"
SHORT = 12
LONGEST = 4096

_SOURCES = (
    f"type it at a terminal, name a file with --passphrase-file, give the unit the credential {CREDENTIAL}, "
    f"or set {VARIABLE}"
)


def read_passphrase(file: str | Path | None = None, *, confirm: bool = False) -> str:
    """Get a passphrase from the first of: the named file, a systemd credential, ``MEDVEIL_PASSPHRASE``, the terminal.

    Parameters
    ----------
    file
        UTF-8 text; one line break at its end is not part of the passphrase.
    confirm
        A new passphrase: ask twice at the terminal, and warn of a short one.

    Raises
    ------
    KeyMaterialError
        There is none, it is empty, too long, not UTF-8, or the two typed ones differ.
    StorageError
        The file is missing or unreadable.
    """
    return _checked(_find(file, confirm=confirm), confirm=confirm)


def _checked(passphrase: str, *, confirm: bool) -> str:
    if not passphrase:
        raise KeyMaterialError("the passphrase is empty", cure="choose one of five words or more")
    if confirm and len(passphrase) < SHORT:
        logger("crypto").warning(
            "a passphrase of %d characters is short; five words or more are better", len(passphrase)
        )
    return passphrase


def _find(file: str | Path | None, *, confirm: bool) -> str:
    if file is not None:
        return _from_file(file, private=False)
    credential = _credential()
    if credential is not None:
        return _from_file(credential, private=True)
    given = _from_environment()
    if given is not None:
        return given
    return _from_terminal(confirm=confirm)


def ask_new_passphrase() -> str:
    """Ask at the terminal, twice, for a passphrase that is to take another's place.

    Where the old one comes from (a file, systemd, the environment) says nothing of the new one.

    Raises
    ------
    KeyMaterialError
        There is no terminal, it is empty, or the two typed ones differ.
    """
    if not sys.stdin.isatty():
        cure = "name a file with --new-passphrase-file"
        raise KeyMaterialError("there is no terminal to ask for the new passphrase", cure=cure)
    return _checked(_from_terminal(confirm=True, called="New passphrase"), confirm=True)


class _Taken:
    """What the environment held, for this process alone."""

    given: str | None = None


def _from_environment() -> str | None:
    """The variable's value, which is taken out of the environment: nothing that is started later inherits it."""
    given = os.environ.pop(VARIABLE, None)
    if given is not None:
        _Taken.given = given
    return _Taken.given


def forget() -> None:
    """Forget what the environment held, as a new process would."""
    _Taken.given = None


def _credential() -> Path | None:
    """The credential ``medveil-passphrase`` (systemd.exec(5), LoadCredential=), if this unit was given one."""
    folder = os.environ.get(CREDENTIALS)
    if not folder:
        return None
    found = Path(folder, CREDENTIAL)
    try:
        found.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        # Opening it says why it cannot be had.
        return found
    return found


def _from_file(file: str | Path, *, private: bool) -> str:
    """Read a passphrase; `private` where systemd guards the file, whose mode then says nothing (it may use ACLs)."""
    try:
        with open(file, "rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(LONGEST + 1)
    except FileNotFoundError:
        raise StorageError("no such file", where=file) from None
    except OSError as error:
        raise storage_error(error, file, "read the file") from error
    if not private and stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        logger("crypto").warning("%s can be read by others than its owner: chmod 600 it", file)
    if len(data) > LONGEST:
        cure = "put the passphrase alone in a text file"
        raise KeyMaterialError(f"is longer than {LONGEST} bytes", where=file, cure=cure)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyMaterialError(
            "is not UTF-8 text", where=file, cure="put the passphrase alone in a text file"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")


def _from_terminal(*, confirm: bool, called: str = "Passphrase") -> str:
    if not sys.stdin.isatty():
        raise KeyMaterialError("there is no terminal to ask for the passphrase", cure=_SOURCES)
    try:
        passphrase = getpass.getpass(f"{called}: ")
        again = getpass.getpass(f"{called} again: ") if confirm else passphrase
    except EOFError:
        raise KeyMaterialError("no passphrase was typed", cure=_SOURCES) from None
    if passphrase != again:
        raise KeyMaterialError("the two passphrases differ", cure="run again and type the same twice")
    return passphrase
