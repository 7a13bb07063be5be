"""Where a passphrase comes from: a file, the environment, or the person at the terminal; never the command line."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from medveil.errors import KeyMaterialError
from medveil.files import read_bytes
from medveil.log import logger

VARIABLE = "MEDVEIL_PASSPHRASE"
SHORT = 12

_SOURCES = f"type it at a terminal, name a file with --passphrase-file, or set {VARIABLE}"


def read_passphrase(file: str | Path | None = None, *, confirm: bool = False) -> str:
    """Get a passphrase from the named file, else from ``MEDVEIL_PASSPHRASE``, else from the terminal.

    Parameters
    ----------
    file
        UTF-8 text; one line break at its end is not part of the passphrase.
    confirm
        A new passphrase: ask twice at the terminal, and warn of a short one.

    Raises
    ------
    KeyMaterialError
        There is none, it is empty, not UTF-8, or the two typed ones differ.
    StorageError
        The file is missing or unreadable.
    """
    passphrase = _find(file, confirm=confirm)
    if not passphrase:
        raise KeyMaterialError("the passphrase is empty", cure="choose one of five words or more")
    if confirm and len(passphrase) < SHORT:
        logger("crypto").warning(
            "a passphrase of %d characters is short; five words or more are better", len(passphrase)
        )
    return passphrase


def _find(file: str | Path | None, *, confirm: bool) -> str:
    if file is not None:
        return _from_file(file)
    given = os.environ.get(VARIABLE)
    if given is not None:
        return given
    return _from_terminal(confirm=confirm)


def _from_file(file: str | Path) -> str:
    try:
        text = read_bytes(file).decode("utf-8")
    except UnicodeDecodeError:
        raise KeyMaterialError(
            "is not UTF-8 text", where=file, cure="put the passphrase alone in a text file"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")


def _from_terminal(*, confirm: bool) -> str:
    if not sys.stdin.isatty():
        raise KeyMaterialError("there is no terminal to ask for the passphrase", cure=_SOURCES)
    try:
        passphrase = getpass.getpass("Passphrase: ")
        again = getpass.getpass("Passphrase again: ") if confirm else passphrase
    except EOFError:
        raise KeyMaterialError("no passphrase was typed", cure=_SOURCES) from None
    if passphrase != again:
        raise KeyMaterialError("the two passphrases differ", cure="run again and type the same twice")
    return passphrase
