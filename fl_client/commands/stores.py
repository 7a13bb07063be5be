"""Listing the stores of hidden images that a site holds, and removing those no run uses again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fl_client.commands.common import PROG, Commands, confirm, refuse_while_running, site_of
from medveil.cli import subcommand
from medveil.errors import EXIT_OK
from medveil.plain import tell, tell_block, tell_json, tell_result

if TYPE_CHECKING:
    from fl_client.data.stores_held import HeldStore
    from fl_client.deployment.own_files import OwnFiles

_WHERE = f"{PROG} stores"


def add_stores(commands: Commands) -> argparse.ArgumentParser:
    """Add `stores`."""
    made = subcommand(
        commands,
        "stores",
        text="List the stores of hidden images this site holds, or remove one; a store that is missed is built anew.",
        example=f"{PROG} stores --remove-unused",
    )
    gone = made.add_mutually_exclusive_group()
    gone.add_argument("--remove", metavar="STORE", help="first characters of the store that is to go")
    gone.add_argument(
        "--remove-unused", action="store_true", help="remove all of former keys, of other images, and unreadable ones"
    )
    made.add_argument("--yes", action="store_true", help="do not ask before removing")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.set_defaults(command=_do_stores)
    return made


def _do_stores(arguments: argparse.Namespace) -> int:
    from fl_client.data.stores_held import find_store, held_stores  # noqa: PLC0415

    files = site_of(arguments)
    stores = held_stores(files.own, files.data, keys=_keys(files))
    if arguments.remove is not None:
        return _remove(files, [find_store(stores, arguments.remove)], arguments)
    if arguments.remove_unused:
        return _remove(files, [each for each in stores if each.unused], arguments)
    if arguments.json:
        tell_json([each.plain() for each in stores])
    elif stores:
        tell_block(_table(stores))
    else:
        tell("no store is held here yet: the first run makes one")
    return EXIT_OK


def _keys(files: OwnFiles) -> set[str]:
    """Fingerprints of the keys that hide images here now, as their files say them; no passphrase is needed."""
    from crypto.keyfile import inspect_key  # noqa: PLC0415

    named = [files.config.key, *([files.config.shared_key] if files.config.shared_key else [])]
    return {str(inspect_key(files.path(each))["fingerprint"]) for each in named}


def _remove(files: OwnFiles, stores: list[HeldStore], arguments: argparse.Namespace) -> int:
    from fl_client.data.stores_held import remove_store  # noqa: PLC0415
    from fl_client.export.held import megabytes  # noqa: PLC0415

    refuse_while_running(files, where=_WHERE, doing="may be reading them")
    if not stores:
        none = "nothing to remove: a run may use every store again"
        tell_result({"removed": [], "bytes": 0}, none, as_json=arguments.json)
        return EXIT_OK
    named = ", ".join(f"{each.name} ({each.images} images, {megabytes(each.size)})" for each in stores)
    if not arguments.yes:
        confirm(f"remove {named}?", where=f"{_WHERE} --remove")
    for each in stores:
        # First what is to be done, then doing it: a removal that cannot be written down does not happen.
        # Its name holds a folder's, which is nobody's business.
        files.audit.append("store-removed", key=each.key, images=each.images)
        remove_store(each)
    gone = {"removed": [each.name for each in stores], "bytes": sum(each.size for each in stores)}
    tell_result(gone, f"removed: {named}", as_json=arguments.json)
    return EXIT_OK


def _table(stores: list[HeldStore]) -> str:
    from fl_client.data.store_terms import NO_KEY  # noqa: PLC0415
    from fl_client.export.held import megabytes  # noqa: PLC0415
    from medveil.tables import plain_table  # noqa: PLC0415

    rows = [
        {
            "store": each.name,
            "made": each.made.isoformat(),
            "images": str(each.images),
            "size": megabytes(each.size),
            "sealed": "yes" if each.sealed else "NO, older" if each.key else "?",
            "key": {NO_KEY: "none: not hidden", "": "?"}.get(each.key, each.key),
            "use": each.unused or "a run may use it",
        }
        for each in stores
    ]
    return plain_table(rows)
