"""Searching what was said, sent and written for keys in every form one would print, and for what is in images."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from crypto.base import ImageCipher
from crypto.derivation import HIDING, PURPOSES, USES
from crypto.keys import Key

_WINDOW = 24
_LEAST_VALUES = 12


def forms(secret: bytes) -> Iterator[bytes]:
    """Bytes in the forms they are printed, logged or written in."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield repr(secret)[2:-1].encode()
    yield ", ".join(map(str, secret)).encode()
    for lead in range(3):
        # Base64 depends on what stands before; the middle of each of the three does not.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(bytes(lead) + secret)[4:-4]


def array_forms(array: np.ndarray) -> Iterator[bytes]:
    """A permutation or mask as memory of any width, and as text."""
    for dtype in ("<i8", "<i4", "<u2", ">i8"):
        yield array.astype(dtype).tobytes()
    for separator in (", ", ",", " "):
        yield separator.join(map(str, array.tolist())).encode()


def key_forms(key: Key, cipher: ImageCipher) -> set[bytes]:
    """Every form of a key, its subkeys and those for a cipher, and the permutations they draw."""
    params, scheme = cipher.geometry.params, cipher.scheme
    subkeys = [key.subkey(purpose, scheme, **params) for purpose in HIDING]
    subkeys += [key.subkey(purpose, scheme, use=use, **params) for purpose in HIDING for use in USES]
    # Of a fingerprint the first half is shown to everybody.
    subkeys += [key.subkey(purpose) for purpose in PURPOSES if purpose != "fingerprint"]
    found = {form for secret in (key._secret, *subkeys) for form in forms(secret)}
    rho, pi, mask = cipher.stem_permutation()
    return found | {form for array in (rho, pi, mask) for form in array_forms(np.asarray(array))}


def image_forms(images: Iterable[np.ndarray]) -> set[bytes]:
    """A piece of each image as it lies in memory, where it shows something: not of a background of one value."""
    found = set()
    for image in images:
        data = np.ascontiguousarray(image).tobytes()
        pieces = [data[at : at + _WINDOW] for at in range(0, len(data) - _WINDOW, _WINDOW)]
        best = max(pieces, key=lambda piece: len(set(piece)))
        if len(set(best)) >= _LEAST_VALUES:
            found.add(best)
    return found


def leaks(where: dict[str, bytes], wanted: set[bytes]) -> list[str]:
    """Names of texts and files in which one of the forms stands."""
    return [name for name, data in where.items() if any(form in data for form in wanted)]


def files_below(folder: Path) -> dict[str, bytes]:
    """What all files below a folder hold, by their names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
