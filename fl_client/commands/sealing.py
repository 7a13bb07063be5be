"""Sealing what an older MedVeil left open, and opening what this one sealed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fl_client.commands.common import PROG, Commands, Passphrases, refuse_while_running, site_of
from medveil.cli import add_json, subcommand
from medveil.errors import EXIT_OK
from medveil.plain import tell_result

if TYPE_CHECKING:
    from fl_client.data.documents import Documents
    from fl_client.data.store_files import StoreSeal
    from fl_client.deployment.own_files import OwnFiles

_KEPT = {"predictions": "predictions.npz", "site": "site.json"}


def add_seal(commands: Commands) -> argparse.ArgumentParser:
    """Add `seal`."""
    made = subcommand(
        commands,
        "seal",
        text="Seal what an older MedVeil left open here: stores of hidden images, names, labels, predictions.",
        example=f"{PROG} seal",
    )
    add_json(made)
    made.set_defaults(command=_do_seal)
    return made


def _do_seal(arguments: argparse.Namespace) -> int:
    from fl_client.data.left_open import left_open  # noqa: PLC0415
    from fl_client.data.sealing import seal_documents, seal_store  # noqa: PLC0415

    files = site_of(arguments)
    refuse_while_running(files, where=f"{PROG} seal", doing="may be reading what is to be sealed")
    found = left_open(files.own)
    if not found.stores and not found.files:
        tell_result({"key": None, "stores": 0, "files": 0}, "nothing lies open here", as_json=arguments.json)
        return EXIT_OK
    documents, seal = _documents(files)
    # First what is to be done, then doing it, as everything that changes what a site holds.
    files.audit.append("sealed", stores=len(found.stores), files=len(found.files), key=seal.fingerprint)
    for place in found.stores:
        seal_store(place, seal)
    seal_documents(documents, found.files)
    told = found.plain()
    tell_result(
        {"key": seal.fingerprint, "stores": told["stores"], "files": told["files"]},
        f"sealed under the key {seal.fingerprint}: stores: {told['stores']}, other files: {told['files']}",
        "the disk may keep what was written before: copy-on-write file systems, SSDs, snapshots and backups do",
        as_json=arguments.json,
    )
    return EXIT_OK


def add_unseal(commands: Commands) -> argparse.ArgumentParser:
    """Add `unseal`."""
    made = subcommand(
        commands,
        "unseal",
        text="Write what this site sealed of its newest run into a plain file: its test predictions (NumPy's npz), or "
        "its description with every file that was left out (JSON).",
        example=f"{PROG} unseal predictions --out predictions.npz",
    )
    made.add_argument("what", choices=sorted(_KEPT), metavar="WHAT", help=f"one of {', '.join(sorted(_KEPT))}")
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, its owner's alone")
    add_json(made)
    made.set_defaults(command=_do_unseal)
    return made


def _do_unseal(arguments: argparse.Namespace) -> int:
    from medveil.errors import StorageError  # noqa: PLC0415
    from medveil.files import write_bytes  # noqa: PLC0415

    files, name = site_of(arguments), _KEPT[arguments.what]
    if not any((files.own / each).is_file() for each in (name, f"{name}.sealed")):
        cure = "it is written when a run is evaluated here" if name != "site.json" else "a run writes it"
        raise StorageError("is not there yet", where=files.own / name, cure=cure)
    documents, _ = _documents(files)
    write_bytes(arguments.out, documents.read_bytes(name), mode=0o600)
    said = f"{arguments.out} lies open, with names of images and labels: remove it when it is no longer needed"
    tell_result({"what": arguments.what, "file": str(arguments.out)}, said, as_json=arguments.json)
    return EXIT_OK


def _documents(files: OwnFiles) -> tuple[Documents, StoreSeal]:
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.data.documents import Documents  # noqa: PLC0415
    from fl_client.data.store_files import StoreSeal  # noqa: PLC0415
    from fl_client.deployment.own_keys import open_keys  # noqa: PLC0415

    ring = open_keys(files, Passphrases(read_passphrase), serving=False).own
    return Documents.of(files.own, ring.current, ring.retired), StoreSeal.of(ring.current)
