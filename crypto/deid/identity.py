"""What became of the identity in a hidden DICOM file, as the file itself says it openly."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pydicom
from pydicom import Dataset

from crypto.deid.values import texts_of, write
from crypto.files.recipe import KEPT, REMOVED, SEALED
from medveil.errors import DataError

_SAYS: Final = {
    REMOVED: "identity removed for good",
    SEALED: "identity sealed in this file, under its key",
}
_WRITER: Final = "MedVeil "
_KEPT: Final = "but kept: "
_NOT_SAID: Final = "removed from the open file; whether it is sealed in it, a file of an earlier MedVeil does not say"


def say_identity(dataset: Dataset, identity: str) -> None:
    """Add to the de-identification method of a data set what became of what went."""
    write(dataset, "DeidentificationMethod", [*texts_of(dataset, "DeidentificationMethod"), _SAYS[identity]])


def identity_of(path: Path) -> tuple[str, str]:
    """What became of the identity in a hidden DICOM file: removed, sealed, kept or unsaid; and the same in words.

    Nothing of it is proven before the file is verified with its key.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    try:
        found = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["DeidentificationMethod"])
        texts = texts_of(found, "DeidentificationMethod")
    # A broken file can make pydicom raise nearly anything.
    except Exception as error:
        raise DataError("cannot be read as DICOM", where=path) from error
    kept = ", ".join(sorted(text.removeprefix(_KEPT) for text in texts if text.startswith(_KEPT)))
    but = f", but for {kept}, which --keep left in the clear" if kept else ""
    if _SAYS[SEALED] in texts:
        return SEALED, f"sealed in the file under its key{but}"
    if _SAYS[REMOVED] in texts:
        return REMOVED, f"removed for good{but}"
    if any(text.startswith(_WRITER) for text in texts):
        return "unsaid", _NOT_SAID
    return KEPT, "kept in the clear: whoever has the file reads who was imaged"
