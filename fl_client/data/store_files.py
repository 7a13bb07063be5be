"""The files of a hidden store: `header.json`, and for each part `PART.npy` and, with nonces, `PART-nonces.npy`.

All are written front to back with plain writes. A memory map would turn a full disk into SIGBUS, which kills the
process; a write reports it as an error that can be told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_client.data.alike import SHAPE
from fl_client.data.splits import PARTS
from medveil.errors import IntegrityError
from medveil.files import private, write_json
from medveil.shapes import read_document

FORMAT = "medveil-store"
VERSION = 1
HEADER = "header.json"
_ARRAY = ({"rows": int, "bytes": int, "sha256": str}, None)
_PART = {"views": int, "images": _ARRAY, "nonces": _ARRAY, "indices": [int], "ids": [str], "labels": [int]}
_SHAPE = {
    "checksum?": str,
    "key": str,
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


class ArrayWriter:
    """Appends rows to a ``.npy`` file whose final length is not known beforehand.

    Parameters
    ----------
    path
        The file to make.
    row
        Shape of one row.
    dtype
        Of the elements.
    """

    def __init__(self, path: Path, row: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self._row, self._dtype = row, np.dtype(dtype)
        self._hash = hashlib.sha256()
        self.rows = 0
        self._stream = open(path, "wb", opener=private)  # noqa: SIM115 - closed by __exit__
        self._write_header()
        self._start = self._stream.tell()

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._stream.close()

    def append(self, rows: npt.NDArray[Any]) -> None:
        """Write rows, an array of shape (n, ...row)."""
        payload = np.ascontiguousarray(rows, dtype=self._dtype)
        if payload.shape[1:] != self._row:
            raise ValueError(f"rows of shape {payload.shape[1:]}, not {self._row}")
        self._hash.update(payload.data)
        self._stream.write(payload.data)
        self.rows += len(payload)

    def described(self) -> dict[str, Any]:
        """What the header keeps of the file: rows, bytes of payload and their SHA-256."""
        size = self.rows * int(np.prod(self._row)) * self._dtype.itemsize
        return {"rows": self.rows, "bytes": size, "sha256": self._hash.hexdigest()}

    def _finish(self) -> None:
        # numpy pads its header so that the first dimension can grow without moving the data.
        self._stream.seek(0)
        self._write_header()
        if self._stream.tell() != self._start:
            raise AssertionError("the numpy header changed its length")

    def _write_header(self) -> None:
        described = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.rows, *self._row),
        }
        np.lib.format.write_array_header_1_0(self._stream, described)


def open_array(path: Path, described: Mapping[str, Any], row: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Map a file written by `ArrayWriter`, read-only, after checking its shape, dtype and size, but not its contents.

    Raises
    ------
    IntegrityError
        The file is missing, cut, or not what the header says.
    """
    try:
        mapped: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IntegrityError(f"cannot be read: {error}", where=path) from error
    if mapped.shape != (described["rows"], *row) or mapped.dtype.str != dtype or mapped.nbytes != described["bytes"]:
        raise IntegrityError(f"holds {mapped.dtype} {mapped.shape}, not what its header says", where=path)
    return mapped


def check_contents(path: Path, mapped: npt.NDArray[Any], described: Mapping[str, Any]) -> None:
    """Compare a mapped file's contents with the header's checksum.

    Raises
    ------
    IntegrityError
        They differ.
    """
    digest = hashlib.sha256()
    for start in range(0, len(mapped), 64):
        digest.update(np.ascontiguousarray(mapped[start : start + 64]).data)
    if digest.hexdigest() != described["sha256"]:
        raise IntegrityError(
            "contents are not what the checksum says", where=path, cure="delete the store to rebuild it"
        )


def write_header(folder: Path, header: Mapping[str, Any]) -> None:
    """Write a store's header with its format, version and checksum."""
    document = {"format": FORMAT, "version": VERSION, **header}
    write_json(folder / HEADER, {**document, "checksum": _checksum(document)}, mode=0o600)


def read_header(folder: Path) -> dict[str, Any]:
    """Read a store's header.

    Raises
    ------
    IntegrityError
        It is missing, cut or changed.
    FormatError
        It is of another format or a newer version.
    """
    path = folder / HEADER
    if not path.is_file():
        raise IntegrityError("is missing", where=path)
    document = read_document(path, _SHAPE, name=FORMAT, newest=VERSION)
    if document.pop("checksum", None) != _checksum(document):
        raise IntegrityError("is not what its checksum says", where=path)
    _check_agreement(document, path)
    return document


def _check_agreement(document: dict[str, Any], path: Path) -> None:
    """Refuse a header whose fields are each possible and not together: the checksum finds damage, not malice."""
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


def _checksum(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
