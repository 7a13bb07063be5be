"""Depths, signs, unused bits and colour: what is hidden comes back as `pixel_array` gives it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.dicom.ciphering import from_cipher, stored_planes, to_cipher
from crypto.reading.dicom import frame_to_bytes
from crypto.reading.dicom_samples import Samples
from crypto.schemes.block_pixel import BlockPixel
from medveil.errors import DataError

RNG = np.random.default_rng(7)
MakeDicom = Callable[..., Path]


def samples_of(rows: int, columns: int, channels: int, bits: int, *, signed: bool) -> Samples:
    return Samples(rows, columns, channels, 1, 8 if bits <= 8 else 16, bits, signed, "MONOCHROME2")


def by_hand(plain: np.ndarray, bits: int, steward: Any, block: int = 4) -> np.ndarray:
    """The ciphertext of a signed or unsigned grey image, from the formula c_j[i] = f_i(x_{pi[j]}[rho[i]])."""
    height, width = plain.shape
    config = CipherConfig(scheme="block-pixel", block=block, negate=True)
    cipher = make_cipher(config, steward.key, channels=1, height=height, width=width, bits=bits, use="archive")
    assert isinstance(cipher, BlockPixel)
    rho, pi, mask = cipher.stem_permutation()
    across = width // block
    out = np.empty_like(plain)
    for target, source in enumerate(pi):
        y, x = source // across * block, source % across * block
        values = plain[y : y + block, x : x + block].reshape(-1)[rho]
        negated = ~values if plain.dtype.kind == "i" else 2**bits - 1 - values
        y, x = target // across * block, target % across * block
        out[y : y + block, x : x + block] = np.where(mask, negated, values).reshape(block, block)
    return out


@pytest.mark.parametrize("bits", [1, 5, 8, 9, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_ciphertext_is_the_formula_at_the_stored_depth(
    make_dicom: MakeDicom, steward: Any, bits: int, signed: bool
) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    kind = f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}"
    plain = RNG.integers(low, high, (16, 24)).astype(kind)
    source = make_dicom(plain, bits=bits)
    hidden = steward.hide(source)
    dataset = pydicom.dcmread(hidden)
    assert (dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation) == (bits, bits - 1, int(signed))
    stored = np.frombuffer(dataset.PixelData, f"<{kind}").reshape(16, 24)
    # Signs reach into unused bits: the words themselves are what pixel_array says.
    assert np.array_equal(stored, dataset.pixel_array)
    assert np.array_equal(stored, by_hand(plain, bits, steward))
    assert np.array_equal(pydicom.dcmread(steward.show(hidden)).pixel_array, plain)


@given(data=st.data(), bits=st.integers(1, 16))
@settings(max_examples=80, deadline=None)
def test_offset_and_twos_complement_negate_alike(data: st.DataObject, bits: int) -> None:
    """What is negated as v + 2**(b-1) comes back as ~v: just what its two's complement bits would give."""
    samples = samples_of(4, 4, 1, bits, signed=True)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    values = data.draw(arrays(samples.dtype, (4, 4), elements=st.integers(low, high)))
    unsigned = to_cipher(values, samples)
    assert unsigned.max() < 2**bits
    assert np.array_equal(stored_planes(from_cipher(unsigned, samples), samples), unsigned)
    largest = unsigned.dtype.type(2**bits - 1)
    back = np.frombuffer(from_cipher(largest - unsigned, samples), samples.dtype).reshape(4, 4)
    assert np.array_equal(back, ~values)
    pattern = values.astype(np.int32) & int(largest)
    complement = int(largest) - pattern
    extended = np.where(complement >> (bits - 1) & 1, complement - 2**bits, complement)
    assert np.array_equal(back, extended)


@given(
    pixels=st.one_of(
        arrays(np.uint8, st.sampled_from([(5, 7), (3, 5, 7), (5, 7, 3), (2, 5, 7, 3)])),
        arrays(np.uint16, st.sampled_from([(5, 7), (3, 5, 7), (5, 7, 3)])),
        arrays(np.int16, st.sampled_from([(5, 7), (3, 5, 7)])),
        arrays(np.int8, st.sampled_from([(5, 7)])),
    ),
    scheme=st.sampled_from(["block-pixel", "aes-ctr", "etc"]),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_pixels_come_back(make_dicom: MakeDicom, steward: Any, pixels: np.ndarray, scheme: str) -> None:
    source = make_dicom(pixels)
    hidden = steward.hide(source, scheme=scheme, negate=scheme == "block-pixel")
    shown = pydicom.dcmread(steward.show(hidden)).pixel_array
    assert shown.dtype == pixels.dtype
    assert np.array_equal(shown, pydicom.dcmread(source).pixel_array)


def words_of(path: Path) -> bytes:
    return bytes(pydicom.dcmread(path).PixelData)


@pytest.mark.parametrize("kind", ["u2", "i2"])
def test_what_stands_in_unused_bits_comes_back(make_dicom: MakeDicom, steward: Any, kind: str) -> None:
    """Also of signed samples whose sign does not reach into them, as some devices write it."""
    words = RNG.integers(0, 2**16, (8, 8), dtype=np.uint16)
    source = make_dicom(words.view(kind), bits=12)
    assert not np.array_equal(pydicom.dcmread(source).pixel_array, words.view(kind))
    hidden = steward.hide(source)
    assert pydicom.dcmread(hidden).BitsStored == 16
    assert any("BitsStored" in warning for warning in steward.report.warnings)
    shown = pydicom.dcmread(steward.show(hidden))
    assert (shown.BitsStored, shown.HighBit) == (12, 11)
    assert words_of(Path(shown.filename)) == words.tobytes()


def test_overlays_inside_the_pixels_come_back(make_dicom: MakeDicom, steward: Any) -> None:
    words = RNG.integers(0, 2**12, (8, 8), dtype=np.uint16)
    source = make_dicom(words | 0x8000, bits=12)
    dataset = pydicom.dcmread(source)
    dataset.add_new((0x6000, 0x0010), "US", 8)
    dataset.add_new((0x6000, 0x0102), "US", 15)
    dataset.save_as(source)
    hidden = steward.hide(source)
    assert (0x6000, 0x0010) not in pydicom.dcmread(hidden)
    shown = pydicom.dcmread(steward.show(hidden))
    assert shown[0x6000, 0x0102].value == 15
    assert np.array_equal(shown.pixel_array, words)
    assert words_of(Path(shown.filename)) == words_of(source)


def test_a_high_bit_that_low_samples_do_not_have_is_passed_over(make_dicom: MakeDicom, steward: Any) -> None:
    plain = RNG.integers(0, 2**12, (8, 8), dtype=np.uint16)
    source = make_dicom(plain, bits=12, HighBit=15)
    hidden = steward.hide(source)
    assert pydicom.dcmread(hidden).HighBit == 11
    shown = pydicom.dcmread(steward.show(hidden))
    assert shown.HighBit == 15
    assert np.array_equal(shown.pixel_array, plain)


def test_samples_in_high_bits_are_refused(make_dicom: MakeDicom, steward: Any) -> None:
    """pydicom would read the lowest 12 bits of them, and lose the rest."""
    plain = RNG.integers(0, 2**12, (8, 8), dtype=np.uint16) << 4
    with pytest.raises(DataError, match="HighBit"):
        steward.hide(make_dicom(plain, bits=12, HighBit=15))


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_values_above_bits_stored_extend_it(make_dicom: MakeDicom, steward: Any, syntax: str) -> None:
    """A codestream of 16 bits in a file that claims 12: pixel_array gives all 16, so all 16 are kept."""
    plain = RNG.integers(0, 2**16, (3, 40, 48), dtype=np.uint16)
    plain[0] &= 0xFFF
    source = make_dicom(plain)
    dataset = pydicom.dcmread(source)
    dataset.compress(syntax)
    dataset.BitsStored, dataset.HighBit = 12, 11
    dataset.save_as(source)
    assert pydicom.dcmread(source).pixel_array.max() > 4095
    hidden = steward.hide(source)
    assert any("BitsStored" in warning for warning in steward.report.warnings)
    shown = pydicom.dcmread(steward.show(hidden))
    assert shown.BitsStored == pydicom.dcmread(hidden).BitsStored == 16
    assert np.array_equal(shown.pixel_array, plain)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("bits", [10, 12, 16])
def test_compressed_frames(make_dicom: MakeDicom, steward: Any, syntax: str, bits: int) -> None:
    low = 0 if syntax == JPEGLSLossless else -(2 ** (bits - 1))
    plain = RNG.integers(low, low + 2**bits, (3, 40, 48)).astype("i2" if low else "u2")
    source = make_dicom(plain, bits=bits)
    dataset = pydicom.dcmread(source)
    dataset.compress(syntax)
    dataset.save_as(source)
    shown = pydicom.dcmread(steward.show(steward.hide(source)))
    assert np.array_equal(shown.pixel_array, plain)
    assert not shown.file_meta.TransferSyntaxUID.is_compressed


def test_planes_of_colour_stay_planes(make_dicom: MakeDicom, steward: Any) -> None:
    plain = RNG.integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
    source = make_dicom(plain)
    dataset = pydicom.dcmread(source)
    dataset.PlanarConfiguration = 1
    dataset.PixelData = plain.transpose(0, 3, 1, 2).tobytes()
    dataset.save_as(source)
    hidden = steward.hide(source)
    assert pydicom.dcmread(hidden).PlanarConfiguration == 0
    shown = steward.show(hidden)
    assert pydicom.dcmread(shown).PlanarConfiguration == 1
    assert words_of(shown) == words_of(source)
    assert np.array_equal(pydicom.dcmread(shown).pixel_array, plain)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422"])
def test_ybr_stays_ybr(make_dicom: MakeDicom, steward: Any, photometric: str, frames: int) -> None:
    """Also colours that no RGB has, and several subsampled frames, which pydicom's own iterator gets wrong."""
    width = 3 if photometric == "YBR_FULL" else 2
    source = make_dicom(np.zeros((frames, 8, 12, 3), np.uint8), PhotometricInterpretation=photometric)
    dataset = pydicom.dcmread(source)
    dataset.PixelData = RNG.integers(0, 256, frames * 8 * 12 * width, dtype=np.uint8).tobytes()
    dataset.save_as(source)
    hidden = steward.hide(source)
    assert pydicom.dcmread(hidden).PhotometricInterpretation == "RGB"
    shown = steward.show(hidden)
    assert pydicom.dcmread(shown).PhotometricInterpretation == photometric
    assert words_of(shown) == words_of(source)
    expected = pydicom.dcmread(source).pixel_array.reshape(frames, 8, 12, 3)
    for index in range(frames):
        assert np.array_equal(frame_to_bytes(source, index), expected[index])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_ybr_stays_ybr(make_dicom: MakeDicom, steward: Any, syntax: str) -> None:
    """Not mixed by the codestream, its samples are stored bits as any: as RGB they would be rounded."""
    plain = RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    source = make_dicom(plain)
    dataset = pydicom.dcmread(source)
    dataset.PhotometricInterpretation = "YBR_FULL"
    dataset.compress(syntax, encoding_plugin="pylibjpeg") if syntax == RLELossless else dataset.compress(syntax)
    dataset.save_as(source)
    shown = pydicom.dcmread(steward.show(steward.hide(source)))
    assert shown.PhotometricInterpretation == "YBR_FULL"
    assert bytes(shown.PixelData) == plain.tobytes()


@pytest.mark.parametrize("declared", ["YBR_FULL", "YBR_FULL_422", "YBR_RCT", "RGB"])
def test_mixed_colours_of_jpeg_2000_are_unmixed_once(make_dicom: MakeDicom, steward: Any, declared: str) -> None:
    plain = RNG.integers(0, 256, (40, 48, 3), dtype=np.uint8)
    source = make_dicom(plain)
    dataset = pydicom.dcmread(source)
    dataset.PhotometricInterpretation = "YBR_RCT"
    dataset.PixelData = encapsulate(
        [get_encoder(JPEG2000Lossless).encode(plain, **jpeg_2000_of(plain), photometric_interpretation="YBR_RCT")]
    )
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PhotometricInterpretation = declared
    dataset.save_as(source)
    assert np.array_equal(frame_to_bytes(source), plain)
    shown = pydicom.dcmread(steward.show(steward.hide(source)))
    assert shown.PhotometricInterpretation == "RGB"
    assert np.array_equal(shown.pixel_array, plain)


def jpeg_2000_of(plain: np.ndarray) -> dict[str, Any]:
    """What pydicom's encoder must be told of colour pixels of 8 bit."""
    rows, columns, _ = plain.shape
    told = {"rows": rows, "columns": columns, "samples_per_pixel": 3, "bits_allocated": 8, "bits_stored": 8}
    return {**told, "pixel_representation": 0, "number_of_frames": 1, "planar_configuration": 0}


def test_big_endian_words_are_swapped(steward: Any, tmp_path: Path, dicom_of: Callable[..., pydicom.Dataset]) -> None:
    """pydicom re-encodes numbers of big-endian files, but leaves OW lookup tables as they are."""
    table = RNG.integers(0, 2**16, 256, dtype=np.uint16)
    dataset = dicom_of(RNG.integers(0, 256, (8, 8), dtype=np.uint8))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table.astype(">u2").tobytes())
    big = tmp_path / "big.dcm"
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    dataset.save_as(big, enforce_file_format=True)
    shown = pydicom.dcmread(steward.show(steward.hide(big)))
    assert shown.RedPaletteColorLookupTableData == table.tobytes()
    assert list(shown.RedPaletteColorLookupTableDescriptor) == [256, 0, 16]


def test_frames_more_or_fewer_than_said(make_dicom: MakeDicom, steward: Any) -> None:
    plain = RNG.integers(0, 256, (3, 8, 8), dtype=np.uint8)
    with pytest.raises(DataError, match="NumberOfFrames"):
        steward.hide(make_dicom(plain, NumberOfFrames=2))
    with pytest.raises(DataError, match="cut short"):
        steward.hide(make_dicom(plain, NumberOfFrames=4))
    source = make_dicom(plain)
    dataset = pydicom.dcmread(source)
    dataset.compress(RLELossless)
    for said in (2, 4, 2**31 - 1):
        dataset.NumberOfFrames = said
        dataset.save_as(source)
        with pytest.raises(DataError, match="frame"):
            steward.hide(source)


def test_frames_in_fragments(make_dicom: MakeDicom, steward: Any) -> None:
    plain = RNG.integers(0, 256, (2, 40, 48), dtype=np.uint8)
    source = make_dicom(plain)
    dataset = pydicom.dcmread(source)
    coded = list(get_encoder(JPEG2000Lossless).iter_encode(dataset))
    dataset.PixelData = encapsulate(coded, fragments_per_frame=3, has_bot=True)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(source)
    assert np.array_equal(pydicom.dcmread(steward.show(steward.hide(source))).pixel_array, plain)
