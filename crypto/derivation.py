"""From a secret to subkeys, and from a subkey to permutations, masks and normals: derivations 1 and 2.

Every function here is a pure function of its input, the same on every machine; two parties that hold one secret
derive one cipher. Changing any of it makes stored ciphertexts unreadable and needs a new version.

A subkey is HKDF-SHA256 (RFC 5869; the secret as key material, no salt, 32 bytes) with these fields as `info`, each as
its length in bytes (u16, big-endian) and its bytes:

=======  ====================================================================================
version  fields
=======  ====================================================================================
1        ``medveil``, ``1``, purpose, scheme, then ``name=value`` of each parameter by its name
2        ``medveil``, ``2``, use, purpose, scheme, then ``name=value`` of each parameter by its name
=======  ====================================================================================

Derivation 2 is for what hides images (the purposes rho, pi, neg, pad and nonce), with what is hidden as its use, so
that one permutation no longer serves a training file, an archive and a site's store. Everything else of a key (its
fingerprint, MACs, sealed state and stores, pseudonyms, secret stems, what training draws) is derived as in 1, whatever
hides the images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

FIRST, NEWEST = 1, 2
VERSIONS = (FIRST, NEWEST)
TRAINING, ARCHIVE, STORE = "training", "archive", "store"
USES = (TRAINING, ARCHIVE, STORE)
"""What is hidden: a file to be trained on, a file to be decrypted, or a site's own store."""
HIDING = ("rho", "pi", "neg", "pad", "nonce")
"""Purposes that hide images, which derivation 2 tells apart by their use."""
SECRET_BYTES = 32
PURPOSES = ("rho", "pi", "neg", "pad", "nonce", "state", "mac", "deid", "stem", "fingerprint", "train", "store")
"""What a subkey may be for. A subkey serves one purpose, so that none can speak for another."""

_SIDE_BY_SIDE = 32
"""How many permutations it takes for shuffling side by side to be faster than one by one."""
_GROUP = 2**20
"""Values shuffled side by side, so that memory stays flat."""

Draw = Callable[[int], NDArray[Any]]
"""A source of unsigned integers: asked for n, returns the next n."""


def encode_fields(fields: list[str]) -> bytes:
    """Join texts unambiguously: each as its length in bytes (u16, big-endian) and its UTF-8 bytes."""
    parts = [field.encode("utf-8") for field in fields]
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def hkdf(secret: bytes, info: bytes, length: int = SECRET_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(secret)


def subkey(secret: bytes, purpose: str, scheme: str = "", *, use: str = "", **params: int) -> bytes:
    """Derive the subkey of one purpose.

    Parameters
    ----------
    secret
        The 32 bytes of a key.
    purpose
        One of `PURPOSES`.
    scheme
        Name of the cipher the subkey is for, or ``""``.
    use
        One of `USES`: derivation 2. Empty: derivation 1.
    **params
        What the cipher is cut for: B, C, H, W (padded, in pixels) and bits.

    Returns
    -------
    bytes
        32 bytes.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"no subkey has the purpose '{purpose}'; purposes are {', '.join(PURPOSES)}")
    if use and (use not in USES or purpose not in HIDING):
        raise ValueError(f"no subkey of purpose '{purpose}' has the use '{use}'; uses are {', '.join(USES)}")
    named = [f"{name}={value}" for name, value in sorted(params.items())]
    start = ["medveil", str(NEWEST), use] if use else ["medveil", str(FIRST)]
    return hkdf(secret, encode_fields([*start, purpose, scheme, *named]))


class KeyStream:
    """The ChaCha20 key stream of a subkey, read once from the start.

    Parameters
    ----------
    subkey
        32 bytes.
    nonce
        16 bytes, counter first as in the `cryptography` package; zero for the streams of a key.
    """

    def __init__(self, subkey: bytes, nonce: bytes = bytes(16)) -> None:
        self._stream = Cipher(ChaCha20(subkey, nonce), mode=None).encryptor()

    def read(self, n: int) -> bytes:
        """Return the next `n` bytes."""
        return self._stream.update(bytes(n))

    def words(self, n: int) -> NDArray[np.uint32]:
        """Return the next `n` little-endian 32-bit words, uint32 (n,)."""
        return np.frombuffer(self.read(4 * n), dtype="<u4").astype(np.uint32, copy=False)


def permutation(stream: KeyStream, n: int) -> NDArray[np.int64]:
    """Draw one of the n! permutations, all equally likely: int64 (n,)."""
    return fisher_yates(stream.words, n, span=2**32)


def permutations(stream: KeyStream, count: int, n: int) -> NDArray[np.int64]:
    """Draw `count` permutations of n values, one after another from one stream: int64 (count, n).

    Row k is what the k-th call of `permutation` on the stream would give, and the stream ends where they would leave
    it. Many permutations are shuffled side by side: 6 ms in place of 17 for 196 of 768 values, 1 ms in place of 85 for
    50,176 of 3.
    """
    drawn = np.empty((count, n), np.int64)
    step = max(_SIDE_BY_SIDE, _GROUP // max(1, n))
    for first in range(0, count, step):
        group = drawn[first : first + step]
        bounds = np.tile(np.arange(n, 1, -1, dtype=np.int64), len(group))
        accepted = _accepted(stream.words, bounds, 2**32)
        targets = np.concatenate([np.empty(0, np.int64), *accepted]).reshape(len(group), max(0, n - 1))
        group[:] = _side_by_side(targets, n) if len(group) >= _SIDE_BY_SIDE else [_swapped(each, n) for each in targets]
    return drawn


def fisher_yates(draw: Draw, n: int, *, span: int) -> NDArray[np.int64]:
    """Shuffle 0..n-1 with words of any width, without modulo bias.

    ``u mod b`` favours small values unless b divides the span of u, so words from the incomplete last run of b are
    thrown away. Words are drawn in bulk; no more are taken from the source than a word-by-word shuffle would take.

    Parameters
    ----------
    draw
        Source of integers uniform on [0, span).
    n
        Length, at most `span`.
    span
        How many values a word can take.

    Returns
    -------
    ndarray
        int64 (n,).
    """
    if n > span:
        raise ValueError(f"cannot shuffle {n} values with words of {span}")
    bounds = np.arange(n, 1, -1, dtype=np.int64)
    return _swapped(np.concatenate([np.empty(0, np.int64), *_accepted(draw, bounds, span)]), n)


def _swapped(targets: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Swap place n-1 of 0..n-1 with the first target, place n-2 with the second, and so on."""
    order = list(range(n))
    for i, j in zip(range(n - 1, 0, -1), targets.tolist(), strict=True):
        order[i], order[j] = order[j], order[i]
    return np.array(order, dtype=np.int64)


def _side_by_side(targets: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """What `_swapped` gives for each row of targets (count, n-1): int64 (count, n)."""
    count = len(targets)
    order = np.repeat(np.arange(n, dtype=np.int64), count)
    columns = np.arange(count)
    for i, places in zip(range(n - 1, 0, -1), np.ascontiguousarray(targets.T), strict=True):
        last, other = slice(i * count, (i + 1) * count), places * count + columns
        moved = order[other]
        order[other] = order[last]
        order[last] = moved
    return order.reshape(n, count).T


def _accepted(draw: Draw, bounds: NDArray[np.int64], span: int) -> list[NDArray[np.int64]]:
    """Pieces that together hold one uniform value below each bound, in order."""
    limits = span // bounds * bounds
    pieces: list[NDArray[np.int64]] = []
    words = np.empty(0, np.int64)
    done = 0
    while done < len(bounds):
        wanted = len(bounds) - done
        words = np.concatenate([words, draw(wanted - len(words)).astype(np.int64)])
        refused = np.flatnonzero(words >= limits[done:])
        # A refused word shifts all later words to the next bound, so go on from just behind it.
        taken = int(refused[0]) if refused.size else wanted
        pieces.append(words[:taken] % bounds[done : done + taken])
        words = words[taken + 1 :]
        done += taken
    return pieces


def mask_bits(stream: KeyStream, n: int) -> NDArray[np.bool_]:
    """Return the next `n` bits, least significant first within a byte: bool (n,)."""
    data = np.frombuffer(stream.read((n + 7) // 8), dtype=np.uint8)
    return np.unpackbits(data, bitorder="little")[:n].astype(np.bool_)


def uniforms(stream: KeyStream, n: int) -> NDArray[np.float64]:
    """Draw `n` uniform values strictly between 0 and 1, 52 bits each (two words): float64 (n,)."""
    pairs = stream.words(2 * n).astype(np.uint64).reshape(n, 2)
    # 52 bits and a half are exact in float64 and keep both 0 and 1 out, where the inverse CDF is infinite.
    whole = (pairs[:, 0] << np.uint64(20)) | (pairs[:, 1] >> np.uint64(12))
    return (whole.astype(np.float64) + 0.5) * 2.0**-52


def normals(subkey: bytes, n: int) -> NDArray[np.float64]:
    """Draw `n` standard normal values from a subkey, for secret stems.

    The inverse CDF takes one uniform per value, so the first m of n values do not depend on n. Platforms may differ
    in the last bit of the logarithm behind it; rounded to float32 they agree but for rare ties.

    Returns
    -------
    ndarray
        float64 (n,).
    """
    from scipy.special import ndtri  # noqa: PLC0415 - keeps scipy off the start of medveil-crypto

    values: NDArray[np.float64] = ndtri(uniforms(KeyStream(subkey), n))
    return values
