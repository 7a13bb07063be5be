"""Enrolling a site: its own keys and its configuration, made where it is. Only the public half of one key leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crypto.keyfile import save_key
from crypto.keys import SiteKey
from fl_client.deployment.config import CONFIG_FILE, SiteConfig
from medveil import node_keys
from medveil.config import commented_yaml, load_config
from medveil.errors import StorageError
from medveil.files import make_folder, write_bytes, write_text
from medveil.invitation import Invitation

CA_FILE = "ca.crt"
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
        The public half, with its fingerprint.
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
    """Make a site's node key, its image key unless it has one, and its configuration.

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
        Seals a new key file.
    overrides
        ``key=value`` settings for the configuration.

    Raises
    ------
    ConfigError
        The name or a setting is not good.
    StorageError
        Something of a name is there already, or the disk refuses.
    """
    node_keys.check_name(name)
    private, public, own, ca = folder / f"{name}.node", folder / f"{name}.pub", folder / f"{name}.key", folder / CA_FILE
    config = load_config(SiteConfig, None, overrides)
    config.name, config.node_key, config.ca = name, private.name, ca.name
    config.key = own.name if key is None else str(key.expanduser().resolve())
    if invitation is not None:
        config.server = invitation.address
    _refuse_taken([folder / CONFIG_FILE, private, public, *([own] if key is None else []), ca])
    make_folder(folder, mode=0o700)
    drawn = node_keys.generate()
    half = node_keys.public_half(drawn, name)
    write_bytes(private, node_keys.private_bytes(drawn), mode=0o600)
    write_text(public, half.line())
    if key is None:
        save_key(own, SiteKey.generate(name), passphrase or "")
    if invitation is not None:
        write_text(ca, invitation.authority)
    write_text(folder / CONFIG_FILE, _HEAD + commented_yaml(SiteConfig, config), mode=0o600)
    return Enrolled(folder, public, half)


def _refuse_taken(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists() or path.is_symlink():
            raise StorageError("is there already", where=path, cure="choose another folder; no key is ever overwritten")
