from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crypto.config import CipherConfig
from crypto.files import sealing
from crypto.files.raster import PngFile
from crypto.files.recipe import Recipe
from crypto.files.registry import SEALED
from crypto.files.sealed_kind import hide_sealed
from crypto.files.sealing import (
    CHUNK_BYTES,
    HEADER_BYTES,
    check_sealed,
    sealed_fingerprint,
    sealed_output,
    unsealed,
)
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.errors import DataError, FormatError, IntegrityError, KeyMaterialError, MedVeilError, StorageError

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
SMALL = 50
RECIPE = Recipe(purpose="archive", cipher=CipherConfig(block=8), seal=True)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "CHUNK_BYTES", SMALL)


def seal(path: Path, plain: bytes, key: SiteKey = KEY) -> None:
    with sealed_output(path, key) as stream:
        stream.write(plain)


def sealed(folder: Path, plain: bytes, key: SiteKey = KEY) -> Path:
    seal(folder / "sealed", plain, key)
    return folder / "sealed"


def opened(path: Path, keys: Keyring = RING) -> bytes:
    check_sealed(path, keys)
    with unsealed(path, keys) as stream:
        return stream.read()


def refuses(path: Path, kind: type[MedVeilError] = IntegrityError, says: str = "is cut short, or was changed") -> None:
    for asked in (check_sealed, opened):
        with pytest.raises(kind, match=says) as caught:
            asked(path, RING)
        assert caught.value.where == str(path)
    assert [each.name for each in path.parent.iterdir()] == ["sealed"]


@pytest.mark.parametrize("n", [0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL, 3 * SMALL + 7])
def test_what_is_sealed_opens(tmp_path: Path, small_chunks: None, n: int) -> None:
    plain = os.urandom(n)
    path = sealed(tmp_path, plain)
    assert path.stat().st_size == HEADER_BYTES + n + 16 * max(1, -(-n // SMALL))
    assert opened(path) == plain
    assert sealed_fingerprint(path) == KEY.fingerprint


def test_the_construction_is_the_one_described(tmp_path: Path, small_chunks: None) -> None:
    plain = os.urandom(2 * SMALL + 9)
    data = sealed(tmp_path, plain).read_bytes()
    header, body = data[:64], data[64:]
    assert header[:9] == b"MVSTREAM\1"
    assert header[9:25].hex() == KEY.fingerprint
    info = b"\0\7medveil\0\0011\0\x0bsealed-file"
    key = HKDF(algorithm=SHA256(), length=32, salt=header[25:57], info=info).derive(KEY.subkey("state", "sealed-file"))
    pieces = [body[:66], body[66:132], body[132:]]
    found = b""
    for number, piece in enumerate(pieces):
        nonce = header[57:] + number.to_bytes(4, "big") + (b"\1" if number == 2 else b"\0")
        found += AESGCM(key).decrypt(nonce, piece, header)
    assert found == plain


def test_two_seals_share_nothing(tmp_path: Path) -> None:
    first, second = sealed(tmp_path, bytes(99)).read_bytes(), sealed(tmp_path, bytes(99)).read_bytes()
    assert first[:25] == second[:25]
    for part in (slice(25, 57), slice(57, 64), slice(64, 80)):
        assert first[part] != second[part]


def test_a_file_cut_at_every_byte_is_refused(tmp_path: Path, small_chunks: None) -> None:
    path = sealed(tmp_path, os.urandom(3 * SMALL + 7))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length < 8:
            refuses(path, FormatError, "is not a sealed file")
        else:
            refuses(path, says="is cut short")
    boundaries = [HEADER_BYTES + i * (SMALL + 16) for i in range(4)]
    assert all(boundary < len(whole) for boundary in boundaries)


@pytest.mark.parametrize(
    ("n", "order"), [(3, (1, 0, 2)), (3, (0, 2, 1)), (3, (0, 1)), (3, (0, 1, 1)), (3, (0, 1, 2, 2))]
)
def test_chunks_that_were_moved_are_refused(tmp_path: Path, small_chunks: None, n: int, order: tuple[int, ...]) -> None:
    path = sealed(tmp_path, os.urandom(n * SMALL))
    data = path.read_bytes()
    chunks = [data[HEADER_BYTES + i * 66 : HEADER_BYTES + (i + 1) * 66] for i in range(n)]
    path.write_bytes(data[:HEADER_BYTES] + b"".join(chunks[i] for i in order))
    refuses(path)


def test_chunks_of_another_file_are_refused(tmp_path: Path, small_chunks: None) -> None:
    first = sealed(tmp_path, os.urandom(2 * SMALL)).read_bytes()
    path = sealed(tmp_path, os.urandom(2 * SMALL))
    second = path.read_bytes()
    path.write_bytes(second[: HEADER_BYTES + 66] + first[HEADER_BYTES + 66 :])
    refuses(path)


@pytest.mark.parametrize("more", [b"\0", bytes(16), bytes(SMALL + 16), b"x" * 1000])
def test_what_is_appended_is_refused(tmp_path: Path, small_chunks: None, more: bytes) -> None:
    for n in (SMALL, SMALL + 3):
        path = sealed(tmp_path, os.urandom(n))
        path.write_bytes(path.read_bytes() + more)
        refuses(path)


def test_every_byte_of_the_header_counts(tmp_path: Path) -> None:
    path = sealed(tmp_path, b"plain")
    whole = path.read_bytes()
    for at in range(HEADER_BYTES):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
        if at < 8:
            refuses(path, FormatError, "is not a sealed file")
        elif at == 8:
            refuses(path, FormatError, "version 129; this MedVeil reads up to 1")
        elif at < 25:
            refuses(path, KeyMaterialError, "was hidden under the key")
        else:
            refuses(path)


def test_every_byte_behind_the_header_counts(tmp_path: Path, small_chunks: None) -> None:
    path = sealed(tmp_path, os.urandom(SMALL + 5))
    whole = path.read_bytes()
    for at in range(HEADER_BYTES, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refuses(path)


def test_the_wrong_key_is_named_and_a_retired_one_opens(tmp_path: Path) -> None:
    path = sealed(tmp_path, b"plain")
    other = SiteKey.generate("mercy")
    with pytest.raises(KeyMaterialError, match=f"was hidden under the key {KEY.fingerprint}"):
        check_sealed(path, Keyring(other))
    assert opened(path, Keyring(other, (KEY,))) == b"plain"


def test_a_key_of_the_same_fingerprint_and_another_secret_opens_nothing(tmp_path: Path) -> None:
    path = sealed(tmp_path, b"plain")
    forged = SiteKey.generate("mercy")
    forged.fingerprint = KEY.fingerprint
    with pytest.raises(IntegrityError):
        check_sealed(path, Keyring(forged))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        check_sealed(tmp_path / "gone", RING)
    with pytest.raises(StorageError, match="no such file"):
        seal(tmp_path / "no" / "folder", b"", KEY)
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=400))
@settings(max_examples=80, deadline=None)
def test_any_bytes_are_refused_with_our_own_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    for start in (b"", b"MVSTREAM\1", b"MVSTREAM\1" + bytes.fromhex(KEY.fingerprint)):
        path.write_bytes(start + data)
        with pytest.raises(MedVeilError):
            check_sealed(path, RING)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_what_is_sealed_reads_as_a_file_does(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    plain = bytes(data.draw(st.integers(0, 255)) for _ in range(7)) * data.draw(st.integers(0, 3 * CHUNK_BYTES // 7))
    path = tmp_path_factory.getbasetemp() / "seeks"
    seal(path, plain)
    like = io.BytesIO(plain)
    with unsealed(path, RING) as stream:
        for _ in range(12):
            whence = data.draw(st.sampled_from((os.SEEK_SET, os.SEEK_END)))
            offset = -data.draw(st.integers(0, len(plain))) if whence else data.draw(st.integers(0, len(plain) + 9))
            n = data.draw(st.sampled_from((0, 1, 9, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5)))
            assert stream.seek(offset, whence) == like.seek(offset, whence)
            assert stream.read(n) == like.read(n)


def test_a_chunk_changed_while_it_is_open_is_refused(tmp_path: Path) -> None:
    path = sealed(tmp_path, bytes(3 * CHUNK_BYTES))
    with unsealed(path, RING) as stream:
        assert stream.read(9) == bytes(9)
        data = bytearray(path.read_bytes())
        data[HEADER_BYTES + 2 * (CHUNK_BYTES + 16) + 5] ^= 1
        path.write_bytes(data)
        stream.seek(2 * CHUNK_BYTES)
        with pytest.raises(IntegrityError, match="was changed after it was sealed"):
            stream.read(1)


def test_a_block_that_fails_seals_nothing(tmp_path: Path) -> None:
    seal(tmp_path / "sealed", b"older")
    with pytest.raises(DataError), sealed_output(tmp_path / "sealed", KEY) as stream:
        stream.write(b"newer")
        raise DataError("is no image")
    assert opened(tmp_path / "sealed") == b"older"
    assert [each.name for each in tmp_path.iterdir()] == ["sealed"]


PEAK = """
import sys
from pathlib import Path
from crypto.files.sealing import sealed_output, unsealed
from crypto.keyring import Keyring
from crypto.keys import SiteKey

def peak():
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

path, key = Path(sys.argv[1]) / "sealed", SiteKey.generate("a")
before = peak()
with sealed_output(path, key) as stream:
    for _ in range(96):
        stream.write(bytes(2**20))
with unsealed(path, Keyring(key)) as stream:
    assert sum(len(stream.read(2**20)) for _ in range(97)) == 96 * 2**20
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc: ru_maxrss would count what started the process")
def test_memory_stays_flat(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24 * 1024


# --- sealed files as a kind


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


def test_a_picture_sealed_comes_back(picture: Path, tmp_path: Path, scratch: Path) -> None:
    report = hide_sealed(PngFile(), picture, tmp_path / "a.png.mvseal", RECIPE, KEY)
    assert set(report.seconds) == {"decode", "encrypt", "write"}
    SEALED.verify(tmp_path / "a.png.mvseal", RING)
    SEALED.show(tmp_path / "a.png.mvseal", tmp_path / "b.png", RING)
    with Image.open(picture) as before, Image.open(tmp_path / "b.png") as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
    assert (tmp_path / "b.png").stat().st_mode & 0o777 == 0o600
    assert list(scratch.iterdir()) == []


def test_nothing_is_left_where_it_fails(picture: Path, tmp_path: Path, scratch: Path) -> None:
    picture.write_bytes(picture.read_bytes()[:-20])
    with pytest.raises(DataError, match="is cut short"):
        hide_sealed(PngFile(), picture, tmp_path / "b.mvseal", RECIPE, KEY)
    seal(tmp_path / "c.mvseal", picture.read_bytes())
    with pytest.raises(MedVeilError):
        SEALED.show(tmp_path / "c.mvseal", tmp_path / "d.png", RING)
    seal(tmp_path / "c.mvseal", b"no image")
    with pytest.raises(FormatError, match="holds no hidden file"):
        SEALED.show(tmp_path / "c.mvseal", tmp_path / "d.png", RING)
    seal(tmp_path / "e.mvseal", (tmp_path / "c.mvseal").read_bytes())
    with pytest.raises(FormatError, match="holds no hidden file"):
        SEALED.show(tmp_path / "e.mvseal", tmp_path / "d.png", RING)
    assert list(scratch.iterdir()) == []
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.png", "c.mvseal", "e.mvseal", "scratch"]


def test_a_sealed_file_says_only_whose_it_is(picture: Path, tmp_path: Path) -> None:
    hide_sealed(PngFile(), picture, tmp_path / "a.mvseal", RECIPE, KEY)
    with pytest.raises(FormatError, match=f"is sealed under the key {KEY.fingerprint}"):
        SEALED.header(tmp_path / "a.mvseal")
    with pytest.raises(DataError, match="is sealed already"):
        SEALED.hide(tmp_path / "a.mvseal", tmp_path / "b", RECIPE, KEY)


def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_BYTES, hard))
        with pytest.raises(StorageError, match="file too large") as caught:
            seal(tmp_path / "sealed", bytes(2 * CHUNK_BYTES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.where == str(tmp_path / "sealed")
    assert list(tmp_path.iterdir()) == []
