"""`medveil-crypto`: make a site's key, and read what a key file says."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from crypto.commands.files import add_file_commands
from crypto.keyfile import inspect_key, save_key
from crypto.keys import SiteKey
from crypto.passphrase import VARIABLE, read_passphrase
from medveil.cli import guarded, parser, start_logging, subcommand

_PROG = "medveil-crypto"


def main(argv: list[str] | None = None) -> int:
    """Run `medveil-crypto`; returns its exit code (0 ok, 2 usage or format, 3 data, 4 key, 130 interrupted)."""
    return guarded(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    arguments = _parser().parse_args(argv)
    start_logging(arguments)
    code: int = arguments.command(arguments)
    return code


def _parser() -> argparse.ArgumentParser:
    top = parser(
        _PROG,
        "Make and inspect the key with which a site hides its images.",
        f"{_PROG} keygen --site mercy --out mercy.key",
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    keygen = subcommand(
        commands,
        "keygen",
        text="Draw a fresh key and seal it in a new file. "
        f"The passphrase is asked for, or read from --passphrase-file or ${VARIABLE}.",
        example=f"{_PROG} keygen --site mercy --out mercy.key",
    )
    keygen.add_argument("--site", metavar="NAME", required=True, help="name of the site that holds the key")
    keygen.add_argument("--out", metavar="FILE", required=True, help="key file to write; never overwritten")
    keygen.add_argument("--passphrase-file", metavar="FILE", help="read the passphrase from this file")
    keygen.add_argument("--json", action="store_true", help="print the result as JSON")
    keygen.set_defaults(command=_keygen)
    inspect = subcommand(
        commands,
        "inspect",
        text="Print what a key file says openly. No passphrase is needed; nothing is proven before it is opened.",
        example=f"{_PROG} inspect mercy.key --json",
    )
    inspect.add_argument("file", metavar="FILE", help="key file")
    inspect.add_argument("--json", action="store_true", help="print JSON")
    inspect.set_defaults(command=_inspect)
    add_file_commands(commands)
    return top


def _keygen(arguments: argparse.Namespace) -> int:
    key = SiteKey.generate(arguments.site)
    passphrase = read_passphrase(arguments.passphrase_file, confirm=True)
    save_key(arguments.out, key, passphrase)
    _show({"file": arguments.out, "site": key.site, "fingerprint": key.fingerprint}, as_json=arguments.json)
    if not arguments.json:
        print("Keep the passphrase apart from the file: without both, the images stay hidden.", file=sys.stderr)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    header = inspect_key(arguments.file)
    if arguments.json:
        _show(header, as_json=True)
        return 0
    kdf = header["kdf"]
    sealed = f"{kdf['name']} n={kdf['n']} r={kdf['r']} p={kdf['p']}, AES-256-GCM"
    named = {name: header[name] for name in ("site", "fingerprint", "created")}
    _show({"format": f"{header['format']} {header['version']}", **named, "sealed with": sealed}, as_json=False)
    return 0


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=2, ensure_ascii=False))
        return
    for name, value in values.items():
        print(f"{name:<12} {value}")


if __name__ == "__main__":
    sys.exit(main())
