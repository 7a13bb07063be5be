"""DICOM as a kind of file that can be hidden."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crypto.dicom.hiding import examine_file, hide_file
from crypto.dicom.showing import ciphertext_of, header_of, show_file, verify_file
from crypto.files.header import HiddenHeader
from crypto.files.kinds import FileKind, FileReport
from crypto.files.recipe import Recipe
from crypto.files.streams import Opener, Output, open_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading.dicom_head import is_dicom
from crypto.reading.dicom_samples import Frame
from medveil.files import new_file


class DicomFile:
    """DICOM files (PS3.10): hidden as DICOM files that every reader opens.

    An archive shown again is native. Of a native original it has every stored word, whatever the header claims of them;
    of a compressed one the pixels as decoded, in the colours that its codestreams hold, and every attribute but those
    that spoke of the compression. `Recipe.seal` is not this class's affair.
    """

    name = "dicom"

    def recognises(self, head: bytes) -> bool:
        """Whether the first 132 bytes of a file are of DICOM, with or without a preamble."""
        return is_dicom(head)

    def hidden_name(self, name: str, recipe: Recipe) -> str:
        """Names are kept."""
        return name

    def examine(self, source: Path, recipe: Recipe) -> None:
        """Raise what `hide` would raise, as far as the file's header shows it."""
        examine_file(source)

    def hide(
        self,
        source: Path,
        target: Path,
        recipe: Recipe,
        key: SiteKey,
        *,
        name: str = "",
        output: Output = new_file,
    ) -> FileReport:
        """Hide a file; see `FileKind.hide`. Stages: read, decode, deidentify, encrypt, authenticate, write."""
        return hide_file(source, target, recipe, key, name=name, output=output)

    def show(
        self,
        source: Path,
        target: Path,
        keys: Keyring,
        *,
        names: Sequence[str] = (),
        opened: Opener = open_file,
    ) -> FileReport:
        """Show a hidden file again; see `FileKind.show`. Stages: read, authenticate, decrypt, write."""
        return show_file(source, target, keys, names, opened)

    def header(self, source: Path) -> HiddenHeader:
        """What a hidden file says of itself; see `FileKind.header`."""
        return header_of(source)

    def verify(self, source: Path, keys: Keyring, *, names: Sequence[str] = ()) -> str:
        """Check a hidden file's MAC without decrypting it; see `FileKind.verify`."""
        return verify_file(source, keys, names)

    def ciphertext(self, source: Path, frame: int = 0) -> Frame:
        """One frame of a training file as it is; see `FileKind.ciphertext`."""
        return ciphertext_of(source, frame)


DICOM: FileKind = DicomFile()
