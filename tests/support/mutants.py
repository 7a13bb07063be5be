"""Files changed in a few places, for tests that try many of them."""

from __future__ import annotations

import zlib

from hypothesis import strategies as st

Edits = list[tuple[float, int, bytes]]


@st.composite
def edits(draw: st.DrawFn) -> Edits:
    """Up to three places, as parts of the whole, with how many bytes are taken out and what is put in."""
    place = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 12), st.binary(max_size=12))
    return draw(st.lists(place, min_size=1, max_size=3))


def mutant(data: bytes, places: Edits) -> bytes:
    """A file with these edits made one after another."""
    for where, taken, put in places:
        at = int(where * len(data))
        data = data[:at] + put + data[at + taken :]
    return data


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums that belong to them, so that mutants get past those."""
    out, at = data[:8], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        body = data[at + 4 : at + 8 + length]
        out += data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        at += 12 + length
    return out + data[at:]
