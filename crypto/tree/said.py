"""What a hidden file says openly of itself, as plain data; nothing of it is proven before the file is verified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crypto.files.header import HiddenHeader
from crypto.files.recipe import ARCHIVE, TRAINING
from crypto.files.sealed_kind import SealedFile
from crypto.files.sealing import sealed_fingerprint
from crypto.tree.either import is_folder
from crypto.tree.verify import hidden_kind
from medveil.errors import FormatError

ADVICE = {TRAINING: "train on it as it is, stays hidden", ARCHIVE: "decrypt before training"}
Identity = tuple[str, str] | None
"""What became of the identity in a hidden DICOM file, in a word and in words; None in other files."""


def said_of(path: Path) -> dict[str, Any]:
    """What a hidden file says: kind, purpose, scheme, shape, what became of the identity, the key's fingerprint.

    Raises
    ------
    FormatError
        It is a folder, or no hidden file.
    StorageError, DataError
        It cannot be read.
    """
    header = header_of(path)
    if header is None:
        return said_of_sealed(path, sealed_fingerprint(path))
    return said_of_header(path, header, identity_in(path, header))


def header_of(path: Path) -> HiddenHeader | None:
    """The header of a hidden file; None where it is sealed. Errors as `said_of`."""
    if is_folder(path):
        raise FormatError("is a folder", where=path, cure="name one of its files")
    kind = hidden_kind(path)
    return None if kind.name == SealedFile.name else kind.header(path)


def identity_in(path: Path, header: HiddenHeader) -> Identity:
    """What became of the identity in a hidden file; None where there is no attribute to hold one."""
    if header.kind != "dicom":
        return None
    from crypto.deid.identity import identity_of  # noqa: PLC0415 - pydicom is slow to start

    return identity_of(path)


def said_of_header(file: str | Path, header: HiddenHeader, identity: Identity) -> dict[str, Any]:
    """The header as plain data."""
    return {
        "file": str(file),
        "kind": header.kind,
        "purpose": header.purpose,
        "scheme": header.scheme,
        "block": header.block,
        "negate": header.negate,
        "frames": header.frames,
        "channels": header.channels,
        "height": header.height,
        "width": header.width,
        "bits": header.bits,
        "signed": header.signed,
        "preparation": header.preparation or None,
        "sealed_bytes": len(header.sealed),
        "identity": None if identity is None else identity[0],
        "fingerprint": header.fingerprint,
        "advice": ADVICE[header.purpose],
    }


def said_of_sealed(file: str | Path, fingerprint: str) -> dict[str, Any]:
    """What a sealed file says: only whose it is."""
    said = {"file": str(file), "kind": "sealed", "purpose": ARCHIVE, "identity": "sealed", "fingerprint": fingerprint}
    return said | {"advice": ADVICE[ARCHIVE]}
