"""The files of a store as MedVeil wrote it before version 2: hidden images that lie open, with names and labels.

They are `header.json`, and for each part `PART.npy` and, with nonces, `PART-nonces.npy`. Such a store is read, said to
be old, and sealed by `medveil-site seal`; none is written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from crypto.base import NONCE_BYTES
from crypto.config import FIRST_DERIVATION
from fl_client.data.rows import NONCES, HeldRows
from medveil.errors import IntegrityError

LIES_OPEN = 1
"""The version of such a store."""
_CURE = "delete the store to rebuild it"


def open_header(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A header, with what one of an older MedVeil means by saying nothing.

    Raises
    ------
    IntegrityError
        Its checksum is not its own.
    """
    found = {name: value for name, value in document.items() if name != "checksum"}
    if document.get("checksum") != _checksum(found):
        raise IntegrityError("is not what its checksum says", where=path)
    return {"preparation": 1, **found, "cipher": {"derivation": FIRST_DERIVATION, **found["cipher"]}}


def map_rows(folder: Path, name: str, header: Mapping[str, Any]) -> HeldRows:
    """Map the rows called `name`, read-only, after checking shape, dtype and size, but not what is in them.

    Raises
    ------
    IntegrityError
        The file is missing, cut, or not what the header says.
    """
    part, path = header["parts"][name.removesuffix(NONCES)], folder / f"{name}.npy"
    nonces = name.endswith(NONCES)
    row, dtype = ((NONCE_BYTES,), "|u1") if nonces else (header["image"]["shape"], header["image"]["dtype"])
    described = part["nonces" if nonces else "images"]
    try:
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IntegrityError(f"cannot be read: {error}", where=path) from error
    shape = (described["rows"], part["views"], *row)
    if mapped.shape != shape or mapped.dtype.str != dtype or mapped.nbytes != described.get("bytes"):
        raise IntegrityError(f"holds {mapped.dtype} {mapped.shape}, not what its header says", where=path)
    return HeldRows(mapped)


def check_contents(path: Path, held: HeldRows, described: Mapping[str, Any]) -> None:
    """Compare a mapped file's contents with the header's checksum (IntegrityError where they differ)."""
    digest = hashlib.sha256()
    for start in range(0, len(held.array), 64):
        digest.update(np.ascontiguousarray(held.array[start : start + 64]).data)
    if digest.hexdigest() != described.get("sha256"):
        raise IntegrityError("contents are not what the checksum says", where=path, cure=_CURE)


def _checksum(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
