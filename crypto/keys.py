"""Keys: what a site's cipher, sealed state and nonces are derived from.

Neither kind shows its secret: not in `repr`, not in an error, and a `SiteKey` not in a pickle.
"""

from __future__ import annotations

import os
from typing import NoReturn

from crypto import derivation
from medveil.called import typed
from medveil.errors import ConfigError, KeyMaterialError

SITE_NAME_LENGTH = 64
SIMULATED_PREFIX = "sim-"


def check_site(site: str) -> str:
    """Return a site's name, or refuse one that could not name a folder.

    Raises
    ------
    KeyMaterialError
        The name is empty, longer than 64 characters, has control characters or slashes, or is a dot name.
    """
    wrong = (
        not 0 < len(site) <= SITE_NAME_LENGTH
        or not site.isprintable()
        or site != site.strip()
        or site.startswith(".")
        or any(letter in "/\\" for letter in site)
    )
    if wrong:
        cure = f"1 to {SITE_NAME_LENGTH} printable characters, no slashes, no leading dot, no spaces at either end"
        raise KeyMaterialError(f"{site!a} cannot name a site", cure=cure)
    return site


class Key:
    """A site's secret, and what may be asked of it. Make a `SiteKey` or a `SimulatedKey`.

    Attributes
    ----------
    site : str
        Name of the site that holds the key.
    fingerprint : str
        32 hex digits that name the key and say nothing about it.
    """

    prefix = ""

    def __init__(self, secret: bytes, site: str) -> None:
        if len(secret) != derivation.SECRET_BYTES:
            raise KeyMaterialError(f"a secret of {len(secret)} bytes", cure=f"it has {derivation.SECRET_BYTES} bytes")
        self.site = check_site(site)
        self._secret = bytes(secret)
        self.fingerprint = self.prefix + self.subkey("fingerprint").hex()[:32]

    @typed
    def subkey(self, purpose: str, scheme: str = "", *, use: str = "", **params: int) -> bytes:
        """Derive 32 bytes for one purpose; see `crypto.derivation.subkey`.

        Raises
        ------
        ConfigError
            There is no such purpose or use.
        """
        try:
            return derivation.subkey(self._secret, purpose, scheme, use=use, **params)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(site={self.site!r}, fingerprint={self.fingerprint!r})"


@typed
class SiteKey(Key):
    """The key of a real site: 32 bytes from the operating system, kept in a sealed file (`crypto.keyfile`).

    Parameters
    ----------
    secret
        32 bytes; use `generate` for a fresh key.
    site
        Name of the site.
    """

    @classmethod
    @typed
    def generate(cls, site: str) -> SiteKey:
        """Draw a fresh key for a site."""
        return cls(os.urandom(derivation.SECRET_BYTES), site)

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, for sealing them in a key file and for nothing else."""
        return self._secret

    def __reduce__(self) -> NoReturn:
        raise KeyMaterialError("a site key cannot be pickled or copied", cure="save it in a sealed key file")


@typed
class SimulatedKey(Key):
    """A key made from an integer, so that a simulation can be repeated. It protects nothing.

    Whoever knows or guesses the seed holds the key; its fingerprint therefore starts with ``sim-``, and key files and
    real sites refuse it.

    Parameters
    ----------
    seed
        Seed of the simulation.
    site
        Name of the simulated site; sites of one seed have unrelated keys.
    """

    prefix = SIMULATED_PREFIX

    def __init__(self, seed: int, site: str) -> None:
        self.seed = int(seed)
        info = derivation.encode_fields(["medveil", str(derivation.FIRST), "simulated", site])
        super().__init__(derivation.hkdf(str(self.seed).encode("ascii"), info), site)

    def __reduce__(self) -> tuple[type[SimulatedKey], tuple[int, str]]:
        return SimulatedKey, (self.seed, self.site)
