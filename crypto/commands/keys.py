"""The commands for keys: keygen, inspect, rotate, recipient, share and open."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from crypto.passphrase import CREDENTIAL, VARIABLE, read_passphrase
from medveil.cli import subcommand
from medveil.errors import FormatError

_PROG = "medveil-crypto"
_Commands = argparse._SubParsersAction
_ASKED = (
    f"The passphrase comes from --passphrase-file, else from the systemd credential {CREDENTIAL}, else from "
    f"${VARIABLE}, else it is asked for."
)


def add_key_commands(commands: _Commands[argparse.ArgumentParser]) -> None:
    """Add the commands for keys to the command line."""
    for add in (_add_keygen, _add_inspect, _add_rotate, _add_recipient, _add_share, _add_open):
        made = add(commands)
        made.add_argument("--json", action="store_true", help="print the result as JSON")


# --- keygen and inspect ----------------------------------------------------------------------------------------------


def _add_keygen(commands: _Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "keygen",
        text=f"Draw a fresh key and seal it in a new file. {_ASKED}",
        example=f"{_PROG} keygen --site mercy --out mercy.key",
    )
    made.add_argument("--site", metavar="NAME", required=True, help="name of the site that holds the key")
    made.add_argument("--out", metavar="FILE", required=True, help="key file to write; never overwritten")
    _add_passphrase(made)
    made.set_defaults(command=_keygen)
    return made


def _keygen(arguments: argparse.Namespace) -> int:
    from crypto.documents import check_free  # noqa: PLC0415 - a door opens fast
    from crypto.keyfile import save_key  # noqa: PLC0415
    from crypto.keys import SiteKey  # noqa: PLC0415

    key = SiteKey.generate(arguments.site)
    check_free(arguments.out)
    save_key(arguments.out, key, read_passphrase(arguments.passphrase_file, confirm=True))
    _show({"file": arguments.out, "site": key.site, "fingerprint": key.fingerprint}, as_json=arguments.json)
    _advise("Keep the passphrase apart from the file: without both, the images stay hidden.")
    return 0


def _add_inspect(commands: _Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "inspect",
        text="Say what a key file, either half of a recipient, or a shared key says openly. No passphrase is needed; "
        "nothing is proven before the file is opened.",
        example=f"{_PROG} inspect mercy.key --json",
    )
    made.add_argument("file", metavar="FILE", help="key file, recipient file, FILE.pub or shared key")
    made.set_defaults(command=_inspect)
    return made


def _inspect(arguments: argparse.Namespace) -> int:
    header = _header_of(arguments.file)
    if not arguments.json:
        header["format"] = f"{header['format']} {header.pop('version')}"
        if "kdf" in header:
            kdf = header.pop("kdf")
            header["sealed with"] = f"{kdf['name']} n={kdf['n']} r={kdf['r']} p={kdf['p']}, AES-256-GCM"
    _show(header, as_json=arguments.json)
    return 0


def _header_of(file: str) -> dict[str, Any]:
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


# --- rotate ----------------------------------------------------------------------------------------------------------


def _add_rotate(commands: _Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "rotate",
        text="Draw a fresh key in place of the current one, which stays in the file to open what it hid. "
        f"The file is replaced as a whole or not at all. {_ASKED}",
        example=f"{_PROG} rotate mercy.key",
    )
    made.add_argument("file", metavar="FILE", help="key file")
    _add_passphrase(made)
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
    ring = rotate_key(arguments.file, passphrase, new_passphrase=_new_passphrase(arguments))
    retired = [key.fingerprint for key in ring.retired]
    shown = {"file": arguments.file, "site": ring.current.site, "fingerprint": ring.current.fingerprint}
    _show({**shown, "retired": retired}, as_json=arguments.json)
    _advise(
        f"What was hidden under {retired[0]} stays under it, and whoever has that key still opens it: hide it anew. "
        "Copies of the old file hold the old key, and sites you shared it with need the new one."
    )
    return 0


# --- recipient, share and open ---------------------------------------------------------------------------------------


def _add_recipient(commands: _Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "recipient",
        text="Draw a key pair for receiving shared keys: the private half sealed in a new file, the public half beside "
        f"it as FILE.pub. {_ASKED}",
        example=f"{_PROG} recipient --name county --out county.recipient",
    )
    made.add_argument("--name", metavar="NAME", required=True, help="name of the site that receives")
    made.add_argument("--out", metavar="FILE", required=True, help="file to write, and FILE.pub; never overwritten")
    _add_passphrase(made)
    made.set_defaults(command=_recipient)
    return made


def _recipient(arguments: argparse.Namespace) -> int:
    from crypto.documents import check_free  # noqa: PLC0415
    from crypto.recipient import PUBLIC_SUFFIX, RecipientKey, save_recipient  # noqa: PLC0415

    key = RecipientKey.generate(arguments.name)
    for file in (arguments.out, arguments.out + PUBLIC_SUFFIX):
        check_free(file)
    public = save_recipient(arguments.out, key, read_passphrase(arguments.passphrase_file, confirm=True))
    _show(
        {
            "file": arguments.out,
            "public": str(public),
            "name": key.public.name,
            "fingerprint": key.public.fingerprint,
        },
        as_json=arguments.json,
    )
    _advise(f"Send {public} to who shares a key with you, and read them the fingerprint over another channel.")
    return 0


def _add_share(commands: _Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "share",
        text="Wrap a key to a recipient by HPKE (RFC 9180). The recipient's fingerprint must be confirmed: by "
        f"--fingerprint, as you have it over another channel than the file, or at the terminal. {_ASKED}",
        example=f"{_PROG} share --key consortium.key --to county.recipient.pub --out county.shared",
    )
    made.add_argument("--key", metavar="FILE", required=True, help="key file to share from")
    made.add_argument("--to", metavar="FILE.pub", required=True, help="public half of the recipient")
    made.add_argument("--fingerprint", metavar="HEX", help="the recipient's fingerprint, 32 hex digits")
    made.add_argument("--with-retired", action="store_true", help="also share the keys that rotation retired")
    made.add_argument("--out", metavar="FILE", required=True, help="file to write; never overwritten")
    _add_passphrase(made)
    made.set_defaults(command=_share)
    return made


def _share(arguments: argparse.Namespace) -> int:
    from crypto.documents import check_free  # noqa: PLC0415
    from crypto.fingerprints import confirm_fingerprint  # noqa: PLC0415
    from crypto.keyfile import inspect_key, load_keyring  # noqa: PLC0415
    from crypto.recipient import load_recipient  # noqa: PLC0415
    from crypto.sharing import share_keyring  # noqa: PLC0415

    check_free(arguments.out)
    inspect_key(arguments.key)
    to = load_recipient(arguments.to)
    whose = f"the recipient {to.name}"
    confirm_fingerprint(to.fingerprint, arguments.fingerprint, whose=whose, source=to.name)
    ring = load_keyring(arguments.key, read_passphrase(arguments.passphrase_file))
    share_keyring(arguments.out, ring, to, with_retired=arguments.with_retired)
    _show(
        {
            "file": arguments.out,
            "name": to.name,
            "recipient": to.fingerprint,
            "fingerprint": ring.current.fingerprint,
            "retired": [key.fingerprint for key in ring.retired] if arguments.with_retired else [],
        },
        as_json=arguments.json,
    )
    _advise(f"Read {to.name} the key's fingerprint {ring.current.fingerprint} over another channel.")
    return 0


def _add_open(commands: _Commands[argparse.ArgumentParser]) -> argparse.ArgumentParser:
    made = subcommand(
        commands,
        "open",
        text="Open a key that was shared with you, and seal it in a new key file, under the recipient's passphrase "
        "unless --new-passphrase-file names another. The file does not prove who sent it: the key's fingerprint must "
        f"be confirmed, by --fingerprint, as you have it over another channel, or at the terminal. {_ASKED}",
        example=f"{_PROG} open county.shared --recipient county.recipient --out consortium.key",
    )
    made.add_argument("shared", metavar="SHARED", help="the shared key")
    made.add_argument("--recipient", metavar="FILE", required=True, help="your recipient file (not its .pub)")
    made.add_argument("--fingerprint", metavar="HEX", help="the fingerprint of the key you expect, 32 hex digits")
    made.add_argument(
        "--site", metavar="NAME", help="site that holds the key from now on; default: the recipient's name"
    )
    made.add_argument("--out", metavar="FILE", required=True, help="key file to write; never overwritten")
    _add_passphrase(made)
    made.add_argument(
        "--new-passphrase-file", metavar="FILE", help="seal the key file with the passphrase in this file"
    )
    made.set_defaults(command=_open)
    return made


def _open(arguments: argparse.Namespace) -> int:
    from crypto.documents import check_free  # noqa: PLC0415
    from crypto.fingerprints import confirm_fingerprint  # noqa: PLC0415
    from crypto.keyfile import save_keyring  # noqa: PLC0415
    from crypto.keys import check_site  # noqa: PLC0415
    from crypto.recipient import inspect_recipient_key, load_recipient_key  # noqa: PLC0415
    from crypto.sharing import inspect_shared, open_shared  # noqa: PLC0415

    check_free(arguments.out)
    if arguments.site is not None:
        check_site(arguments.site)
    inspect_recipient_key(arguments.recipient)
    found = inspect_shared(arguments.shared)["fingerprint"]
    whose = f"the key in {arguments.shared}"
    confirm_fingerprint(found, arguments.fingerprint, whose=whose, source="who shared it")
    passphrase = read_passphrase(arguments.passphrase_file)
    key = load_recipient_key(arguments.recipient, passphrase)
    ring = open_shared(arguments.shared, key, found, site=arguments.site)
    save_keyring(arguments.out, ring, _new_passphrase(arguments) or passphrase)
    _show(
        {
            "file": arguments.out,
            "site": ring.current.site,
            "fingerprint": ring.current.fingerprint,
            "retired": [each.fingerprint for each in ring.retired],
        },
        as_json=arguments.json,
    )
    _advise(f"The key file names {ring.current.site} as its site, which holds this copy; --site names another.")
    return 0


# --- what they share -------------------------------------------------------------------------------------------------


def _add_passphrase(to: argparse.ArgumentParser) -> None:
    to.add_argument("--passphrase-file", metavar="FILE", help="read the passphrase from this file")


def _new_passphrase(arguments: argparse.Namespace) -> str | None:
    file = arguments.new_passphrase_file
    return None if file is None else read_passphrase(file, confirm=True)


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return
    for name, value in values.items():
        lines = (value or ["none"]) if isinstance(value, list) else [value]
        print(f"{name:<12} {lines[0]}", *(f"{'':<12} {line}" for line in lines[1:]), sep="\n")


def _advise(text: str) -> None:
    """Say what a person should know beside the result, where it is not part of it."""
    print(text, file=sys.stderr)
