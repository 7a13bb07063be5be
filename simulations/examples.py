"""Example pictures for a report: original, hidden, decrypted, and decrypted with a wrong key.

One pair of an image and its ciphertext breaks the cipher, so the key is a throwaway that hid nothing else.
"""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import numpy as np

from crypto.cipher import make_cipher
from crypto.keys import SiteKey
from fl_client.data.source import Item, open_source, read_many
from medveil.errors import DataError
from medveil.files import write_bytes
from simulations.plan import Plan

_COUNT = 4
_CANDIDATES = 12


def write_examples(plan: Plan) -> Path | None:
    """Write ``RUN/examples.npz``: original, ciphertext, decrypted, wrong_key, each uint8 (n, C, H, W).

    Returns None where the experiment hides nothing.
    """
    if plan.run.keys == "none":
        return None
    source = open_source(plan.sites.data)
    originals = []
    for index in _by_turns(source.items)[:_CANDIDATES]:
        try:
            originals.append(read_many(source, np.array([index]))[0])
        except DataError:
            continue
        if len(originals) == _COUNT:
            break
    if not originals:
        return None
    images = np.stack(originals)
    size = {"channels": images.shape[1], "height": images.shape[2], "width": images.shape[3]}
    cipher = make_cipher(plan.experiment.cipher, SiteKey.generate("throwaway"), **size)
    wrong = make_cipher(plan.experiment.cipher, SiteKey.generate("wrong"), **size)
    nonces = cipher.fresh_nonces(len(images)) if cipher.per_image else None
    hidden = cipher.encrypt(images, nonces)
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        original=images,
        ciphertext=hidden,
        decrypted=cipher.decrypt(hidden, nonces),
        wrong_key=wrong.decrypt(hidden, nonces),
    )
    path = plan.out / "examples.npz"
    # It shows originals.
    write_bytes(path, packed.getvalue(), mode=0o600)
    return path


def _by_turns(items: tuple[Item, ...]) -> list[int]:
    """Indices class by class in turns, so that the pictures differ."""
    seen: Counter[int] = Counter()
    turns = []
    for index, item in enumerate(items):
        turns.append((seen[item.label], item.label, index))
        seen[item.label] += 1
    return [index for _, _, index in sorted(turns)]
