"""Temporary storage: a file like any other to who writes it, and nothing to read on the disk."""

from __future__ import annotations

import io
import os
import resource
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.files import scratch as module
from crypto.files.scratch import CHUNK_BYTES, scratch
from medveil.errors import StorageError

Kept = list[Any]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Kept:
    """The temporary files that were made; a chunk in memory is put away for every other one."""
    made: Kept = []
    real: Callable[..., Any] = tempfile.TemporaryFile

    def make(**given: Any) -> Any:
        made.append(real(**given))
        return made[-1]

    monkeypatch.setattr(module, "MOST_CHUNKS", 1)
    monkeypatch.setattr(tempfile, "TemporaryFile", make)
    return made


def on_disk(handle: int) -> bytes:
    return os.pread(handle, 2**24, 0)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_it_reads_back_what_was_written(data: st.DataObject) -> None:
    before = module.MOST_CHUNKS
    module.MOST_CHUNKS = 2
    like = io.BytesIO()
    try:
        with scratch() as stream:
            for _ in range(10):
                at = data.draw(st.integers(0, 4 * CHUNK_BYTES))
                n = data.draw(st.sampled_from((0, 1, 9, CHUNK_BYTES, 2 * CHUNK_BYTES + 3)))
                stream.seek(at), like.seek(at)
                if data.draw(st.booleans()):
                    piece = bytes([data.draw(st.integers(1, 255))]) * n
                    assert stream.write(piece) == like.write(piece)
                else:
                    assert stream.read(n) == like.read(n)
            stream.seek(0)
            assert stream.read() == like.getvalue()
    finally:
        module.MOST_CHUNKS = before


def test_what_lies_on_the_disk_has_no_name_and_says_nothing(files: Kept) -> None:
    marker = b"a stem that opens images"
    with scratch() as stream:
        stream.write(marker * CHUNK_BYTES)
        stream.flush()
        (made,) = files
        found = on_disk(made.fileno())
        assert len(found) > 20 * CHUNK_BYTES
        assert marker not in found
        assert os.fstat(made.fileno()).st_nlink == 0
        stream.seek(0)
        assert stream.read() == marker * CHUNK_BYTES


def test_a_chunk_that_is_put_away_again_is_sealed_under_another_nonce(files: Kept) -> None:
    with scratch() as stream:
        found = []
        for _ in range(2):
            stream.seek(0)
            stream.write(bytes(CHUNK_BYTES))
            stream.write(bytes(2 * CHUNK_BYTES))
            stream.flush()
            found.append(on_disk(files[0].fileno())[:CHUNK_BYTES])
    assert found[0] != found[1]


def test_a_small_one_never_touches_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**given: Any) -> Any:
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with scratch() as stream:
        stream.write(bytes(module.MOST_CHUNKS * CHUNK_BYTES))
        stream.seek(0)
        assert len(stream.read()) == module.MOST_CHUNKS * CHUNK_BYTES


def test_a_disk_that_refuses_is_named(files: Kept) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK_BYTES, hard))
        with pytest.raises(StorageError, match="cannot use the temporary storage: file too large"), scratch() as stream:
            stream.write(bytes(4 * CHUNK_BYTES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
