"""The key files of a hospital's site, opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crypto.keyfile import load_keyring
from crypto.keyring import Keyring, check_real
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.signatures import open_identity, refuse_unsigned
from medveil.signing import SigningKey


@dataclass(frozen=True)
class OwnKeys:
    """The keys a site opened: its own, the one all sites hold, if it has that, and the one that signs its replies."""

    own: Keyring
    shared: Keyring | None = None
    identity: SigningKey | None = None


def open_keys(files: OwnFiles, read: Callable[[Path | None], str], *, serving: bool = True) -> OwnKeys:
    """Open a site's key files.

    Parameters
    ----------
    files
        The site.
    read
        Gives the passphrase of a file that is named, or of none; as `crypto.passphrase.read_passphrase`.
    serving
        For serving runs: then the site needs an identity and a server's key, and the identity is opened too.

    Raises
    ------
    ConfigError
        It is for serving, and the site was enrolled before messages were signed.
    KeyMaterialError
        There is no passphrase, it is wrong, or a key is a simulated one.
    StorageError, FormatError, IntegrityError
        A key file is missing or is none.
    """
    config = files.config
    if serving:
        refuse_unsigned(files)
    named = None if config.passphrase_file is None else files.path(config.passphrase_file)
    first = passphrase = read(named)
    own, shared = load_keyring(files.path(config.key), passphrase), None
    if config.shared_key is not None:
        if config.shared_passphrase_file is not None:
            passphrase = read(files.path(config.shared_passphrase_file))
        shared = load_keyring(files.path(config.shared_key), passphrase)
    for ring in (own, shared):
        check_real(ring or (), "used by a real site")
    if not serving:
        return OwnKeys(own, shared)
    return OwnKeys(own, shared, open_identity(files, lambda other: first if other == named else read(other)))
