"""A store as MedVeil left it before version 2: open, with its names and labels in the header."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from fl_client.data.opened_store import EncryptedStore
from fl_client.data.rows import Rows
from fl_client.data.stored import StoredPart

_NEW = ("sealed", "identity", "images")


def lay_open(store: EncryptedStore, **changed: Any) -> Path:
    """Put an older store, its header changed so, in the place of a sealed one; a field of None is left out."""
    folder, header = store.folder, {**store.header, **changed}
    parts = {name: dict(described) for name, described in header["parts"].items()}
    for name, part in store.parts.items():
        if isinstance(part, StoredPart):
            parts[name]["images"] = _written(folder / f"{name}.npy", part.images)
            if part.nonces is not None:
                parts[name]["nonces"] = _written(folder / f"{name}-nonces.npy", part.nonces)
    for sealed in folder.glob("*.sealed"):
        sealed.unlink()
    kept = {name: value for name, value in header.items() if name not in _NEW and value is not None}
    write_open_header(folder, {"format": "medveil-store", "version": 1, **kept, "parts": parts})
    return folder


def write_open_header(folder: Path, document: dict[str, Any]) -> None:
    """Write an older header with its checksum."""
    plain = {name: value for name, value in document.items() if name != "checksum"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    checksum = hashlib.sha256(text.encode("ascii")).hexdigest()
    (folder / "header.json").write_text(json.dumps({**plain, "checksum": checksum}))


def _written(path: Path, rows: Rows) -> dict[str, Any]:
    array = np.stack([rows.view(view) for view in range(rows.shape[1])], axis=1)
    np.save(path, array)
    digest = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
    return {"rows": len(array), "bytes": array.nbytes, "sha256": digest}
