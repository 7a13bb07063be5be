"""Hide a DICOM file: decode, describe, de-identify, encrypt, write."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import Dataset

from crypto.base import NONCE_BYTES, ImageCipher, Nonces
from crypto.deid.deidentify import Deidentifier, signs_of_text
from crypto.deid.identity import say_identity
from crypto.deid.pseudonyms import new_uid
from crypto.dicom.attributes import describe_decoded
from crypto.dicom.authentic import canonical
from crypto.dicom.ciphering import cipher_of, from_cipher, in_batches, to_cipher, widened
from crypto.dicom.clock import Clock
from crypto.dicom.derived import conceal
from crypto.dicom.elements import Elements, decode, encode, name_representations, right_representations, swap_words
from crypto.dicom.private import associated, find_header, header_element, pack, reserve
from crypto.dicom.training import describe_training
from crypto.dicom.writing import NativeFile, check_length
from crypto.files.header import LARGEST_TEXT, MAC_BYTES, HiddenHeader, make_mac, make_place, seal_private
from crypto.files.kinds import FileReport
from crypto.files.recipe import REMOVED, SEALED, TRAINING, Recipe
from crypto.files.streams import Output
from crypto.imaging.preprocess import to_square
from crypto.keys import SiteKey
from crypto.reading.dicom_file import OpenFile, open_dicom, parse_dicom
from crypto.reading.dicom_frames import StoredFrames
from crypto.reading.dicom_objects import class_of, instance_of, refuse
from crypto.reading.dicom_quiet import as_data_error, quiet
from crypto.reading.dicom_samples import LARGEST_SIDE, Frame, Samples, describe_samples
from crypto.reading.dicom_shown import Showing
from crypto.reading.dicom_values import tag_of
from medveil.errors import ConfigError, DataError
from medveil.files import new_file


class _DeeperError(Exception):
    """A frame has values that BitsStored does not hold."""


@dataclass
class _Work:
    """One file on its way through."""

    opened: OpenFile
    recipe: Recipe
    key: SiteKey
    output: Output
    clock: Clock
    report: FileReport


@dataclass
class _Pixels:
    """The ciphertext: what its samples are, and its frames as they come."""

    samples: Samples
    planes: Iterator[Frame]


def hide_file(
    source: Path, target: Path, recipe: Recipe, key: SiteKey, *, name: str = "", output: Output = new_file
) -> FileReport:
    """Hide a file; see `crypto.files.kinds.FileKind.hide`.

    Values that BitsStored does not hold are kept: the file is then hidden with all its allocated bits. Shown, a native
    one claims what it did; a compressed one, which such values came out of, has all its allocated bits stored.
    """
    try:
        return _hide(source, target, recipe, key, name=name, output=output, deeper=False)
    except _DeeperError:
        report = _hide(source, target, recipe, key, name=name, output=output, deeper=True)
        report.warnings.append("its pixels exceed BitsStored: all allocated bits are taken as stored")
        return report


def examine_file(source: Path) -> None:
    """Refuse what `hide_file` would refuse by the header alone."""
    with quiet(), open_dicom(source) as opened, as_data_error(source, "its header"):
        refuse(opened)
        describe_samples(opened)


def _hide(
    source: Path, target: Path, recipe: Recipe, key: SiteKey, *, name: str, output: Output, deeper: bool
) -> FileReport:
    clock, report = Clock(), FileReport()
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        with clock.stage("read"):
            opened = stack.enter_context(open_dicom(source))
            with as_data_error(source, "its header"):
                refuse(opened)
                samples = describe_samples(opened)
                dataset = _normal(opened)
        samples = samples.at_full_depth() if deeper else samples
        work = _Work(opened, recipe, key, output, clock, report)
        plain = _training_samples(samples, recipe) if recipe.purpose == TRAINING else samples
        header = _header(plain, recipe, key, name)
        with clock.stage("encrypt"):
            cipher = _cipher(header, work)
            nonces = cipher.fresh_nonces(plain.frames) if cipher.per_image else np.empty((0, NONCE_BYTES), np.uint8)
        planes = _hidden_planes(work, samples, plain, cipher, nonces)
        first = next(planes)
        hidden = widened(plain, cipher, first)
        check_length(hidden, source)
        with clock.stage("deidentify"), as_data_error(source, "an attribute"):
            shown, elements = _describe(work, dataset, samples, plain, hidden)
        header = replace(header, nonces=nonces.tobytes())
        header = _sealed(work, header, shown, elements)
        _write(work, target, header, elements, _Pixels(hidden, itertools.chain([first], planes)))
    report.frames = plain.frames
    report.channels = plain.channels if recipe.purpose == TRAINING else 0
    report.seconds = dict(clock.seconds)
    return report


def _normal(opened: OpenFile) -> Dataset:
    """The file's data set, whatever its encoding, as one just read in Explicit VR Little Endian."""
    dataset = opened.dataset
    if not opened.transfer_syntax.is_little_endian:
        swap_words(dataset)
    name_representations(dataset)
    # Anew, and not the value of an element that may have come with any VR.
    for keyword, uid in (("SOPClassUID", class_of(dataset)), ("SOPInstanceUID", instance_of(dataset))):
        dataset.add_new(tag_of(keyword), "UI", uid)
    return decode(encode(dataset))


def _training_samples(samples: Samples, recipe: Recipe) -> Samples:
    assert recipe.size is not None
    grey = samples.photometric in {"MONOCHROME1", "MONOCHROME2"}
    channels = recipe.channels or (1 if grey else 3)
    return Samples(
        rows=recipe.size,
        columns=recipe.size,
        channels=channels,
        frames=samples.frames,
        allocated=8,
        bits=8,
        signed=False,
        photometric="MONOCHROME2" if channels == 1 else "RGB",
    )


def _header(plain: Samples, recipe: Recipe, key: SiteKey, name: str) -> HiddenHeader:
    """The header, its MAC a placeholder of the right length."""
    return HiddenHeader(
        purpose=recipe.purpose,
        kind="dicom",
        scheme=recipe.cipher.scheme,
        block=recipe.cipher.block,
        negate=recipe.cipher.negate,
        channels=plain.channels,
        height=plain.rows,
        width=plain.columns,
        bits=plain.bits,
        frames=plain.frames,
        signed=plain.signed,
        fingerprint=key.fingerprint,
        derivation=recipe.cipher.derivation,
        preparation=recipe.preparation,
        place=make_place(key, name) if name else b"",
        mac=bytes(MAC_BYTES),
    )


def _cipher(header: HiddenHeader, work: _Work) -> ImageCipher:
    try:
        cipher = cipher_of(header, work.key)
    except ConfigError as error:
        # Of the images, not of the command: another file of the tree may suit the scheme.
        raise DataError(error.problem, where=work.opened.path, cure=error.cure) from error
    if max(cipher.padded) > LARGEST_SIDE:
        problem = f"padded to whole blocks it would be {cipher.padded[1]}x{cipher.padded[0]} pixels"
        raise DataError(problem, where=work.opened.path, cure=f"DICOM ends at {LARGEST_SIDE}: choose a smaller block")
    return cipher


def _hidden_planes(
    work: _Work, samples: Samples, plain: Samples, cipher: ImageCipher, nonces: Nonces
) -> Iterator[Frame]:
    if work.recipe.purpose == TRAINING:
        planes = work.clock.each("decode", _squares(work, samples, plain))
    else:
        frames = work.clock.each("decode", _checked_frames(work.opened, samples))
        planes = (to_cipher(frame, plain) for frame in frames)
    return work.clock.each("encrypt", in_batches(planes, nonces, cipher.encrypt))


def _checked_frames(opened: OpenFile, samples: Samples) -> Iterator[Frame]:
    for frame in StoredFrames(opened, samples):
        if not samples.holds(frame):
            raise _DeeperError
        yield frame


def _squares(work: _Work, samples: Samples, plain: Samples) -> Iterator[Frame]:
    # A copy of its own: the other one is changed while frames still come.
    dataset = _normal(work.opened)
    showing: Showing | None = None
    for index, frame in enumerate(StoredFrames(work.opened, samples)):
        with as_data_error(work.opened.path, f"the window or lookup table of frame {index + 1}"):
            showing = showing or Showing(dataset, samples)
            shown = showing.frame(frame, index, work.recipe.window)
        yield to_square(shown, size=plain.rows, channels=plain.channels)


def _describe(
    work: _Work, dataset: Dataset, samples: Samples, plain: Samples, hidden: Samples
) -> tuple[Elements, Elements]:
    """Make the data sets of the file that showing gives back and of the hidden one."""
    recipe, key = work.recipe, work.key
    instance = str(dataset.SOPInstanceUID)
    # Of the file as it came: a training image is a secondary capture of ours, and says nothing of its pixels.
    signs = signs_of_text(dataset)
    if recipe.identity == REMOVED:
        _deidentify(work, dataset, signs)
    work.report.warnings += describe_decoded(dataset, work.opened, samples)
    if recipe.purpose == TRAINING:
        work.report.warnings += describe_training(dataset, samples, plain)
        dataset.SOPInstanceUID = new_uid(key, f"{instance} {recipe.purpose} {recipe.size}")
    shown = encode(dataset)
    if recipe.identity == SEALED:
        _deidentify(work, dataset, signs)
    conceal(dataset, hidden, recipe, instance=_hidden_instance(instance, recipe, key))
    return shown, encode(dataset)


def _hidden_instance(instance: str, recipe: Recipe, key: SiteKey) -> str:
    """A UID of its own for each way of hiding: neither the plain file nor another hidden form of it has the same."""
    cipher = recipe.cipher
    ways = [recipe.purpose, recipe.size, recipe.channels, recipe.window, cipher.scheme, cipher.block, cipher.negate]
    return new_uid(key, " ".join([instance, "hidden", *map(str, ways)]))


def _deidentify(work: _Work, dataset: Dataset, signs: list[str]) -> None:
    recipe = work.recipe
    right_representations(dataset)
    done = Deidentifier(work.key, keep=recipe.keep, safe_private=recipe.safe_private).apply(dataset, signs=signs)
    say_identity(dataset, recipe.identity)
    work.report.removed += done.removed
    work.report.replaced += done.replaced
    work.report.warnings += done.warnings


def _sealed(work: _Work, header: HiddenHeader, shown: Elements, elements: Elements) -> HiddenHeader:
    """The header with what showing needs sealed into it."""
    packed = pack(shown, None if work.recipe.identity == SEALED else elements)
    bound = associated(header, str(decode(elements).SOPInstanceUID))
    header = replace(header, sealed=seal_private(work.key, packed, associated=bound))
    if len(header.to_json()) > LARGEST_TEXT:
        raise DataError("needs a larger header than can be", where=work.opened.path, cure="split it into several files")
    return header


def _write(work: _Work, target: Path, header: HiddenHeader, elements: Elements, pixels: _Pixels) -> None:
    tag = reserve(elements)
    elements[tag] = header_element(tag, header)
    with work.clock.stage("write"), work.output(target) as stream:
        made = NativeFile(stream, elements, pixels.samples)
        first = canonical(decode(elements), without=tag)
        with work.clock.stage("authenticate"):
            mac = make_mac(work.key, header, _parts(first, made, pixels, work.clock))
        made.finish()
        made.replace(tag, header_element(tag, replace(header, mac=mac)))
        with as_data_error(work.opened.path, "its hidden form"):
            _check_written(stream, work.opened.path, first)


def _check_written(stream: BinaryIO, source: Path, first: bytes) -> None:
    """Make sure that what was written will be read as it was meant: a steward may throw the original away."""
    stream.seek(0)
    again = parse_dicom(source, stream)
    tag, _ = find_header(again.dataset, source)
    if canonical(again.dataset, without=tag) != first:
        raise DataError("holds elements that would be read back as something else", where=source)


def _parts(first: bytes, made: NativeFile, pixels: _Pixels, clock: Clock) -> Iterator[bytes]:
    """What the MAC covers: the data set, and each frame as it is written."""
    yield first
    for planes in pixels.planes:
        with clock.stage("write"):
            data = from_cipher(planes, pixels.samples)
            made.frame(data)
        yield data
