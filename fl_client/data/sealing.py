"""Sealing what an older MedVeil left open in a site's own folder, images in stores and all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from crypto.sealed_rows import RowWriter, new_identity
from fl_client.data.documents import Documents
from fl_client.data.rows import NONCES, HeldRows
from fl_client.data.store_build import as_rows
from fl_client.data.store_files import StoreSeal, read_open_header, row_writer, write_header
from fl_client.data.store_open_files import check_contents, map_rows
from medveil.files import locked, new_folder, read_bytes

_AT_ONCE = 64


def seal_store(place: Path, seal: StoreSeal) -> None:
    """Put a sealed store in the place of one that lies open; whatever ends the process, it is the one or the other.

    Nothing is decoded or hidden anew: its source and the key that hid it may be out of reach. What is removed is
    unlinked, and its blocks stay on the disk until something else is written there.

    Raises
    ------
    IntegrityError, FormatError
        It is damaged, or not a store that lies open; it is left as it is.
    StorageError
        A run is building a store, or the disk refuses; it is left as it is.
    """
    with locked(place.parent, wait=False):
        header = read_open_header(place)
        identity = new_identity()
        with new_folder(place, mode=0o700) as made:
            parts: dict[str, dict[str, Any]] = {}
            for name, described in header["parts"].items():
                parts[name] = dict(described)
                for kind, file in (("images", name), ("nonces", f"{name}{NONCES}")):
                    if described[kind] is None:
                        continue
                    held = map_rows(place, file, header)
                    check_contents(place / f"{file}.npy", held, described[kind])
                    size = int(np.prod(held.shape[2:])) * held.dtype.itemsize
                    with row_writer(made, file, size, seal=seal, identity=identity) as rows:
                        _copy(held, rows)
                    parts[name][kind] = {"rows": len(held)}
            write_header(made, {**header, "parts": parts}, seal=seal, identity=identity)


def seal_documents(documents: Documents, names: tuple[str, ...]) -> None:
    """Seal files that lie plain; the plain ones are removed.

    Raises
    ------
    StorageError
        The disk refuses; what was not reached stays as it is.
    """
    for name in names:
        plain = documents.folder / name
        if documents.find(name) == plain:
            documents.write_bytes(name, read_bytes(plain))
        else:
            # A sealed one took its place, and its removal was cut short.
            plain.unlink(missing_ok=True)


def _copy(held: HeldRows, rows: RowWriter) -> None:
    for start in range(0, len(held), _AT_ONCE):
        chunk = held.array[start : start + _AT_ONCE]
        rows.append(as_rows(chunk.reshape(-1, *held.shape[2:]), held.dtype))
