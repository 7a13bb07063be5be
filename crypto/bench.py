"""How fast images are hidden, beside copying and AES-GCM, all measured in turn in one run.

The rivals take turns, and of each the fastest turn counts: other work on the machine can only slow a turn down, so
the fastest is the one it disturbed least. Turns are short, a few images of the batch at a time, because a long one is
disturbed sooner: on a machine with three times the work it has cores for, ratios of short turns agreed within 4 %, and
those of turns ten times as long were off by half.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from crypto.base import ImageCipher
from crypto.cipher import SCHEMES, make_cipher
from crypto.config import CipherConfig
from crypto.keys import SiteKey
from crypto.signed_permutation import compiled, weaving
from medveil.errors import ConfigError

Batch = NDArray[np.uint8]
Rivals = dict[str, Callable[[], object]]
_CHANNELS = 3
_LEAST_TURNS = 3
_NONCE = 12
_SHARES = 8
"""Turns that go once through the batch."""


def bench_cipher(images: int = 64, size: int = 224, seconds: float = 2.0, block: int = 16) -> dict[str, float]:
    """Measure block-pixel with negation on random uint8 images (images, 3, size, size), on one core.

    Parameters
    ----------
    images, size
        How many images, of which a turn takes an eighth (the loop an eighth of that), and their height and width in
        pixels (a multiple of `block`).
    seconds
        About how long to measure; each rival has at least three turns.
    block
        Edge of a block in pixels.

    Returns
    -------
    dict
        cipher_, memcpy_, aes_gcm_ and block_loop_images_per_s, and the ratios of rates cipher_over_block_loop,
        cipher_over_memcpy and cipher_over_aes_gcm; with the extra ``fast`` woven_images_per_s and woven_over_cipher,
        of the compiled pass, too. Where this process may use more cores than one, cores, how many, and
        threads_images_per_s and threads_over_cipher of the whole batch shared among them; with ``fast``
        woven_threads_images_per_s and woven_threads_over_woven.
    """
    batch = _random_images(images, _CHANNELS, size)
    config = CipherConfig(scheme="block-pixel", block=block, negate=True)
    cipher = make_cipher(config, SiteKey.generate("bench"), channels=_CHANNELS, height=size, width=size)
    rho, pi, mask = cipher.stem_permutation()
    flips = mask.astype(np.uint8) * np.uint8(255)
    few, fewer = max(1, images // _SHARES), max(1, images // _SHARES**2)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    passes = {"cipher": False, **({} if compiled() is None else {"woven": True})}
    shared = {"cipher": "threads", "woven": "woven_threads"} if cores > 1 else {}
    rivals: Rivals = {
        **{name: _in_shares(partial(_hidden, cipher, woven=woven), few, batch) for name, woven in passes.items()},
        **{
            name: partial(_hidden, cipher, batch, woven=passes[alone], threads=cores)
            for alone, name in shared.items()
            if alone in passes
        },
        "memcpy": _in_shares(np.copy, few, batch),
        "aes_gcm": _in_shares(seal_each, few, batch),
        "block_loop": _in_shares(lambda each: block_loop(each, rho, pi, flips, block=block), fewer, batch),
    }
    taken = fastest_turns(rivals, seconds)
    turns = {"block_loop": fewer, **dict.fromkeys(shared.values(), images)}
    rates = {name: turns.get(name, few) / taken[name] for name in rivals}
    return {
        **{f"{name}_images_per_s": rate for name, rate in rates.items()},
        **{f"cipher_over_{name}": rates["cipher"] / rates[name] for name in ("block_loop", "memcpy", "aes_gcm")},
        **({"woven_over_cipher": rates["woven"] / rates["cipher"]} if "woven" in rates else {}),
        **{f"{name}_over_{alone}": rates[name] / rates[alone] for alone, name in shared.items() if name in rates},
        **({"cores": cores} if shared else {}),
    }


def bench_schemes(
    *,
    images: int = 64,
    size: int = 224,
    channels: int = 3,
    block: int = 16,
    seconds: float = 15.0,
    schemes: Sequence[str] = tuple(SCHEMES),
) -> dict[str, Any]:
    """Measure schemes on random uint8 images (images, channels, size, size).

    Parameters
    ----------
    images, size, channels
        How many images, of which a turn takes an eighth, their height and width in pixels, and their channels.
    block
        Edge of a block in pixels.
    seconds
        About how long to measure in all; each rival has at least three turns.
    schemes
        Names of schemes; those that can negate do.

    Returns
    -------
    dict
        ``images``, ``size``, ``channels``, ``block``; ``memcpy_gb_per_s`` and ``aes_gcm_gb_per_s`` (AES-256-GCM, a
        nonce an image); and ``schemes``, for each name encrypt_ and decrypt_gb_per_s, encrypt_images_per_s,
        encrypt_over_memcpy, encrypt_over_aes_gcm and setup_s, from the key to the first hidden image; or ``refused``
        with the reason. GB are 10**9 bytes of plaintext.

    Raises
    ------
    ConfigError
        A size is below 1, or a name is no scheme.
    """
    for name, value in (("images", images), ("size", size), ("channels", channels), ("block", block)):
        if value < 1:
            raise ConfigError(f"'{name}' is {value}", where="bench", cure="at least 1")
    batch = _random_images(images, channels, size)
    key = SiteKey.generate("bench")
    few = max(1, images // _SHARES)
    rivals: Rivals = {"memcpy": _in_shares(np.copy, few, batch), "aes_gcm": _in_shares(seal_each, few, batch)}
    figures: dict[str, dict[str, Any]] = {}
    for scheme in schemes:
        config = CipherConfig(scheme=scheme, block=block, negate=True)
        make = partial(make_cipher, config, key, channels=channels, height=size, width=size)
        try:
            cipher = make()
        except ConfigError as error:
            if scheme not in SCHEMES:
                raise
            figures[scheme] = {"refused": str(error)}
            continue
        figures[scheme] = {"setup_s": min(_first_image_s(make, batch) for _ in range(_LEAST_TURNS))}
        rivals |= _ways(cipher, few, batch)
    speeds = {name: batch[:few].nbytes / 1e9 / taken for name, taken in fastest_turns(rivals, seconds).items()}
    for scheme, found in figures.items():
        if "refused" not in found:
            hiding = speeds[f"{scheme} encrypt"]
            found |= {
                "encrypt_gb_per_s": hiding,
                "decrypt_gb_per_s": speeds[f"{scheme} decrypt"],
                "encrypt_images_per_s": hiding * 1e9 / batch[0].nbytes,
                "encrypt_over_memcpy": hiding / speeds["memcpy"],
                "encrypt_over_aes_gcm": hiding / speeds["aes_gcm"],
            }
    shape = {"images": images, "size": size, "channels": channels, "block": block}
    return {
        **shape,
        "memcpy_gb_per_s": speeds["memcpy"],
        "aes_gcm_gb_per_s": speeds["aes_gcm"],
        "schemes": figures,
    }


def _hidden(cipher: ImageCipher, images: Batch, *, woven: bool, threads: int = 1) -> object:
    with weaving(woven):
        return cipher.encrypt(images, threads=threads)


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


def seal_each(images: Batch) -> list[bytes]:
    """Seal every image with AES-256-GCM under a key drawn for the call and a nonce of its own."""
    sealer = AESGCM(os.urandom(32))
    return [sealer.encrypt(os.urandom(_NONCE), image.data, None) for image in images]


def fastest_turns(rivals: Rivals, seconds: float) -> dict[str, float]:
    """Seconds of each rival's fastest turn, of turns taken round and round for about `seconds`, at least three.

    Before each turn comes one that is not timed: caches and heap are then as the rival leaves them, and not as the
    one before it does.
    """
    taken: dict[str, float] = {}
    end, turns = time.perf_counter() + seconds, 0
    while turns < _LEAST_TURNS or time.perf_counter() < end:
        for name, rival in rivals.items():
            rival()
            taken[name] = min(_seconds(rival), taken.get(name, np.inf))
        turns += 1
    return taken


def _ways(cipher: ImageCipher, few: int, batch: Batch) -> Rivals:
    nonces = cipher.fresh_nonces(len(batch))
    hidden = cipher.encrypt(batch, nonces)
    return {
        f"{cipher.scheme} encrypt": _in_shares(cipher.encrypt, few, batch, nonces),
        f"{cipher.scheme} decrypt": _in_shares(cipher.decrypt, few, hidden, nonces),
    }


def _in_shares(body: Callable[..., object], few: int, *arrays: NDArray[Any]) -> Callable[[], object]:
    """A turn of `body`: on the next few rows of the arrays, round and round."""
    firsts = itertools.cycle(range(0, len(arrays[0]) - few + 1, few))

    def turn() -> object:
        first = next(firsts)
        return body(*(array[first : first + few] for array in arrays))

    return turn


def _first_image_s(make: Callable[[], ImageCipher], batch: Batch) -> float:
    def first() -> None:
        cipher = make()
        cipher.encrypt(batch[0], cipher.fresh_nonces(1))

    return _seconds(first)


def _seconds(body: Callable[[], object]) -> float:
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


def _random_images(images: int, channels: int, size: int) -> Batch:
    # Having once freed an array as large as a batch, glibc keeps the memory of smaller ones; before, every turn would
    # pay for fresh pages, and a cipher seem a third as fast.
    np.ones((images, channels, size, size), dtype=np.uint16)
    return np.random.default_rng(0).integers(0, 256, (images, channels, size, size), dtype=np.uint8)
