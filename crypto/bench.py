"""How fast the cipher is, beside copying, AES-GCM and a loop over blocks, all measured in turn in one run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SiteKey

Batch = NDArray[np.uint8]
_CHANNELS = 3
_LEAST_REPEATS = 3


def bench_cipher(images: int = 64, size: int = 224, seconds: float = 2.0, block: int = 16) -> dict[str, float]:
    """Measure block-pixel with negation on random uint8 images (images, 3, size, size).

    The rivals take turns, so that a machine that slows down slows all of them; each figure is the median over turns
    that together last about `seconds`, at least three.

    Parameters
    ----------
    images, size
        How many images, and their height and width in pixels (a multiple of `block`).
    seconds
        About how long to measure.
    block
        Edge of a block in pixels.

    Returns
    -------
    dict
        cipher_, memcpy_, aes_gcm_ and block_loop_images_per_s, and the ratios of rates cipher_over_block_loop,
        cipher_over_memcpy and cipher_over_aes_gcm.
    """
    batch = np.random.default_rng(0).integers(0, 256, (images, _CHANNELS, size, size), dtype=np.uint8)
    config = CipherConfig(scheme="block-pixel", block=block, negate=True)
    cipher = make_cipher(config, SiteKey.generate("bench"), channels=_CHANNELS, height=size, width=size)
    rho, pi, mask = cipher.stem_permutation()
    flips = mask.astype(np.uint8) * np.uint8(255)
    sealer = AESGCM(os.urandom(32))
    rivals: dict[str, Callable[[], object]] = {
        "cipher": lambda: cipher.encrypt(batch),
        "memcpy": batch.copy,
        "aes_gcm": lambda: [sealer.encrypt(os.urandom(12), image.data, None) for image in batch],
        "block_loop": lambda: block_loop(batch, rho, pi, flips, block=block),
    }
    rates = {name: images / taken for name, taken in _median_seconds(rivals, seconds).items()}
    return {
        **{f"{name}_images_per_s": rate for name, rate in rates.items()},
        **{f"cipher_over_{name}": rates["cipher"] / rates[name] for name in ("block_loop", "memcpy", "aes_gcm")},
    }


def block_loop(
    images: Batch, rho: NDArray[np.int64], pi: NDArray[np.int64], flips: NDArray[np.uint8], *, block: int
) -> Batch:
    """Encrypt as the scheme is usually written: for each image, for each block, take its pixels and place them.

    Parameters
    ----------
    images
        uint8 (N, C, H, W), H and W multiples of `block`.
    rho, pi
        The permutations of `crypto.base.StemPermutation`.
    flips
        uint8 (L,): 255 where a value is negated, else 0.
    block
        Edge of a block in pixels.
    """
    out = np.empty_like(images)
    channels, _, width = images.shape[1:]
    across = width // block
    for image, hidden in zip(images, out, strict=True):
        for target, source in enumerate(pi.tolist()):
            y, x = source // across * block, source % across * block
            values = image[:, y : y + block, x : x + block].reshape(-1)
            y, x = target // across * block, target % across * block
            hidden[:, y : y + block, x : x + block] = (values[rho] ^ flips).reshape(channels, block, block)
    return out


def _median_seconds(rivals: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    for warm in rivals.values():
        warm()
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken["cipher"]) < _LEAST_REPEATS:
        for name, rival in rivals.items():
            start = time.perf_counter()
            rival()
            taken[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in taken.items()}
