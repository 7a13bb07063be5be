"""Between stored samples and the unsigned values a cipher works on, and frames through the cipher in batches.

A cipher sees values of `bits` bits without sign. A signed sample v becomes ``v + 2**(bits - 1)``: order is kept, and a
negated value ``2**bits - 1 - u`` comes back as ``-1 - v``, which is ``~v`` in two's complement of any width. Unused
bits of a stored word are zero, or the sign.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from crypto.base import ImageCipher, Nonces
from crypto.files.header import HiddenHeader
from crypto.keys import SiteKey
from crypto.reading.dicom_frames import to_stored
from crypto.reading.dicom_samples import Frame, Samples

Through = Callable[[Frame, Nonces | None], Frame]

_BATCH_BYTES = 2**23


def cipher_of(header: HiddenHeader, key: SiteKey) -> ImageCipher:
    """Make a header's cipher. The last two are kept: a series repeats its geometry, and set-up costs some frames."""
    return _made(key, replace(header, place=b"", nonces=b"", sealed=b"", mac=b""))


@functools.lru_cache(maxsize=2)
def _made(key: SiteKey, header: HiddenHeader) -> ImageCipher:
    return header.cipher(key)


def to_cipher(frame: Frame, samples: Samples) -> Frame:
    """Turn a frame (H, W) or (H, W, 3) into unsigned planes (C, H, W)."""
    planes = frame[None] if frame.ndim == 2 else frame.transpose(2, 0, 1)
    unsigned = np.dtype(f"u{samples.allocated // 8}")
    if not samples.signed:
        return planes.astype(unsigned, copy=False)
    shifted: Frame = np.add(planes, 2 ** (samples.bits - 1), dtype=np.int32).astype(unsigned)
    return shifted


def from_cipher(planes: Frame, samples: Samples) -> bytes:
    """Turn unsigned planes (C, H, W) into the stored bytes of a frame."""
    pixels = planes.transpose(1, 2, 0)
    if samples.signed:
        pixels = np.subtract(pixels, 2 ** (samples.bits - 1), dtype=np.int32)
    return to_stored(pixels, samples)


def stored_planes(data: bytes, samples: Samples) -> Frame:
    """Turn the stored bytes of a frame into unsigned planes (C, H, W)."""
    pixels = np.frombuffer(data, samples.dtype).reshape(samples.rows, samples.columns, samples.channels)
    return to_cipher(pixels[..., 0] if samples.channels == 1 else pixels, samples)


def in_batches(frames: Iterable[Frame], nonces: Nonces, through: Through) -> Iterator[Frame]:
    """Pass planes (C, H, W) through a cipher's `encrypt` or `decrypt`, a few at a time.

    Parameters
    ----------
    frames
        All of one shape and dtype.
    nonces
        uint8 (N, 16), or (0, 16) for ciphers without.
    through
        The cipher's method.
    """
    waiting = iter(frames)
    done = 0
    for frame in waiting:
        count = max(1, _BATCH_BYTES // frame.nbytes)
        batch = np.stack([frame, *itertools.islice(waiting, count - 1)])
        yield from through(batch, nonces[done : done + len(batch)] if len(nonces) else None)
        done += len(batch)


def widened(samples: Samples, cipher: ImageCipher, planes: Frame) -> Samples:
    """What the samples of a ciphertext are: padded, and all bits of a wider type where the cipher gives one."""
    rows, columns = cipher.padded
    allocated = 8 * planes.dtype.itemsize
    bits = samples.bits if allocated == samples.allocated else allocated
    # Whatever colours the plain samples are, a ciphertext is of pixels of three values each.
    photometric = "RGB" if samples.channels == 3 else samples.photometric
    return replace(
        samples, rows=rows, columns=columns, allocated=allocated, bits=bits, photometric=photometric, planar=False
    )
