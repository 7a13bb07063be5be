"""A batch shared among threads is what one thread makes of it, to the bit."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from crypto.cipher import SCHEMES, make_cipher
from crypto.config import CipherConfig
from crypto.keys import SiteKey
from crypto.signed_permutation import weaving
from crypto.threads import on_threads
from medveil.errors import DataError


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shared_batches_are_the_same_both_ways(scheme: str) -> None:
    # 10 pixels in blocks of 4: what pads pads.
    cipher = make_cipher(
        CipherConfig(scheme=scheme, block=4, negate=True), SiteKey.generate("x"), channels=1, height=10, width=10
    )
    images = np.random.default_rng(0).integers(0, 256, (37, 1, 10, 10), dtype=np.uint8)
    nonces = cipher.fresh_nonces(37)
    hidden = cipher.encrypt(images, nonces)
    for threads in (0, 1, 2, 3, 64):
        # By numpy, and by the compiled pass, where numba is there.
        for woven in (False, True):
            with weaving(woven):
                np.testing.assert_array_equal(cipher.encrypt(images, nonces, threads=threads), hidden)
                np.testing.assert_array_equal(cipher.decrypt(hidden, nonces, threads=threads), images)
    tensor = cipher.encrypt(torch.from_numpy(images), nonces, threads=2)
    np.testing.assert_array_equal(tensor.numpy(), hidden)
    np.testing.assert_array_equal(cipher.encrypt(images[3], nonces[3], threads=4), hidden[3])
    assert cipher.encrypt(images[:0], nonces[:0], threads=4).shape[0] == 0
    with pytest.raises(DataError, match="of shape"):
        cipher.encrypt(images[:, :, :9], nonces, threads=4)


def test_so_many_threads_take_whole_parts_each() -> None:
    barrier, parts = threading.Barrier(3), []

    def work(part: slice) -> None:
        parts.append((part.start, part.stop))
        # Three at once, or this never returns.
        barrier.wait(20)

    on_threads(work, 20, threads=3)
    assert sorted(parts) == [(0, 8), (8, 16), (16, 20)]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_in_a_part_is_raised(threads: int) -> None:
    def work(part: slice) -> None:
        if part.stop == 20:
            raise DataError("broke")

    with pytest.raises(DataError, match="broke"):
        on_threads(work, 20, threads=threads)
