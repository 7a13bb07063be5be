"""A store of hidden images that is there: what it holds, and how it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crypto.base import ImageCipher
from fl_client.data.base import Skipped, Source
from fl_client.data.left_open import LiesOpenError, has_sealed
from fl_client.data.prepared import Prepared
from fl_client.data.rows import NONCES, HeldRows, Rows
from fl_client.data.splits import PARTS
from fl_client.data.store_files import StoreSeal, open_rows, read_header
from fl_client.data.store_open_files import check_contents, map_rows
from fl_client.data.stored import OnTheFlyPart, Part, StoredPart, Views


@dataclass(frozen=True)
class EncryptedStore:
    """One site's hidden images.

    Attributes
    ----------
    folder : Path
        Where it lies.
    classes : tuple of str
        Ordered class names.
    parts : dict of str to Part
        By name.
    skipped : tuple of Skipped
        What was left out, each with the reason: files the source passed over when it was opened, then images of the
        site that could not be read when the store was built.
    built : bool
        Whether it was built now, or found.
    rebuilt : str or None
        Why a store that was there had to be built anew.
    """

    folder: Path
    classes: tuple[str, ...]
    parts: dict[str, Part]
    skipped: tuple[Skipped, ...]
    header: dict[str, Any]
    built: bool = False
    rebuilt: str | None = None

    @property
    def sealed(self) -> bool:
        """Whether it lies sealed; an older MedVeil left it open."""
        return bool(self.header["sealed"])

    @property
    def without_copies(self) -> bool:
        """Whether images to judge by that are trained on too were left out; an older MedVeil kept them."""
        return bool(self.header.get("without_copies", False))

    @property
    def alike(self) -> dict[str, Any]:
        """Pictures that it holds twice (`fl_client.data.alike`); one that an older MedVeil built tells of none."""
        return {"classes": 0, "named": [], **self.header.get("alike", {})}

    def part(self, name: str) -> Part:
        """The part called ``"train"``, ``"validation"`` or ``"test"``."""
        return self.parts[name]

    def verify(self) -> None:
        """Read everything, and find what was changed by its seal; of a store that lies open, by its checksums.

        Opening checks the header and the files' sizes only: reading all images would make every start as slow as
        reading the whole store.

        Raises
        ------
        IntegrityError
            A file was changed.
        """
        for name, part in self.parts.items():
            if not isinstance(part, StoredPart):
                continue
            described = self.header["parts"][name]
            for rows, what, file in ((part.images, "images", name), (part.nonces, "nonces", f"{name}{NONCES}")):
                if isinstance(rows, HeldRows):
                    check_contents(self.folder / f"{file}.npy", rows, described[what])
                elif rows is not None:
                    rows.read_all()


def own_header(place: Path, seal: StoreSeal) -> dict[str, Any]:
    """As `fl_client.data.store_files.read_header`; an open one is `LiesOpenError` where the site sealed anything."""
    header = read_header(place, seal)
    if lies_open(place, header["sealed"]):
        raise LiesOpenError(place)
    return header


def lies_open(place: Path, sealed: str) -> bool:
    """Whether a store lies open at a site that sealed anything; `sealed` is the key's fingerprint in its header."""
    return not sealed and has_sealed(place.parent.parent)


@dataclass(frozen=True)
class Opening:
    """What opening a store takes; `memory` is the most bytes of images that stay in memory."""

    place: Path
    cipher: ImageCipher
    seal: StoreSeal
    source: Source | None
    views: Views
    memory: int

    def store(self) -> EncryptedStore:
        """Open the store that is there; errors as `own_header`."""
        header = own_header(self.place, self.seal)
        parts: dict[str, Part] = {}
        left = self.memory
        for name in PARTS:
            described = header["parts"][name]
            labels = np.array(described["labels"], dtype=np.int64)
            ids, indices = tuple(described["ids"]), np.array(described["indices"], dtype=np.int64)
            described_alike = (name, labels, ids, indices, self.cipher.reading)
            if described["images"] is not None:
                images = self._rows(name, header, most=left)
                left -= images.kept_bytes
                nonces = None if described["nonces"] is None else self._rows(f"{name}{NONCES}", header, most=0)
                parts[name] = StoredPart(*described_alike, images, nonces)
            elif self.source is not None:
                prepared = Prepared(self.source, indices, most=left)
                left -= prepared.kept_bytes
                parts[name] = OnTheFlyPart(*described_alike, self.source, self.cipher, self.views, prepared)
        passed_over = () if self.source is None else self.source.skipped
        skipped = (*passed_over, *(Skipped(*each) for each in header["skipped"]))
        return EncryptedStore(self.place, tuple(header["classes"]), parts, skipped, header)

    def _rows(self, name: str, header: dict[str, Any], *, most: int) -> Rows:
        if header["sealed"]:
            return open_rows(self.place, name, header, self.seal, most=most)
        return map_rows(self.place, name, header)
