"""What was pulled, as plain DICOM files: written only where a person asks for it."""

from __future__ import annotations

from pathlib import Path

from fl_client.dicomweb.pulled import Pulled, PulledList
from fl_client.export.write import refuse_folder
from medveil.files import new_folder, write_bytes, write_text
from medveil.sheets import sheet


def refuse_plain(folder: Path) -> None:
    """Refuse a folder that holds something (ConfigError, StorageError)."""
    refuse_folder(folder)


def write_plain(pulled: Pulled, made: PulledList, folder: Path) -> None:
    """Write each instance as ``NUMBER.dcm``, as the server sent it, and ``instances.csv``, which is what.

    Raises
    ------
    StorageError, IntegrityError
        The disk refuses, or a sealed file was changed; then nothing is left.
    """
    rows = [["path", "study", "series", "instance", "accession", "label"]]
    with new_folder(folder, mode=0o700) as place:
        for number, each in enumerate(made.instances):
            # Never a name of the server's.
            name = f"{number:06d}.dcm"
            write_bytes(place / name, pulled.data(each), mode=0o600)
            rows.append([name, each.study, each.series, each.uid, each.accession, each.label])
        write_text(place / "instances.csv", sheet(rows), mode=0o600)
