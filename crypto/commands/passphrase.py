"""`passphrase`: another passphrase for what is sealed with one."""

from __future__ import annotations

import argparse

from crypto.commands.common import Commands, add_passphrase, advise, show
from crypto.passphrase import ask_new_passphrase, read_passphrase
from medveil.cli import subcommand

_PROG = "medveil-crypto"


def add_change(commands: Commands) -> argparse.ArgumentParser:
    """Add `passphrase`."""
    made = subcommand(
        commands,
        "passphrase",
        text="Seal a key file or a recipient file with another passphrase; the keys in it stay as they are.",
        example=f"{_PROG} passphrase mercy.key",
    )
    made.description = (
        f"{made.description} The file is replaced as a whole or not at all. Copies of the old file still open with the "
        "old passphrase: where that became known, 'rotate' the key and hide its images anew."
    )
    made.add_argument("file", metavar="FILE", help="key file or recipient file")
    add_passphrase(made)
    made.add_argument(
        "--new-passphrase-file",
        metavar="FILE",
        help="read the new passphrase from this file; without it, it is asked for twice at the terminal",
    )
    made.set_defaults(command=_change)
    return made


def _change(arguments: argparse.Namespace) -> int:
    from crypto.resealing import reseal, sealed_format  # noqa: PLC0415 - a door opens fast

    sealed_format(arguments.file)
    old = read_passphrase(arguments.passphrase_file)
    file = arguments.new_passphrase_file
    new = ask_new_passphrase() if file is None else read_passphrase(file, confirm=True)
    fingerprint = reseal(arguments.file, old, new)
    show({"file": arguments.file, "fingerprint": fingerprint}, as_json=arguments.json)
    advise("Copies and backups of the old file still open with the old passphrase.")
    return 0
