"""Shamir's secret sharing (1979) over GF(2^256 - 189), the largest prime field whose elements are 32 bytes."""

from __future__ import annotations

import itertools
import math
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence

P = 2**256 - 189
SHARE_BYTES = 32
_TRIED = 1000
"""Sets of helpers that are tried where one of them lies."""


def new_secret() -> int:
    """An element drawn by the operating system."""
    return secrets.randbelow(P)


def split(
    secret: int, threshold: int, points: Iterable[int], coefficients: Sequence[int] | None = None
) -> dict[int, int]:
    """Shares of a secret, any `threshold` of which give it back; fewer tell nothing.

    Parameters
    ----------
    secret
        An element, 0 to P - 1.
    threshold
        At least 1.
    points
        Where the polynomial is evaluated: different elements, none 0.
    coefficients
        All but the constant one; None draws them.

    Raises
    ------
    ValueError
        A number is none of these.
    """
    rest = [new_secret() for _ in range(threshold - 1)] if coefficients is None else list(coefficients)
    where = list(points)
    if threshold < 1 or len(rest) != threshold - 1 or not all(0 <= each < P for each in (secret, *rest)):
        raise ValueError("a polynomial has 'threshold' coefficients below P")
    if len(set(where)) != len(where) or not all(0 < each < P for each in where):
        raise ValueError("points are different, and none is 0")
    return {point: _value([secret, *rest], point) for point in where}


def join(shares: Mapping[int, int]) -> int:
    """The secret, by Lagrange's polynomials at 0; of too few or wrong shares, any other element."""
    total = 0
    for point, value in shares.items():
        top = bottom = 1
        for other in shares:
            if other != point:
                top, bottom = top * other % P, bottom * (other - point) % P
        total += value * top * pow(bottom, -1, P)
    return total % P


def sets_of(helpers: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """Sets of so many helpers to try: all where they are few, else ones drawn, or whoever comes first is in each."""
    if math.comb(len(helpers), size) <= _TRIED:
        yield from itertools.combinations(helpers, size)
        return
    yield tuple(helpers[:size])
    drawing = secrets.SystemRandom()
    for _ in range(_TRIED - 1):
        yield tuple(drawing.sample(helpers, size))


def to_bytes(element: int) -> bytes:
    """An element as 32 bytes, big endian."""
    return element.to_bytes(SHARE_BYTES, "big")


def from_bytes(data: bytes) -> int:
    """The element of 32 bytes (ValueError where they are none)."""
    found = int.from_bytes(data, "big")
    if len(data) != SHARE_BYTES or found >= P:
        raise ValueError("is no element of the field")
    return found


def _value(polynomial: Sequence[int], point: int) -> int:
    """By Horner."""
    found = 0
    for each in reversed(polynomial):
        found = (found * point + each) % P
    return found
