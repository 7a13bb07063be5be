"""Show a hidden DICOM file again, and check one without showing it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crypto.base import NONCE_BYTES
from crypto.dicom.authentic import canonical
from crypto.dicom.ciphering import cipher_of, from_cipher, in_batches, stored_planes
from crypto.dicom.clock import Clock
from crypto.dicom.elements import Elements, decode, encode
from crypto.dicom.private import associated, creator_of, find_header, unpack
from crypto.dicom.writing import NativeFile, padded
from crypto.files.bare import CURE
from crypto.files.header import HiddenHeader, check_ciphertext, check_mac, place_of, unseal_private
from crypto.files.kinds import FileReport
from crypto.files.streams import Opener, open_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading.dicom_file import OpenFile, open_dicom
from crypto.reading.dicom_head import MARK, PREAMBLE
from crypto.reading.dicom_quiet import as_data_error, quiet
from crypto.reading.dicom_samples import Frame, Samples, describe_samples
from crypto.reading.dicom_values import text, whole_number
from medveil.errors import DataError, FormatError, IntegrityError, KeyMaterialError
from medveil.files import new_file, storage_error

_PLAIN_MODE = 0o600
_DAMAGED = "restore it from a copy"


@dataclass
class _Hidden:
    """A hidden file that is open, its MAC not yet checked."""

    opened: OpenFile
    header: HiddenHeader
    tag: int
    authentic: bytes
    elements: Elements
    samples: Samples


def header_of(source: Path) -> HiddenHeader:
    """Read the header; see `crypto.files.kinds.FileKind.header`."""
    with _open(source) as opened, as_data_error(source, "its header"):
        return find_header(opened.dataset, source)[1]


def verify_file(source: Path, keys: Keyring, names: Sequence[str] = ()) -> str:
    """Check the MAC; see `crypto.files.kinds.FileKind.verify`."""
    with _open(source) as opened:
        hidden = _load(opened)
        key = _key(hidden, keys)
        _check(hidden, key)
    return place_of(key, hidden.header, names)


def ciphertext_of(source: Path, frame: int) -> Frame:
    """Read one frame as it is; see `crypto.files.kinds.FileKind.ciphertext`."""
    with _open(source) as opened:
        hidden = _load(opened)
        planes = stored_planes(_frame(hidden, frame), hidden.samples)
        check_ciphertext(planes.shape, hidden.header, frame, where=source)
        return planes


def show_file(
    source: Path, target: Path, keys: Keyring, names: Sequence[str] = (), opened: Opener = open_file
) -> FileReport:
    """Show a file; see `crypto.files.kinds.FileKind.show`.

    Nothing of the file is used before its MAC is checked, so its frames are read twice. What is written is native,
    whatever the hidden file was made from, and readable by its owner alone.
    """
    clock = Clock()
    with contextlib.ExitStack() as stack:
        with clock.stage("read"):
            hidden = _load(stack.enter_context(_open(source, opened)))
        key = _key(hidden, keys)
        with clock.stage("authenticate"):
            _check(hidden, key)
        with clock.stage("decrypt"):
            elements, plain = _plain(hidden, key)
        frames = _decrypted(hidden, key, clock)
        _write(target, elements, plain, frames, clock)
    place = place_of(key, hidden.header, names)
    return FileReport(frames=hidden.header.frames, seconds=dict(clock.seconds), place=place)


@contextlib.contextmanager
def _open(source: Path, opened: Opener = open_file) -> Iterator[OpenFile]:
    """Open a file that should be hidden: what is wrong with it is then damage."""
    _check_mark(source, opened)
    try:
        with quiet(), open_dicom(source, opened) as found:
            yield found
    except DataError as error:
        raise IntegrityError(error.problem, where=source, cure=error.cure or _DAMAGED) from error


def _check_mark(source: Path, opened: Opener) -> None:
    try:
        with opened(source) as stream:
            head = stream.read(PREAMBLE + len(MARK))
    except OSError as error:
        raise storage_error(error, source, "read the file") from error
    if head[PREAMBLE:] != MARK:
        raise FormatError("is not a hidden DICOM file", where=source)


def _load(opened: OpenFile) -> _Hidden:
    with as_data_error(opened.path, "its header"):
        tag, header = find_header(opened.dataset, opened.path)
    if opened.transfer_syntax.is_encapsulated or not opened.transfer_syntax.is_little_endian:
        problem = f"was re-encoded as {opened.transfer_syntax.name}"
        cure = "convert it to Explicit VR Little Endian, without loss, then try again"
        raise FormatError(problem, where=opened.path, cure=cure)
    with as_data_error(opened.path, "its header"):
        # Both need the data set as it was read; looking at an element may change how it would be encoded.
        authentic = canonical(opened.dataset, without=tag)
        elements = encode(opened.dataset)
        if opened.pixels is None or opened.pixels.keyword != "PixelData":
            raise DataError("its pixel data is missing")
        samples = describe_samples(opened)
        if header.version > 1:
            _check_bare(opened, samples)
    return _Hidden(opened, header, tag, authentic, elements, samples)


def _check_bare(opened: OpenFile, samples: Samples) -> None:
    """Refuse what the MAC does not cover and no tool writes by itself: a file of version 2 may not carry it."""
    pixels, stream = opened.pixels, opened.stream
    assert pixels is not None
    length = samples.frame_bytes * samples.frames
    stream.seek(pixels.offset + length)
    if pixels.length != padded(length) or any(stream.read(pixels.length - length)):
        raise DataError("has more pixel data than its frames take", cure=CURE)
    if not opened.bare:
        raise DataError("has data before, behind or beside its data set", cure=CURE)


def _key(hidden: _Hidden, keys: Keyring) -> SiteKey:
    try:
        return keys.find(hidden.header.fingerprint)
    except KeyMaterialError as error:
        raise KeyMaterialError(error.problem, where=hidden.opened.path, cure=error.cure) from error


def _check(hidden: _Hidden, key: SiteKey) -> None:
    parts = _parts(hidden)
    check_mac(key, hidden.header, parts, where=hidden.opened.path)


def _parts(hidden: _Hidden) -> Iterator[bytes]:
    yield hidden.authentic
    yield from _stored(hidden)


def _stored(hidden: _Hidden) -> Iterator[bytes]:
    """The stored bytes of each frame."""
    for index in range(hidden.samples.frames):
        yield _frame(hidden, index)


def _frame(hidden: _Hidden, index: int) -> bytes:
    pixels, stream = hidden.opened.pixels, hidden.opened.stream
    assert pixels is not None
    size = hidden.samples.frame_bytes
    stream.seek(pixels.offset + index * size)
    with as_data_error(hidden.opened.path, "its pixel data"):
        data = stream.read(size)
    if len(data) < size:
        raise DataError("its pixel data is cut short", where=hidden.opened.path)
    return data


def _plain(hidden: _Hidden, key: SiteKey) -> tuple[Elements, Samples]:
    """The elements of the shown file, and what its samples are."""
    header, path = hidden.header, hidden.opened.path
    instance = str(hidden.opened.dataset.get("SOPInstanceUID"))
    try:
        packed = unseal_private(key, header.sealed, associated=associated(header, instance))
    except (FormatError, IntegrityError) as error:
        raise type(error)(error.problem, where=path, cure=error.cure) from error
    ours = {hidden.tag, creator_of(hidden.tag)}
    elements = unpack(packed, {tag: piece for tag, piece in hidden.elements.items() if tag not in ours})
    shown = decode(elements)
    with as_data_error(path, "its sealed attributes"):
        samples = replace(
            hidden.samples,
            rows=header.height,
            columns=header.width,
            bits=header.bits,
            allocated=whole_number(shown, "BitsAllocated"),
            photometric=text(shown, "PhotometricInterpretation"),
            planar=header.channels == 3 and whole_number(shown, "PlanarConfiguration", default=0) == 1,
        )
    return elements, samples


def _decrypted(hidden: _Hidden, key: SiteKey, clock: Clock) -> Iterator[Frame]:
    header = hidden.header
    with clock.stage("decrypt"):
        cipher = cipher_of(header, key)
    nonces = np.frombuffer(header.nonces, np.uint8).reshape(-1, NONCE_BYTES)
    stored = clock.each("read", _stored(hidden))
    planes = (stored_planes(data, hidden.samples) for data in stored)
    return clock.each("decrypt", in_batches(planes, nonces, cipher.decrypt))


def _write(target: Path, elements: Elements, plain: Samples, frames: Iterator[Frame], clock: Clock) -> None:
    with clock.stage("write"), new_file(target, mode=_PLAIN_MODE) as stream:
        made = NativeFile(stream, elements, plain)
        for planes in frames:
            made.frame(from_cipher(planes, plain))
        made.finish()
