"""Codestreams in DICOM files: the pixels that were encoded, or a refusal; none ends the process or runs for ever."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from imagecodecs import jpeg2k_encode, jpeg8_encode, jpegls_encode
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from crypto.imaging.preprocess import percentiles_to_bytes
from crypto.reading import dicom_jpeg_ls
from crypto.reading.dicom import DicomImage
from crypto.reading.scans import MOST_SCANS
from medveil.errors import DataError, MedVeilError

Write = Callable[..., Path]
HEIGHT, WIDTH = 33, 24
ENDLESS = base64.b85decode(
    "|JeWN03cIPNk&Eh0ssI30000$0000$3J?YX0003j0003j|L6b+00001|JeWc01FTRKmb4i0TBTI_y7$7|Nj6O08IfR06_oR00;pA00IC22X>Q3|"
    "04adiweaYNQ8tf3l7{NH6>AUo4wDWS3~~^Jq2Yp-TIsBUD;X7F$=fq%*Tq*Dd34vi;qfcJ-KXJr9PNLVG?+Z7F{5XSIb5qkVyS9ayuWFMWFK=Z"
    "jGr36dWR35vWMjKqVtoi#WBkGAUt*l*7j=u*vBCRAeRes7eJa>R*XHs`~mH4uR4D"
)
"""A damaged codestream of JPEG-LS, 64 x 64 of 12 bits, over which CharLS 2.4 runs for ever."""


def picture(bits: int, channels: int = 1) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [(np.sin(x / 5 + k) + np.cos(y / 7 - k) + 2) / 4 for k in range(channels)]
    noise = np.random.default_rng(bits).normal(0, 0.02, (HEIGHT, WIDTH, channels))
    top = 2**bits - 1
    made = np.clip((np.stack(waves, -1) + noise) * top, 0, top).astype(np.uint8 if bits <= 8 else np.uint16)
    return made[..., 0] if channels == 1 else made


@pytest.fixture
def write(dicom_of: Callable[..., Dataset], tmp_path: Path) -> Write:
    """Write a codestream as the only frame of a file."""

    def made(coded: bytes, like: np.ndarray, syntax: str, bits: int, **changes: object) -> Path:
        dataset = dicom_of(like, bits=bits)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([coded])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        if "overlay" in changes:
            dataset.add_new(0x60000102, "US", changes.pop("overlay"))
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        path = tmp_path / "x.dcm"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return made


def shown(path: Path) -> np.ndarray:
    return DicomImage(path).shown(0)


def stored(path: Path) -> np.ndarray:
    found = DicomImage(path).stored(0)
    return found[0] if len(found) == 1 else found.transpose(1, 2, 0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("predictor", [1, 4, 7])
def test_lossless_jpeg_is_what_was_encoded(write: Write, bits: int, channels: int, predictor: int) -> None:
    plain = picture(bits, channels)
    coded = jpeg8_encode(plain, lossless=True, predictor=predictor, bitspersample=bits)
    path = write(coded, plain, JPEGLosslessSV1 if predictor == 1 else JPEGLossless, bits)
    np.testing.assert_array_equal(stored(path), plain)


def test_jpeg_of_12_bits_is_read(write: Write) -> None:
    plain = picture(12)
    path = write(jpeg8_encode(plain, level=98, bitspersample=12), plain, JPEGExtended12Bit, 12)
    assert np.abs(stored(path).astype(int) - plain).max() < 60


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
def test_baseline_jpeg_is_as_pillow_has_it(write: Write, settings: dict[str, int]) -> None:
    plain, stream = picture(8, 3), io.BytesIO()
    Image.fromarray(plain).save(stream, "JPEG", **settings)
    path = write(stream.getvalue(), plain, JPEGBaseline8Bit, 8, PhotometricInterpretation="YBR_FULL")
    with Image.open(stream) as image:
        image.draft("YCbCr", image.size)
        np.testing.assert_array_equal(stored(path), np.asarray(image))


def coded_grey() -> list[tuple[str, bytes, int]]:
    stream = io.BytesIO()
    Image.fromarray(picture(8)).save(stream, "JPEG")
    return [
        (JPEGBaseline8Bit, stream.getvalue(), 8),
        (JPEGExtended12Bit, jpeg8_encode(picture(12), bitspersample=12), 12),
        (JPEGLosslessSV1, jpeg8_encode(picture(8), lossless=True), 8),
        (JPEGLossless, jpeg8_encode(picture(16), lossless=True, predictor=6, bitspersample=16), 16),
        (JPEGLSLossless, jpegls_encode(picture(12)), 12),
        (JPEGLSNearLossless, jpegls_encode(picture(8), level=2), 8),
    ]


@pytest.mark.parametrize("which", range(6))
@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_codestream_cut_short_is_refused(
    write: Write, which: int, kept: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libjpeg fills up what is missing, and says so to nobody; CharLS looks for it for ever."""
    monkeypatch.setattr(dicom_jpeg_ls, "SECONDS", 0.3)
    syntax, coded, bits = coded_grey()[which]
    start = coded.rindex(b"\xff\xda")
    cut = coded[: start + int(kept * (len(coded) - 2 - start))]
    for end in (b"", b"\xff\xd9"):
        with pytest.raises(DataError, match="can be read by no decoder here"):
            DicomImage(write(cut + end, picture(bits), syntax, bits)).stored(0)


def mutated(coded: bytes, chance: random.Random) -> bytes:
    made, header = bytearray(coded), coded.rindex(b"\xff\xda") + 14
    for _ in range(chance.choice([1, 2, 5])):
        at = chance.randrange(2, header if chance.random() < 0.6 else len(made))
        how = chance.random()
        if how < 0.6:
            made[at] = chance.randrange(256)
        elif how < 0.8:
            made[at:at] = chance.randbytes(chance.randrange(1, 8))
        else:
            del made[at : at + chance.randrange(1, 8)]
    return bytes(made)


@pytest.mark.parametrize("which", range(6))
def test_damaged_codestreams_end_in_pixels_or_in_our_errors(
    write: Write, which: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDCM, which decoded the first four, ended the process over one in ten."""
    monkeypatch.setattr(dicom_jpeg_ls, "SECONDS", 0.5)
    syntax, coded, bits = coded_grey()[which]
    chance = random.Random(which)
    path = write(coded, picture(bits), syntax, bits)
    good, read = path.read_bytes(), 0
    for _ in range(60):
        other = mutated(coded, chance)
        made = good.replace(coded, other + bytes(len(other) % 2), 1)
        at = made.index(other) - 4
        path.write_bytes(made[:at] + (len(other) + len(other) % 2).to_bytes(4, "little") + made[at + 4 :])
        try:
            DicomImage(path).shown(0)
            read += 1
        except MedVeilError as error:
            assert not any(word in str(error) for word in ("Error", "Exception", "Traceback")), error
    assert read < 60


def test_a_codestream_without_end_is_given_up_and_the_next_one_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_jpeg_ls, "SECONDS", 0.5)
    endless = write(ENDLESS, np.zeros((64, 64), np.uint16), JPEGLSNearLossless, 12)
    with pytest.raises(DataError, match="can be read by no decoder here"):
        DicomImage(endless).stored(0)
    plain = picture(12)
    np.testing.assert_array_equal(stored(write(jpegls_encode(plain), plain, JPEGLSLossless, 12)), plain)


def test_a_decoder_that_is_gone_is_started_again(write: Write) -> None:
    plain = picture(12)
    path = write(jpegls_encode(plain), plain, JPEGLSLossless, 12)
    np.testing.assert_array_equal(stored(path), plain)
    process = dicom_jpeg_ls.CHILD._process
    assert process is not None
    process.kill()
    process.wait()
    np.testing.assert_array_equal(stored(path), plain)


@pytest.mark.parametrize(
    ("encode", "syntax"),
    [
        (lambda plain: jpeg2k_encode(plain, codecformat="j2k", reversible=True), JPEG2000Lossless),
        (lambda plain: jpeg2k_encode(plain, codecformat="jp2", reversible=True), JPEG2000Lossless),
        (jpegls_encode, JPEGLSLossless),
        (lambda plain: jpeg8_encode(plain, lossless=True, bitspersample=16), JPEGLosslessSV1),
    ],
)
def test_a_codestream_of_another_image_than_the_header_is_refused(
    write: Write, encode: Callable[[np.ndarray], bytes], syntax: str
) -> None:
    """Sixteen bits put into bytes lost the upper half of each sample, in silence."""
    deep, colour = picture(16), picture(8, 3)
    with pytest.raises(DataError, match="frame 1 has samples of 16 bits, not of 8"):
        DicomImage(write(encode(deep), deep.astype(np.uint8), syntax, 8)).stored(0)
    if syntax != JPEGLosslessSV1:
        with pytest.raises(DataError, match="frame 1 has 3 samples a pixel, not 1"):
            DicomImage(write(encode(colour), picture(8), syntax, 8)).stored(0)


def test_a_size_hidden_behind_a_decoy_is_seen(write: Write) -> None:
    """A JP2 file may hold bytes that look like another codestream before its own: the decoder reads the second."""
    plain = picture(8)
    boxed = jpeg2k_encode(np.zeros((512, 512), np.uint8), codecformat="jp2", reversible=True)
    decoy = jpeg2k_encode(plain, codecformat="j2k", reversible=True)[:120]
    box = (len(decoy) + 8).to_bytes(4, "big") + b"free" + decoy
    coded = boxed[:12] + box + boxed[12:]
    with pytest.raises(DataError, match="frame 1 is of 512x512 pixels, not 24x33"):
        DicomImage(write(coded, plain, JPEG2000Lossless, 8)).stored(0)


DEEP: dict[str, Callable[[np.ndarray], bytes]] = {
    JPEG2000Lossless: lambda plain: jpeg2k_encode(plain, codecformat="j2k", reversible=True),
    JPEGLosslessSV1: lambda plain: jpeg8_encode(plain, lossless=True, bitspersample=16),
    JPEGLSLossless: jpegls_encode,
}


@pytest.mark.parametrize("syntax", [*DEEP, RLELossless])
def test_samples_in_other_bits_than_the_header_says_are_refused(
    write: Write, syntax: str, dicom_of: Callable[..., Dataset]
) -> None:
    """Shifted to the top of their words, or of more bits than BitsStored: they were noise, or white."""
    plain = picture(12)

    def coded(words: np.ndarray) -> bytes:
        if syntax in DEEP:
            return DEEP[syntax](words)
        dataset = dicom_of(words)
        dataset.compress(RLELossless, encoding_plugin="pydicom")
        return next(generate_frames(dataset.PixelData, number_of_frames=1))

    with pytest.raises(DataError, match="end at bit 15 of 16-bit words; shift them down to bit 11"):
        DicomImage(write(coded(plain << 4), plain, syntax, 12, HighBit=15)).shown(0)
    path = write(coded(plain), plain, syntax, 12, HighBit=15)
    np.testing.assert_array_equal(stored(path), plain)
    if syntax in DEEP:
        for bits in (8, 12):
            with pytest.raises(DataError, match=f"beyond the {bits} bits of BitsStored; correct BitsStored"):
                DicomImage(write(coded(plain << 4), plain, syntax, bits)).shown(0)
    overlaid = write(coded(plain | 0x1000), plain, syntax, 12, overlay=12)
    np.testing.assert_array_equal(stored(overlaid), plain | 0x1000)
    np.testing.assert_array_equal(shown(overlaid), shown(path))


@pytest.mark.parametrize("syntax", DEEP)
def test_negative_samples_come_back_however_their_signs_were_stored(write: Write, syntax: str) -> None:
    plain = picture(12).astype(np.int16) - 2048
    grey = percentiles_to_bytes(plain)
    for words in (plain.view(np.uint16), plain.view(np.uint16) & 0xFFF):
        found = shown(write(DEEP[syntax](words), plain, syntax, 12))
        np.testing.assert_array_equal(found, grey)


def test_a_jpeg_of_scans_without_end_is_refused_undecoded(write: Write) -> None:
    """Each costs a walk over all pixels; the limit is that of JPEG files."""
    stream = io.BytesIO()
    Image.fromarray(picture(8)).save(stream, "JPEG", progressive=True)
    coded = stream.getvalue()
    last = coded[coded.rindex(b"\xff\xda") : -2]
    path = write(coded[:-2] + MOST_SCANS * last + b"\xff\xd9", picture(8), JPEGBaseline8Bit, 8)
    with pytest.raises(DataError, match="can be read by no decoder here") as caught:
        DicomImage(path).stored(0)
    reason = str(caught.value.__cause__.__cause__)  # type: ignore[union-attr]
    assert f"more than {MOST_SCANS} scans" in reason


def test_an_even_image_by_its_rescaling_blames_no_table(make_dicom: Write) -> None:
    path = make_dicom(picture(12), bits=12, RescaleSlope="1", RescaleIntercept="1e300")
    with pytest.raises(DataError, match=r"one even area: .* its rescaling \(RescaleSlope, RescaleIntercept\)"):
        DicomImage(path).shown(0)
