"""What a site keeps beside its store, in its own folder: sealed under its key, or, in a simulation, plain.

A simulated key seals nothing from anybody, and whoever simulates reads what the sites left. At a real site a file that
an older MedVeil left plain is read while nothing there is sealed, and is gone once it is written anew or sealed
(`medveil-site seal`). Any other plain one is none: whoever can write to the disk may have put it there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from crypto.keys import Key, SimulatedKey
from crypto.sealed import seal, unseal
from fl_client.data.left_open import LiesOpenError, has_sealed, was_plain
from medveil.bounded import DOCUMENT, parse_json
from medveil.errors import IntegrityError, StorageError
from medveil.files import check_format, json_text, make_folder, read_bytes, storage_error, write_bytes
from medveil.shapes import Shape, check_shape

SUFFIX = ".sealed"


class Documents:
    """Files of a folder by their names, which may have a folder's in front.

    Parameters
    ----------
    folder
        The site's own.
    subkeys
        32 bytes each: the first seals, any of them opens. None: files are plain.
    """

    def __init__(self, folder: Path, subkeys: Iterable[bytes] = ()) -> None:
        self.folder = folder
        self._subkeys = tuple(subkeys)

    @classmethod
    def of(cls, folder: Path, key: Key, former: Iterable[Key] = ()) -> Documents:
        """Those of a site's own folder, by its key and the keys it had before."""
        if isinstance(key, SimulatedKey):
            return cls(folder)
        return cls(folder, [each.subkey("state") for each in (key, *former)])

    @property
    def sealed(self) -> bool:
        """Whether what is written is sealed."""
        return bool(self._subkeys)

    def find(self, name: str) -> Path | None:
        """The file in which `name` lies; None where it is not there."""
        forms = [f"{name}{SUFFIX}"] if self.sealed else []
        forms += [name] if not self.sealed or was_plain(name) else []
        return next((path for path in (self.folder / form for form in forms) if path.is_file()), None)

    def read_bytes(self, name: str) -> bytes:
        """What was written.

        Raises
        ------
        StorageError
            It is not there, or cannot be read.
        IntegrityError, FormatError
            It was changed, no key of this site opens it, or it lies open where something is sealed (`LiesOpenError`).
        """
        path = self.find(name)
        if path is None:
            raise StorageError("no such file", where=self.folder / name)
        if self.sealed and path.suffix != SUFFIX and has_sealed(self.folder):
            raise LiesOpenError(path)
        data = read_bytes(path)
        return self._unsealed(path, name, data) if path.suffix == SUFFIX else data

    def read(self, name: str, shape: Shape, *, format_: str, newest: int) -> dict[str, Any]:
        """A JSON document of a format of ours; shape and errors as `medveil.shapes.read_document`."""
        where = self.find(name) or self.folder / name
        document = parse_json(self.read_bytes(name), where=where, bounds=DOCUMENT, kind=IntegrityError)
        check_format(document, name=format_, newest=newest, where=where)
        check_shape(document, shape, where=where)
        return dict(document)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a file for its owner alone; it takes the place of a plain one (StorageError)."""
        plain = self.folder / name
        make_folder(plain.parent, mode=0o700)
        if not self.sealed:
            write_bytes(plain, data, mode=0o600)
            return
        sealed = seal(self._subkeys[0], data, associated=_bound(name))
        write_bytes(plain.with_name(f"{plain.name}{SUFFIX}"), sealed, mode=0o600)
        try:
            plain.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, plain, "remove the file") from error

    def write(self, name: str, document: dict[str, Any]) -> None:
        """`write_bytes` for a JSON document."""
        self.write_bytes(name, json_text(document).encode())

    def _unsealed(self, path: Path, name: str, sealed: bytes) -> bytes:
        refused: IntegrityError | None = None
        for subkey in self._subkeys:
            try:
                return unseal(subkey, sealed, associated=_bound(name))
            except IntegrityError as error:
                refused = error
        assert refused is not None
        raise IntegrityError(refused.problem, where=path, cure=refused.cure)


def _bound(name: str) -> bytes:
    return f"medveil-site-file/1/{name}".encode()
