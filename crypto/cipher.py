"""Image ciphers by name.

A new scheme is one file in `crypto.schemes` with one subclass of `ImageCipher`, and one line in `SCHEMES`; or, of
another package, one subclass and an entry point.
"""

from __future__ import annotations

import difflib

from crypto.base import Geometry, ImageCipher, StemPermutation
from crypto.config import PRESETS, CipherConfig, resolve
from crypto.derivation import STORE, VERSIONS
from crypto.keys import Key
from crypto.schemes.aes_ctr import AesCtr
from crypto.schemes.block_pixel import BlockPixel
from crypto.schemes.etc import EncryptionThenCompression
from crypto.schemes.none import NoCipher
from crypto.schemes.orthogonal import Orthogonal
from crypto.schemes.per_block import PerBlock
from crypto.schemes.pixel_wise import PixelWise, PixelWiseFresh
from medveil import plugins
from medveil.called import typed
from medveil.errors import ConfigError

__all__ = ["SCHEMES", "Geometry", "ImageCipher", "StemPermutation", "check_scheme", "make_cipher"]

_OWN: tuple[type[ImageCipher], ...] = (
    BlockPixel,
    PerBlock,
    EncryptionThenCompression,
    Orthogonal,
    AesCtr,
    NoCipher,
    PixelWise,
    PixelWiseFresh,
)
SCHEMES: plugins.Registry[type[ImageCipher]] = plugins.Registry(
    plugins.SCHEMES, {cipher.scheme: cipher for cipher in _OWN}, ImageCipher, named="scheme"
)
"""Every cipher by its name; those of other packages too, where they are asked for (`medveil.plugins`)."""


@typed
def make_cipher(
    config: CipherConfig,
    key: Key | None,
    *,
    channels: int,
    height: int,
    width: int,
    bits: int = 8,
    use: str = STORE,
) -> ImageCipher:
    """Make the cipher of a configuration for images of one shape.

    Parameters
    ----------
    config
        Scheme (or preset), block and negation; settings a scheme does not have are ignored.
    key
        The site's key; may be None for scheme ``none``.
    channels, height, width
        Shape of an image in pixels, before padding to whole blocks.
    bits
        Significant bits of a pixel: up to 8 for uint8, up to 16 for uint16.
    use
        What is hidden, one of `crypto.derivation.USES`; derivation 1 has one cipher for all of them.

    Raises
    ------
    ConfigError
        Unknown scheme or derivation, or a size that cannot be.
    KeyMaterialError
        The scheme needs a key.
    """
    resolved = resolve(config)
    kind = SCHEMES[check_scheme(resolved.scheme)]
    geometry = Geometry(channels=channels, height=height, width=width, block=resolved.block, bits=bits)
    if resolved.derivation not in VERSIONS:
        cure = f"this MedVeil has {' and '.join(map(str, VERSIONS))}"
        raise ConfigError(f"'{resolved.derivation}' is no derivation", where="cipher.derivation", cure=cure)
    return kind(resolved, key, geometry, use=use)


def check_scheme(name: str) -> str:
    """Return the name of a scheme or preset, or refuse it naming what is nearest.

    Raises
    ------
    ConfigError
        No scheme or preset has this name.
    """
    if name in PRESETS or SCHEMES.offers(name):
        return name
    known = [*SCHEMES.names(), *PRESETS]
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    raise ConfigError(f"'{name}' is no cipher", where="cipher.scheme", cure=f"{guess}known: {', '.join(known)}")


def own_scheme(name: str) -> type[ImageCipher]:
    """A scheme of MedVeil's own: files outlive the packages that are installed beside it.

    Raises
    ------
    ConfigError
        It is another package's, or there is none.
    """
    if check_scheme(name) not in SCHEMES:
        problem = f"'{name}' is another package's, and files outlive packages"
        raise ConfigError(problem, where="cipher.scheme", cure=f"one of {', '.join(SCHEMES)}")
    return SCHEMES[name]
