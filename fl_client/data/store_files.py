"""The files of a sealed store: `header.json`, `contents.sealed`, and for each part `PART.sealed`.

All but the header is AES-256-GCM under subkeys of the site's own key, whatever key hid the images: a folder that is
stolen tells what its header tells, and how many images of which size there are. The header says which keys, the
identity the subkeys are drawn for, how images were prepared, and how many there are; it is authenticated with the
contents, which hold everything else (names, labels, classes, what was left out). Rows are sealed one by one
(`crypto.sealed_rows`). Of a cipher that needs them there are nonces too, in `PART-nonces.sealed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crypto import sealed
from crypto.base import NONCE_BYTES
from crypto.keys import Key
from crypto.sealed_rows import RowWriter, file_key
from fl_client.data.alike import SHAPE
from fl_client.data.left_open import CONTENTS, HEADER
from fl_client.data.rows import NONCES, OpenedRows
from fl_client.data.splits import PARTS
from fl_client.data.store_open_files import LIES_OPEN, open_header
from medveil.bounded import DOCUMENT, parse_json
from medveil.errors import IntegrityError, KeyMaterialError, MedVeilError
from medveil.files import check_format, read_bytes, read_json, write_bytes, write_json
from medveil.shapes import check_shape

FORMAT = "medveil-store"
VERSION = 2
SUFFIX = ".sealed"
_REMOVE = "remove the store: a run builds it anew"
_ARRAY = ({"rows": int, "bytes?": int, "sha256?": str}, None)
_PART = {"views": int, "images": _ARRAY, "nonces": _ARRAY, "indices": [int], "ids": [str], "labels": [int]}
_HEAD = {"key": str, "preparation": int, "images": int, "sealed": str, "identity": str}
_CONTENTS = {
    "cipher": {str: (str, int, bool)},
    "source": str,
    "contents?": str,
    "classes": [str],
    "split": str,
    "views": {"count": int, "augment": str, "flip": bool, "seed?": int},
    "image": {"shape": [int], "dtype": str},
    "parts": dict.fromkeys(PARTS, _PART),
    "skipped": [[str]],
    "without_copies?": bool,
    "alike?": SHAPE,
}
_OPEN = {"checksum?": str, "key": str, "preparation?": int, **_CONTENTS}


@dataclass(frozen=True)
class StoreSeal:
    """What seals the stores of a site: its own key's subkey for them, and that key's fingerprint."""

    fingerprint: str
    subkey: bytes = field(repr=False)

    @classmethod
    def of(cls, key: Key) -> StoreSeal:
        """That of a site's own key."""
        return cls(key.fingerprint, key.subkey("store"))


class Head(NamedTuple):
    """What a store says of itself to everybody.

    Attributes
    ----------
    key : str
        Fingerprint of the key that hid the images.
    preparation : int
        How they were prepared, a version of `crypto.imaging.preprocess`.
    images : int
        In all parts.
    sealed : str
        Fingerprint of the key that sealed it; empty where an older MedVeil left it open.
    identity : str
        What its subkeys are drawn for; empty where it lies open.
    """

    key: str
    preparation: int
    images: int
    sealed: str = ""
    identity: str = ""


def row_writer(folder: Path, name: str, size: int, *, seal: StoreSeal, identity: str) -> RowWriter:
    """What writes the rows called `name`, of `size` bytes each, into a store's folder."""
    return RowWriter(folder / f"{name}{SUFFIX}", file_key(seal.subkey, identity, name), size)


def open_rows(folder: Path, name: str, header: Mapping[str, Any], seal: StoreSeal, *, most: int) -> OpenedRows:
    """Open the rows called `name` of a sealed store (IntegrityError where they are missing or cut).

    Parameters
    ----------
    name
        A part, or a part and `NONCES`.
    header
        As `read_header` gives it.
    most
        Bytes to keep in memory at most.
    """
    part = header["parts"][name.removesuffix(NONCES)]
    nonces = name.endswith(NONCES)
    row = (NONCE_BYTES,) if nonces else tuple(header["image"]["shape"])
    dtype = np.dtype(np.uint8) if nonces else _dtype(header, folder)
    shape = (part["nonces" if nonces else "images"]["rows"], part["views"], *row)
    if min(shape[1:]) < 1:
        raise IntegrityError("its field 'image' or 'parts' contradicts itself", where=folder / CONTENTS, cure=_REMOVE)
    key = file_key(seal.subkey, header["identity"], name)
    return OpenedRows(folder / f"{name}{SUFFIX}", key, shape=shape, dtype=dtype, most=most)


def write_header(folder: Path, header: Mapping[str, Any], *, seal: StoreSeal, identity: str) -> None:
    """Seal what a store is (StorageError where the disk refuses).

    Parameters
    ----------
    header
        As `read_header` gives it, without what the seal adds.
    """
    known = {name.removesuffix("?") for name in _CONTENTS}
    inside = {name: value for name, value in header.items() if name in known}
    images = sum(len(part["ids"]) for part in header["parts"].values())
    head = Head(header["key"], header["preparation"], images, seal.fingerprint, identity)
    document = {"format": FORMAT, "version": VERSION, **head._asdict()}
    packed = json.dumps(inside, separators=(",", ":"), allow_nan=False).encode("ascii")
    key = file_key(seal.subkey, identity, CONTENTS)
    write_bytes(folder / CONTENTS, sealed.seal(key, packed, associated=_bound(head)), mode=0o600)
    write_json(folder / HEADER, document, mode=0o600)


def read_head(folder: Path) -> Head:
    """What a store says openly; it is not proven before `read_header`.

    Raises
    ------
    IntegrityError
        It is missing, cut or changed.
    FormatError
        It is of another format or a newer version.
    """
    document = _document(folder)
    if document["version"] == LIES_OPEN:
        images = sum(len(part["ids"]) for part in document["parts"].values())
        return Head(document["key"], document["preparation"], images)
    return Head(**{name: document[name] for name in Head._fields})


def read_open_header(folder: Path) -> dict[str, Any]:
    """All that a store says of itself which an older MedVeil left open; errors as `read_head`, of a sealed one too."""
    document = _document(folder)
    if document["version"] != LIES_OPEN:
        raise IntegrityError("lies sealed", where=folder)
    return document


def read_header(folder: Path, seal: StoreSeal) -> dict[str, Any]:
    """All that a store says of itself, its contents opened.

    Raises
    ------
    KeyMaterialError
        It was sealed under another key.
    IntegrityError
        It is missing, cut or changed.
    FormatError
        It is of another format or a newer version.
    """
    document = _document(folder)
    if document["version"] == LIES_OPEN:
        return document
    head = Head(**{name: document[name] for name in Head._fields})
    if head.sealed != seal.fingerprint:
        problem = f"the store was sealed under the key {head.sealed}, and this is {seal.fingerprint}"
        raise KeyMaterialError(problem, where=folder, cure=f"give the key it was sealed under, or {_REMOVE}")
    path = folder / CONTENTS
    try:
        key = file_key(seal.subkey, head.identity, CONTENTS)
        packed = sealed.unseal(key, read_bytes(path), associated=_bound(head))
    except MedVeilError as error:
        raise IntegrityError(error.problem, where=path, cure=_REMOVE) from None
    inside = parse_json(packed, where=path, bounds=DOCUMENT, kind=IntegrityError)
    check_shape(inside, _CONTENTS, where=path, cure=_REMOVE)
    found = {**inside, **head._asdict()}
    _check_agreement(found, path)
    return found


def _bound(head: Head) -> bytes:
    return json.dumps([FORMAT, VERSION, *head], separators=(",", ":")).encode("ascii")


def _document(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    if not path.is_file():
        raise IntegrityError("is missing", where=path)
    document = read_json(path)
    version = check_format(document, name=FORMAT, newest=VERSION, where=path)
    check_shape(document, _OPEN if version == LIES_OPEN else _HEAD, where=path)
    if version != LIES_OPEN:
        return dict(document)
    found = open_header(document, path)
    _check_agreement(found, path)
    return {**found, "sealed": "", "identity": ""}


def _dtype(header: Mapping[str, Any], folder: Path) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(header["image"]["dtype"])
    except TypeError:
        found = np.dtype(object)
    if found.kind != "u":
        raise IntegrityError("its field 'image.dtype' is no type of pixels", where=folder / CONTENTS, cure=_REMOVE)
    return found


def _check_agreement(document: Mapping[str, Any], path: Path) -> None:
    """Refuse a header whose fields are each possible and not together: a checksum finds damage, not malice."""
    classes = len(document["classes"])
    for name, part in document["parts"].items():
        images = len(part["ids"])
        rows = [part[each]["rows"] for each in ("images", "nonces") if part[each] is not None]
        alike = {images} == {len(part["indices"]), len(part["labels"]), *rows, images}
        if not alike or not all(0 <= label < classes for label in part["labels"]):
            raise IntegrityError(f"its field 'parts.{name}' contradicts itself", where=path)
    if not all(len(each) == 2 for each in document["skipped"]):
        raise IntegrityError("its field 'skipped' holds other than names and reasons", where=path)
    if not all(len(each) == 4 for each in document.get("alike", {}).get("named", ())):
        raise IntegrityError("its field 'alike' holds other than names and classes", where=path)
