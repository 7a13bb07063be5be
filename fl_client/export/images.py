"""Images to be asked about: files without labels, plain or hidden, each brought to what a model reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.base import ImageCipher
from crypto.config import FIRST_DERIVATION
from crypto.files.header import HiddenHeader
from crypto.files.hiding import nonces_of
from crypto.files.kinds import FileKind
from crypto.files.recipe import TRAINING
from crypto.files.registry import kind_of
from crypto.files.sealed_kind import SealedFile
from crypto.imaging.preprocess import to_square
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading.look import LastOpened, Look, Sort, look
from fl_client.data.asked_views import asked_view
from fl_client.data.base import Skipped, Stamp
from fl_client.data.folders import walk
from fl_client.data.items import said
from fl_client.export.plain_images import PlainImages
from fl_client.export.ready import Ready
from medveil.errors import DataError, KeyMaterialError, MedVeilError
from medveil.files import storage_error

if TYPE_CHECKING:
    from fl_client.deployment.own_keys import OwnKeys

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


class Place(NamedTuple):
    """Where an image is: its file, which frame of it, and what tells that the file was replaced since."""

    path: Path
    frame: int
    stamp: Stamp


@dataclass(frozen=True)
class Asked:
    """One image as the model reads it: each of its views (C, H, W) a ciphertext, or plain where it reads plain ones.

    `plain` is the image itself, uint8 (C, S, S), before it was hidden and padded; None where it came hidden and was
    not opened on the way.
    """

    id: str
    views: list[Pixels]
    place: Place
    plain: npt.NDArray[np.uint8] | None = None


class NoImage(Skipped):
    """A file that is no image by its name and its content: nothing was missed."""


class Reader:
    """Reads files as a model was trained to see them.

    Plain images are hidden in memory for a model that reads hidden ones. Images this site hid are shown in memory for
    one that reads plain ones, where the site holds their key: they were plain here before they were hidden, and nothing
    but probabilities is written.

    Parameters
    ----------
    ready
        The model.
    views, level
        Views of each image, and the level of augmentation of those after the first; None: that of the model's run.
    """

    def __init__(self, ready: Ready, *, views: int = 1, level: str | None = None) -> None:
        self._views, self._level = views, ready.described.level if level is None else level
        self._made, self._cipher, self._keys = ready.described, ready.cipher, ready.keys
        made = self._made
        self._plain = PlainImages(
            channels=made.channels,
            image_size=made.image_size,
            padded_size=made.padded_size if made.reads_plain else made.image_size,
        )
        self._shown: dict[tuple[object, ...], ImageCipher] = {}
        self._files = LastOpened()

    def read(self, root: Path) -> Iterator[Asked | Skipped]:
        """Every image of a file or below a folder, in the order of names; what cannot be read, with the reason.

        Raises
        ------
        DataError
            There is nothing of that name, or no file in it.
        """
        if not root.exists():
            raise DataError("no such file or folder", where=root)
        files = list(walk(root)) if root.is_dir() else [root]
        if not files:
            raise DataError("the folder is empty", where=root)
        for path in files:
            name = path.relative_to(root).as_posix() if root.is_dir() else path.name
            # Linux allows names of any bytes, and a CSV is text.
            name = name.encode("utf-8", "backslashreplace").decode()
            yield from self._of_file(path, name)

    def _of_file(self, path: Path, name: str) -> Iterator[Asked | Skipped]:
        try:
            if path.exists() and not path.is_file():
                # Opening a pipe would wait for its writer for ever.
                yield NoImage(name, "is a pipe, a socket or a device")
                return
            # Before the file is opened: what replaces it from here on shows.
            stamp = stamp_of(path)
            found = look(path, name)
            kind = kind_of(path)
            if kind is None or found.sort is Sort.JUNK:
                yield _no_image(name, found)
                return
            header = self._header(kind, path)
            frames = self._files.open(path).about.frames if header is None else header.frames
            if header is not None:
                self._check_hidden(kind, path, header)
        except MedVeilError as error:
            yield Skipped(name, said(error))
            return
        for frame in range(frames):
            each = name if frames == 1 else f"{name}#{frame}"
            try:
                place = Place(path, frame, stamp)
                if header is None:
                    plain = self._of_plain(path, frame)
                elif self._made.reads_plain:
                    # An image this site hid, as it was before; its MAC was checked.
                    plain = self._opened(kind.ciphertext(path, frame), header, frame)
                else:
                    views, shown = self._ciphertext(kind, path, header, frame)
                    yield Asked(each, views, place, shown)
                    continue
                yield Asked(each, self._brought(plain), place, plain)
            except MedVeilError as error:
                yield Skipped(each, said(error))

    def _header(self, kind: FileKind, path: Path) -> HiddenHeader | None:
        """The header of a hidden file; None for a plain one, whose faults are those of an image, and no forgery."""
        if isinstance(kind, SealedFile) or self._files.open(path).about.hidden:
            return kind.header(path)
        return None

    def _brought(self, square: npt.NDArray[np.uint8]) -> list[Pixels]:
        """The views of a plain image (C, S, S), hidden where the model reads hidden ones."""
        plain = [asked_view(square, view, self._level) for view in range(self._views)]
        if self._cipher is None:
            return [self._plain.fill(each) for each in plain]
        nonces = self._cipher.fresh_nonces(self._views) if self._cipher.per_image else [None] * self._views
        return [self._cipher.encrypt(each, nonce) for each, nonce in zip(plain, nonces, strict=True)]

    def _of_plain(self, path: Path, frame: int) -> npt.NDArray[np.uint8]:
        made = self._made
        if made.hidden_source is not None:
            fingerprint = made.hidden_source.fingerprint
            raise DataError(f"is a plain image, and the model reads images hidden under {fingerprint}")
        window = None if made.window is None else list(made.window)
        pixels = self._files.open(path).shown(frame, window=window)
        if min(pixels.shape[:2]) < made.min_side:
            raise DataError(f"is {pixels.shape[1]}x{pixels.shape[0]} pixels, smaller than {made.min_side}")
        return to_square(pixels, size=made.image_size, channels=made.channels)

    def _ciphertext(
        self, kind: FileKind, path: Path, header: HiddenHeader, frame: int
    ) -> tuple[list[Pixels], npt.NDArray[np.uint8] | None]:
        """The views of a hidden image, and the image itself where it was opened for them."""
        found: npt.NDArray[Any] = kind.ciphertext(path, frame)
        first = self._cipher is not None and {header.derivation, self._cipher.config.derivation} == {FIRST_DERIVATION}
        if self._cipher is not None and (not first or self._views > 1):
            # But under derivation 1, a file hidden for training and a site's store are two ciphers of one key.
            plain = self._as_hidden(found, header, frame)
            return self._brought(plain), plain
        wanted = (self._made.channels, self._made.padded_size, self._made.padded_size)
        dtype = np.dtype(np.uint8) if self._cipher is None else self._cipher.hidden_dtype(np.uint8)
        if found.shape != wanted or found.dtype != dtype:
            raise DataError(f"is hidden as {found.dtype} {found.shape}, and the model reads {dtype} {wanted}")
        if self._views > 1:
            raise DataError("is hidden by another party, and no view can be made of it")
        return [found], None

    def _opened(self, hidden: Pixels, header: HiddenHeader, frame: int) -> npt.NDArray[np.uint8]:
        known = (header.scheme, header.block, header.negate, header.derivation, header.fingerprint)
        if known not in self._shown:
            self._shown[known] = header.cipher(_held(self._keys(), header))
        shown: npt.NDArray[Any] = self._shown[known].decrypt(hidden, nonces_of(header, frame))
        return shown.astype(np.uint8)

    def _as_hidden(self, hidden: Pixels, header: HiddenHeader, frame: int) -> npt.NDArray[np.uint8]:
        """A file hidden for training, opened, to be hidden as the run's store would: in memory, by the key of both."""
        made = self._made
        if (header.channels, header.height, header.width) != (made.channels, made.image_size, made.image_size):
            raise DataError(f"is hidden as {header.channels} x {header.height} x {header.width}, not as the model's")
        return self._opened(hidden, header, frame)

    def _check_hidden(self, kind: FileKind, path: Path, header: HiddenHeader) -> None:
        if header.purpose != TRAINING:
            raise DataError("is hidden as an archive: it must be decrypted first")
        if self._made.reads_plain:
            self._check_shown(kind, path, header)
            return
        source, cipher = self._made.hidden_source, self._made.cipher
        wanted = (
            (cipher.scheme, cipher.block, self._made.fingerprint, header.derivation)
            if source is None
            else (source.scheme, source.block, source.fingerprint, source.derivation)
        )
        found = (header.scheme, header.block, header.fingerprint, header.derivation)
        if found != wanted:
            raise DataError(f"is hidden with {_said(found)}, and the model reads {_said(wanted)}")
        if self._cipher is None:
            return
        if header.negate != self._cipher.config.negate:
            raise DataError("is hidden with another 'negate' than the model reads")
        kind.verify(path, self._ring())

    def _check_shown(self, kind: FileKind, path: Path, header: HiddenHeader) -> None:
        reads = f"is hidden under {header.fingerprint}, and the model reads plain images"
        try:
            key = _held(self._keys(), header)
        except MedVeilError as error:
            raise DataError(f"{reads}; to show it: {error.problem}") from None
        size = self._made.image_size
        found, wanted = (header.channels, header.height, header.width), (self._made.channels, size, size)
        if found != wanted or header.bits != 8 or header.signed:
            raise DataError(f"{reads} of {wanted}, this one has {found} and {header.bits} bits")
        kind.verify(path, Keyring(key))

    def _ring(self) -> Keyring:
        keys = self._keys()
        return keys.shared if self._made.policy.keys == "shared" and keys.shared is not None else keys.own


def stamp_of(path: Path) -> Stamp:
    """What tells that a file was replaced (StorageError where it cannot be asked)."""
    try:
        found = path.stat()
    except OSError as error:
        raise storage_error(error, path, "read the file") from error
    return Stamp(found.st_size, found.st_mtime_ns)


def _no_image(name: str, found: Look) -> Skipped:
    """A file whose content is no image: missed where its name promises one, as `medveil-crypto` has it."""
    if found.sort is Sort.MISSED:
        return Skipped(name, found.why)
    return NoImage(name, found.why)


def _held(keys: OwnKeys, header: HiddenHeader) -> SiteKey:
    """The site's own or shared key that hid a file (KeyMaterialError where it holds neither)."""
    for ring in (keys.own, keys.shared):
        for key in ring or ():
            if key.fingerprint == header.fingerprint:
                return key
    raise KeyMaterialError("this site does not hold its key")


def _said(hidden: tuple[str, int, str, int]) -> str:
    return f"{hidden[0]}, block {hidden[1]}, under {hidden[2]} (derivation {hidden[3]})"
