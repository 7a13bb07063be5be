"""The commands for keys: keygen, inspect and rotate, and those for sharing, from `crypto.commands.sharing`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from crypto.commands.common import Commands, add_passphrase, advise, new_passphrase, show
from crypto.commands.passphrase import add_change
from crypto.commands.sharing import add_open, add_recipient, add_share
from crypto.passphrase import read_passphrase
from medveil.cli import subcommand
from medveil.errors import FormatError

_PROG = "medveil-crypto"
LOST = (
    "Without this file or without its passphrase, nothing hidden under the key can be shown again, sealed archives and "
    "sealed identities included, and no model of this site can be exported; nobody has another copy, and there is no "
    "way around it."
)
ESCROW = (
    f"So put a copy away: '{_PROG} recipient' makes a key pair for whom you trust with it, '{_PROG} share --key FILE "
    "--to THEIRS.pub' wraps the key to them, under a passphrase of their own; or keep a copy of the file in one safe "
    "and its passphrase in another. Try the copy once, and put it away anew after 'rotate', with 'share "
    "--with-retired': else the copy does not open what the old key hid."
)


def add_key_commands(commands: Commands) -> None:
    """Add the commands for keys to the command line."""
    for add in (_add_keygen, _add_inspect, _add_rotate, add_change, add_recipient, add_share, add_open):
        made = add(commands)
        made.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_keygen(commands: Commands) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "keygen",
        text="Draw a fresh key and seal it in a new file.",
        example=f"{_PROG} keygen --site mercy --out mercy.key",
    )
    made.description = f"{made.description} {LOST} {ESCROW}"
    made.add_argument("--site", metavar="NAME", required=True, help="name of the site that holds the key")
    made.add_argument("--out", metavar="FILE", required=True, help="key file to write; never overwritten")
    add_passphrase(made)
    made.set_defaults(command=_keygen)
    return made


def _keygen(arguments: argparse.Namespace) -> int:
    from crypto.documents import check_free  # noqa: PLC0415 - a door opens fast
    from crypto.keyfile import save_key  # noqa: PLC0415
    from crypto.keys import SiteKey  # noqa: PLC0415

    key = SiteKey.generate(arguments.site)
    check_free(arguments.out)
    save_key(arguments.out, key, read_passphrase(arguments.passphrase_file, confirm=True))
    show({"file": arguments.out, "site": key.site, "fingerprint": key.fingerprint}, as_json=arguments.json)
    advise(f"{LOST} Keep the two apart. {ESCROW}")
    return 0


def _add_inspect(commands: Commands) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "inspect",
        text="Say what a key file, a recipient file or a shared key says openly.",
        example=f"{_PROG} inspect mercy.key --json",
    )
    made.description = f"{made.description} No passphrase is needed; nothing is proven before the file is opened."
    made.add_argument("file", metavar="FILE", help="key file, recipient file, FILE.pub or shared key")
    made.set_defaults(command=_inspect)
    return made


def _inspect(arguments: argparse.Namespace) -> int:
    header = header_of(arguments.file)
    if not arguments.json:
        header["format"] = f"{header['format']} {header.pop('version')}"
        if "kdf" in header:
            kdf = header.pop("kdf")
            header["sealed with"] = f"{kdf['name']} n={kdf['n']} r={kdf['r']} p={kdf['p']}, AES-256-GCM"
    show(header, as_json=arguments.json)
    return 0


def header_of(file: str) -> dict[str, Any]:
    """What a key file, a recipient file or a shared key says openly, and in words what it is.

    Raises
    ------
    FormatError
        It is none of these, or of a newer version.
    StorageError, IntegrityError
        It is missing or unreadable; or empty, cut short, damaged or edited.
    """
    from crypto import keyfile, recipient, sharing  # noqa: PLC0415
    from crypto.documents import format_of  # noqa: PLC0415

    kinds: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
        keyfile.FORMAT: ("the keys of a site, sealed", keyfile.inspect_key),
        recipient.FORMAT: ("a recipient's private half, sealed", recipient.inspect_recipient_key),
        recipient.PUBLIC_FORMAT: ("a recipient's public half", recipient.inspect_recipient),
        sharing.FORMAT: ("a key shared with a recipient", sharing.inspect_shared),
    }
    name = format_of(file)
    if name not in kinds:
        raise FormatError("is no file of keys", where=file, cure=f"this reads {', '.join(kinds)}")
    what, inspect = kinds[name]
    return {"what": what, **inspect(file)}


def _add_rotate(commands: Commands) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "rotate",
        text="Draw a fresh key in place of the current one, which stays in the file to open what it hid.",
        example=f"{_PROG} rotate mercy.key",
    )
    made.description = f"{made.description} The file is replaced as a whole or not at all."
    made.add_argument("file", metavar="FILE", help="key file")
    add_passphrase(made)
    made.add_argument(
        "--new-passphrase-file",
        metavar="FILE",
        help="seal the file with the passphrase in this file from now on; without it the passphrase stays",
    )
    made.set_defaults(command=_rotate)
    return made


def _rotate(arguments: argparse.Namespace) -> int:
    from crypto.keyfile import inspect_key, rotate_key  # noqa: PLC0415

    inspect_key(arguments.file)
    passphrase = read_passphrase(arguments.passphrase_file)
    ring = rotate_key(arguments.file, passphrase, new_passphrase=new_passphrase(arguments))
    retired = [key.fingerprint for key in ring.retired]
    shown = {"file": arguments.file, "site": ring.current.site, "fingerprint": ring.current.fingerprint}
    show({**shown, "retired": retired}, as_json=arguments.json)
    advise(
        f"What was hidden under {retired[0]} stays under it, and whoever has that key still opens it: hide it anew. "
        "Copies of the old file hold the old key, and sites you shared it with need the new one."
    )
    return 0
