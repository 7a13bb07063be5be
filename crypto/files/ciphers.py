"""Ciphers that were made already: files of one shape share one, and making it costs more than a small image."""

from __future__ import annotations

from collections import OrderedDict

from crypto.base import Geometry, ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.files.header import HiddenHeader
from crypto.keys import Key

MOST_CIPHERS = 16
MOST_VALUES = 2**23
"""Values of all kept ciphers together; each costs some 17 bytes of memory, 30 while it is made."""

_Asked = tuple[Key, str, int, bool, int, str, int, int, int, int]


class CipherShelf:
    """Keeps the ciphers used last, up to `MOST_CIPHERS` and `MOST_VALUES`; a larger one is made anew each time."""

    def __init__(self) -> None:
        self._kept: OrderedDict[_Asked, ImageCipher] = OrderedDict()

    def cipher(
        self, config: CipherConfig, key: Key, *, channels: int, height: int, width: int, bits: int, use: str
    ) -> ImageCipher:
        """Make a cipher, or return the one that was made; parameters and errors as `crypto.cipher.make_cipher`."""
        named = (key, config.scheme, config.block, config.negate, config.derivation, use)
        asked = (*named, channels, height, width, bits)
        found = self._kept.pop(asked, None)
        if found is None:
            found = make_cipher(config, key, channels=channels, height=height, width=width, bits=bits, use=use)
        self._kept[asked] = found
        while len(self._kept) > MOST_CIPHERS or sum(map(_values, self._kept.values())) > MOST_VALUES:
            self._kept.popitem(last=False)
        return found

    def of(self, header: HiddenHeader, key: Key) -> ImageCipher:
        """The cipher that hid a file."""
        shape = {"channels": header.channels, "height": header.height, "width": header.width, "bits": header.bits}
        return self.cipher(header.config, key, **shape, use=header.purpose)


def _values(cipher: ImageCipher) -> int:
    shape: Geometry = cipher.geometry
    return shape.blocks * shape.block_length


SHELF = CipherShelf()
"""The process's own."""
