"""Enrolling a site: its own keys and its configuration, made where it is. Only the public halves of two keys leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crypto.keyfile import load_keyring, save_key
from crypto.keys import SiteKey
from fl_client.deployment.config import CONFIG_FILE, SiteConfig
from fl_client.deployment.identity import load_identity, save_identity
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.signatures import open_identity
from medveil import node_keys
from medveil.certificates import load_certificate
from medveil.config import commented_yaml, load_config
from medveil.errors import ConfigError, StorageError
from medveil.files import make_folder, write_bytes, write_text
from medveil.invitation import Invitation, fingerprint_of
from medveil.signing import SigningKey

CA_FILE = "ca.crt"
IDENTITY = ".identity"
_HEAD = "# A MedVeil site, as its hospital runs it. Look at it with: medveil-site check\n"


@dataclass(frozen=True)
class Enrolled:
    """What was made.

    Parameters
    ----------
    folder
        Where it lies; nothing in it but `public` leaves the site.
    public
        What the coordinator is sent.
    key
        The public halves, with their one fingerprint.
    """

    folder: Path
    public: Path
    key: node_keys.PublicKey


def enroll(
    name: str,
    folder: Path,
    *,
    invitation: Invitation | None,
    key: Path | None,
    passphrase: str | None,
    overrides: Sequence[str] = (),
) -> Enrolled:
    """Make a site's node key, its identity, its image key unless it has one, and its configuration.

    Parameters
    ----------
    name
        The site.
    folder
        A folder for it, new or without these files.
    invitation
        What the coordinator handed out; None leaves the server to be filled in.
    key
        A sealed key file the site has already; None makes one.
    passphrase
        Seals the identity and a new key file; of a key file the site has already, it is the passphrase.
    overrides
        ``key=value`` settings for the configuration.

    Raises
    ------
    ConfigError
        The name or a setting is not good, or the invitation names no server's key.
    KeyMaterialError
        The passphrase does not open the key file the site has already.
    StorageError
        Something of a name is there already, or the disk refuses.
    """
    node_keys.check_name(name)
    private, public, own, ca = folder / f"{name}.node", folder / f"{name}.pub", folder / f"{name}.key", folder / CA_FILE
    identity = folder / f"{name}{IDENTITY}"
    config = load_config(SiteConfig, None, overrides)
    config.name, config.node_key, config.ca, config.identity = name, private.name, ca.name, identity.name
    config.key = own.name if key is None else str(key.expanduser().resolve())
    if invitation is not None:
        _refuse_old(invitation)
        config.server, config.server_key = invitation.address, invitation.server_key
    _refuse_taken([folder / CONFIG_FILE, private, public, identity, *([own] if key is None else []), ca])
    if key is not None:
        # One passphrase opens both for as long as the site runs: a wrong one must not seal the identity.
        load_keyring(key, passphrase or "")
    make_folder(folder, mode=0o700)
    drawn, signing = node_keys.generate(), SigningKey.generate()
    halves, text = node_keys.public_file(drawn, signing, name)
    write_bytes(private, node_keys.private_bytes(drawn), mode=0o600)
    save_identity(identity, signing, site=name, passphrase=passphrase or "")
    write_text(public, text)
    if key is None:
        save_key(own, SiteKey.generate(name), passphrase or "")
    if invitation is not None:
        write_text(ca, invitation.authority)
    write_text(folder / CONFIG_FILE, _HEAD + commented_yaml(SiteConfig, config), mode=0o600)
    return Enrolled(folder, public, halves)


def rejoin(files: OwnFiles, invitation: Invitation, read: Callable[[Path | None], str]) -> Enrolled:
    """Take a new invitation into a site that is there: whose certificate and signature count, and where the server is.

    A site that has no identity is given one. Keys, settings, store and stems stay; the old configuration is kept beside
    the new one. A server's key that is replaced is remembered for the heads of its log, which it signed.

    Parameters
    ----------
    files
        The site.
    invitation
        Compared by its fingerprint before.
    read
        Gives passphrases, as `crypto.passphrase.read_passphrase`.

    Raises
    ------
    ConfigError
        The invitation names no server's key.
    KeyMaterialError, StorageError, FormatError, IntegrityError
        A key cannot be opened or written.
    """
    _refuse_old(invitation)
    config, folder = files.config, files.file.parent
    node = files.path(config.node_key)
    private = node_keys.load_private(node)
    if config.identity:
        signing = open_identity(files, read)
    else:
        named = None if config.passphrase_file is None else files.path(config.passphrase_file)
        passphrase = read(named)
        load_keyring(files.path(config.key), passphrase)
        made = folder / f"{config.name}{IDENTITY}"
        if made.exists():
            # Left where this was cut short before the configuration named it; nobody else seals under the passphrase.
            signing = load_identity(made, passphrase, site=config.name)
        else:
            signing = SigningKey.generate()
            save_identity(made, signing, site=config.name, passphrase=passphrase)
        config.identity = made.name
    halves, text = node_keys.public_file(private, signing, config.name)
    public = node.with_suffix(".pub")
    write_text(public, text)
    write_text(files.path(config.ca), invitation.authority)
    if config.server_key not in ("", invitation.server_key, *config.former_server_keys):
        config.former_server_keys.append(config.server_key)
    config.server, config.server_key = invitation.address, invitation.server_key
    write_bytes(files.file.with_name(f"{files.file.name}.old"), files.file.read_bytes(), mode=0o600)
    write_text(files.file, _HEAD + commented_yaml(SiteConfig, config), mode=0o600)
    return Enrolled(folder, public, halves)


def server_fingerprint(files: OwnFiles) -> str:
    """What this site takes for its server, as the coordinator reads it out: over authority and signing key."""
    return fingerprint_of(load_certificate(files.path(files.config.ca)), files.config.server_key)


def _refuse_old(invitation: Invitation) -> None:
    if not invitation.server_key:
        cure = "the coordinator's 'medveil-server start' or 'renew' of this MedVeil writes one of version 2"
        raise ConfigError("the invitation is of version 1, which names no signing key of the server's", cure=cure)


def _refuse_taken(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists() or path.is_symlink():
            raise StorageError("is there already", where=path, cure="choose another folder; no key is ever overwritten")
