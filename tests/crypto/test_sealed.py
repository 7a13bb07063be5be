from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.sealed import MAGIC, seal, unseal
from medveil.errors import FormatError, IntegrityError

KEY, OTHER = bytes(range(32)), bytes(32)


@given(plain=st.binary(max_size=500), associated=st.binary(max_size=50))
def test_what_was_sealed_comes_back(plain: bytes, associated: bytes) -> None:
    assert unseal(KEY, seal(KEY, plain, associated=associated), associated=associated) == plain


def test_the_same_bytes_seal_differently_each_time() -> None:
    assert len({seal(KEY, b"stem", associated=b"") for _ in range(50)}) == 50


def test_the_plaintext_does_not_show() -> None:
    assert b"a stem that is secret" not in seal(KEY, b"a stem that is secret" * 10, associated=b"")


@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_any_changed_bit_is_found(position: int, bit: int) -> None:
    sealed = bytearray(seal(KEY, b"a stem of some bytes", associated=b"run, round 3"))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises((IntegrityError, FormatError)):
        unseal(KEY, bytes(sealed), associated=b"run, round 3")


@given(length=st.integers(0, 55))
def test_any_cut_is_found(length: int) -> None:
    sealed = seal(KEY, b"a stem of some bytes", associated=b"")
    with pytest.raises(IntegrityError):
        unseal(KEY, sealed[: min(length, len(sealed) - 1)], associated=b"")


def test_another_key_or_another_round_is_refused() -> None:
    sealed = seal(KEY, b"stem", associated=b"round 3")
    with pytest.raises(IntegrityError, match="wrong key or changed file"):
        unseal(OTHER, sealed, associated=b"round 3")
    with pytest.raises(IntegrityError, match="wrong key or changed file"):
        unseal(KEY, sealed, associated=b"round 4")


def test_a_foreign_file_and_a_newer_version_are_named() -> None:
    with pytest.raises(FormatError, match="is not sealed data"):
        unseal(KEY, b"\x89PNG" + bytes(100), associated=b"")
    with pytest.raises(FormatError, match="version 2; this MedVeil reads up to 1"):
        unseal(KEY, MAGIC + b"\x02" + bytes(100), associated=b"")
