"""Rows sealed one by one open in their own place alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from crypto.derivation import PURPOSES, encode_fields, hkdf
from crypto.keys import SiteKey
from crypto.sealed_rows import RowWriter, SealedRows, file_key, new_identity
from medveil.errors import IntegrityError

KEY = SiteKey(bytes(range(32)), "a").subkey("store")
SIZE, ROWS, TAG = 100, 6, 16
PLAIN = np.random.default_rng(0).integers(0, 256, (ROWS, SIZE), dtype=np.uint8)


def written(path: Path, key: bytes, plain: np.ndarray = PLAIN) -> Path:
    with RowWriter(path, key, SIZE) as rows:
        rows.append(plain[:4])
        rows.append(plain[4:])
    assert rows.rows == len(plain)
    return path


def opened(path: Path, key: bytes, numbers: list[int], *, rows: int = ROWS) -> np.ndarray:
    into = np.zeros((len(numbers), SIZE), dtype=np.uint8)
    SealedRows(path, key, rows=rows, size=SIZE).open_into(numbers, into)
    return into


def test_any_row_opens_without_the_others(tmp_path: Path) -> None:
    key = file_key(KEY, "ab" * 16, "train")
    path = written(tmp_path / "rows", key)
    np.testing.assert_array_equal(opened(path, key, [5, 0, 3, 3]), PLAIN[[5, 0, 3, 3]])
    assert opened(path, key, []).shape == (0, SIZE)
    assert path.stat().st_size == ROWS * (SIZE + TAG)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(IndexError):
        opened(path, key, [ROWS])
    with pytest.raises(IndexError):
        opened(path, key, [-1])


def test_a_row_is_what_another_implementation_would_seal(tmp_path: Path) -> None:
    """The format in full: whoever has the secret can open a store with nothing of ours."""
    key = hkdf(KEY, encode_fields(["medveil", "1", "store", "ab" * 16, "train"]))
    data = written(tmp_path / "rows", file_key(KEY, "ab" * 16, "train")).read_bytes()
    for number in range(ROWS):
        sealed = data[number * (SIZE + TAG) : (number + 1) * (SIZE + TAG)]
        assert AESGCM(key).decrypt(number.to_bytes(12, "big"), sealed, None) == PLAIN[number].tobytes()
    assert "store" in PURPOSES


def test_what_was_changed_moved_or_taken_from_elsewhere_does_not_open(tmp_path: Path) -> None:
    key = file_key(KEY, "ab" * 16, "train")
    path = written(tmp_path / "rows", key)
    whole, row = path.read_bytes(), SIZE + TAG
    others = {
        "another file": written(tmp_path / "b", file_key(KEY, "ab" * 16, "test")).read_bytes(),
        "an earlier store": written(tmp_path / "c", file_key(KEY, "cd" * 16, "train")).read_bytes(),
        "swapped rows": whole[row : 2 * row] + whole[:row] + whole[2 * row :],
        "a bit of a row": bytes([whole[0] ^ 1]) + whole[1:],
        "a bit of a tag": whole[: row - 1] + bytes([whole[row - 1] ^ 128]) + whole[row:],
    }
    for what, data in others.items():
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match="row 0 does not open: wrong key or changed file"):
            opened(path, key, [0])
        assert what
    path.write_bytes(whole)
    with pytest.raises(IntegrityError, match="row 2 does not open"):
        opened(path, file_key(SiteKey.generate("b").subkey("store"), "ab" * 16, "train"), [2])


@pytest.mark.parametrize("cut", [1, SIZE + TAG])
def test_a_cut_or_lengthened_file_is_refused_when_it_is_opened(tmp_path: Path, cut: int) -> None:
    key = file_key(KEY, new_identity(), "train")
    path = written(tmp_path / "rows", key)
    whole = path.read_bytes()
    for data in (whole[:-cut], whole + whole[:cut], b""):
        path.write_bytes(data)
        with pytest.raises(IntegrityError, match=f"is of {len(data)} bytes, not of {ROWS} sealed rows"):
            opened(path, key, [0])
    path.unlink()
    with pytest.raises(IntegrityError, match="cannot be read: No such file"):
        opened(path, key, [0])


def test_a_file_that_is_cut_while_it_is_read_is_an_error_and_not_a_signal(tmp_path: Path) -> None:
    key = file_key(KEY, new_identity(), "train")
    path = written(tmp_path / "rows", key)
    rows = SealedRows(path, key, rows=ROWS, size=SIZE)
    with path.open("rb+") as stream:
        stream.truncate(SIZE)
    with pytest.raises(IntegrityError, match="was cut short since it was opened"):
        rows.open_into([3], np.zeros((1, SIZE), dtype=np.uint8))


def test_two_files_of_one_content_have_nothing_in_common(tmp_path: Path) -> None:
    first, second = new_identity(), new_identity()
    assert first != second
    one = written(tmp_path / "a", file_key(KEY, first, "train")).read_bytes()
    other = written(tmp_path / "b", file_key(KEY, second, "train")).read_bytes()
    alike = np.frombuffer(one, np.uint8) == np.frombuffer(other, np.uint8)
    assert alike.mean() < 0.03
