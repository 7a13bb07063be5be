"""Making a consortium: its certificate authority, the server's certificate and signing key, invitation and roster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli_w

from fl_server.deployment.consortium import CONNECTION, Consortium, ConsortiumConfig, load_consortium
from fl_server.deployment.roster import Roster
from medveil import processes
from medveil.certificates import expiry_warning, issue, load_certificate, load_issued, make_authority
from medveil.config import commented_yaml, load_config
from medveil.errors import ConfigError
from medveil.files import make_folder, write_text
from medveil.invitation import Invitation, fingerprint_of
from medveil.secagg.roster import COLLUDING
from medveil.secagg.roster import Roster as SharedRoster
from medveil.signing import SigningKey, load_signing_key

_HEAD = "# A MedVeil consortium, as its coordinator runs it. Set it up with: medveil-server init FILE\n"


def init(file: Path, overrides: Sequence[str]) -> Consortium:
    """Set up a consortium that is not there yet.

    Parameters
    ----------
    file
        The consortium's YAML; where there is none it is written, with `overrides` in it.
    overrides
        ``key=value`` settings for a new file.

    Raises
    ------
    ConfigError
        The consortium has been set up before, or its settings cannot be run.
    StorageError
        The disk refuses.
    """
    if file.exists() and overrides:
        raise ConfigError("is there already", where=file, cure="change the settings in it, and give none here")
    config = load_config(ConsortiumConfig, file if file.exists() else None, overrides)
    config.check(where=file if file.exists() else "command line")
    consortium = Consortium(config, file.resolve())
    _refuse_to_replace(consortium)
    authority = make_authority(config.name, days=config.certificates.authority_days)
    server = issue(authority, consortium.names, days=config.certificates.server_days)
    if not file.exists():
        make_folder(file.resolve().parent)
        write_text(file, _HEAD + commented_yaml(ConsortiumConfig, config))
    for folder in (consortium.state, consortium.state / "pki", consortium.home, consortium.runs, consortium.weights):
        make_folder(folder, mode=0o700)
    authority.save(*consortium.authority)
    server.save(*consortium.certificate)
    SigningKey.generate().save(consortium.signing_key)
    write_connection(consortium)
    write_invitation(consortium)
    return consortium


def renew(consortium: Consortium) -> None:
    """Give the server a new TLS key and certificate of the same authority: sites need nothing new.

    The names of the configuration go into it. The old ones are kept beside the new ones, until the next renewal. The
    signing key stays: it is what sites know the server by.

    Raises
    ------
    ConfigError
        The authority has expired.
    StorageError, FormatError
        A file is missing or not what it should be.
    """
    made = issue(load_issued(*consortium.authority), consortium.names, days=consortium.config.certificates.server_days)
    for path in consortium.certificate:
        path.replace(path.with_name(f"{path.name}.old"))
    made.save(*consortium.certificate)
    if not begin_signing(consortium):
        write_invitation(consortium)


def begin_signing(consortium: Consortium) -> bool:
    """Make the signing key of a consortium that was set up before messages were signed, and its new invitation.

    Returns
    -------
    bool
        Whether there was none: then every site needs the invitation, and `medveil-site rejoin`.
    """
    if consortium.signing_key.exists():
        return False
    SigningKey.generate().save(consortium.signing_key)
    write_invitation(consortium)
    return True


def renew_signing(consortium: Consortium) -> str:
    """Draw the server a new signing key and write the invitation that names it; the old private half is gone.

    Sites refuse whatever the new key signs until they took the new invitation with `medveil-site rejoin`, which keeps
    their keys, stores and runs. Runs can be resumed then.

    Returns
    -------
    str
        Fingerprint of the old key.

    Raises
    ------
    ConfigError
        The server is running: what it began it would end with another key than its sites know.
    StorageError, FormatError, IntegrityError
        A file is missing or not what it should be, or the disk refuses.
    """
    if processes.running(consortium.record) is not None:
        cure = "medveil-server stop, and begin again when the sites have the new invitation"
        raise ConfigError("the server is running", where=consortium.config.name, cure=cure)
    old, new = load_signing_key(consortium.signing_key), SigningKey.generate()
    # First: a log that refuses must not leave a key that nobody was told of.
    consortium.audit.append("signing-key-renewed", old=old.fingerprint, new=new.fingerprint)
    new.save(consortium.signing_key)
    write_invitation(consortium)
    return old.fingerprint


def write_connection(consortium: Consortium) -> None:
    """Tell Flower's own commands where the server is and whose certificate it has."""
    certificate = str(consortium.authority[1])
    link = {"address": consortium.control, "root-certificates": certificate}
    write_text(consortium.home / "config.toml", tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: link}}))


def write_invitation(consortium: Consortium) -> None:
    """Write what sites are handed."""
    authority, key = consortium.authority[1].read_text(), load_signing_key(consortium.signing_key)
    Invitation(consortium.config.name, consortium.address, authority, key.public).save(consortium.invitation)


def write_roster(consortium: Consortium, out: Path, *, colluding: int | None = None) -> SharedRoster:
    """Write the admitted sites down as a roster that every site approves.

    Parameters
    ----------
    out
        The file; an older one is replaced.
    colluding
        As in `medveil.secagg.roster.Roster`; None for its default.

    Raises
    ------
    ConfigError
        A site has named no identity, there are too few, or too many may collude.
    StorageError
        The disk refuses.
    """
    admitted = Roster(consortium.roster).admitted()
    unnamed = [member.name for member in admitted if not member.identity]
    if unnamed:
        cure = "it runs 'medveil-site rejoin', and 'medveil-server admit' takes its .pub once more"
        raise ConfigError("named no identity to sign with", where=unnamed[0], cure=cure)
    members = {member.name: member.identity for member in admitted}
    made = SharedRoster(members, COLLUDING if colluding is None else colluding)
    consortium.audit.append("roster-written", roster=made.fingerprint, sites=made.names)
    made.save(consortium.shared_roster)
    make_folder(out.resolve().parent)
    made.save(out)
    return made


def check_provisioned(consortium: Consortium) -> None:
    """Refuse a consortium that was never set up, or whose certificate is not good for the names in its file.

    Raises
    ------
    ConfigError
        With the command that helps.
    """
    for path in (*consortium.authority, *consortium.certificate):
        if not path.is_file():
            raise ConfigError(
                "has not been set up", where=consortium.file, cure=f"medveil-server init {consortium.file}"
            )
    load_issued(*consortium.certificate)


def warnings(consortium: Consortium) -> list[str]:
    """Sentences about certificates that expire soon, or have."""
    authority, server = (load_certificate(pair[1]) for pair in (consortium.authority, consortium.certificate))
    found = [
        expiry_warning(server, "the server's certificate", cure="run 'medveil-server renew' and start the server anew"),
        expiry_warning(
            authority, "the certificate authority", cure="set up a new consortium and hand its invitation to every site"
        ),
    ]
    return [text for text in found if text is not None]


def server_fingerprint(consortium: Consortium) -> str:
    """What sites compare: one fingerprint over the certificate authority and the server's signing key."""
    return fingerprint_of(load_certificate(consortium.authority[1]), load_signing_key(consortium.signing_key).public)


def _refuse_to_replace(consortium: Consortium) -> None:
    made = (*consortium.authority, *consortium.certificate, consortium.signing_key)
    for path in (*made, consortium.roster, consortium.database):
        if path.exists():
            problem = f"has been set up before: {path} is there"
            cure = "'medveil-server renew' makes a new server certificate; to begin anew move the state folder away"
            raise ConfigError(problem, where=consortium.file, cure=cure)


__all__ = [
    "begin_signing",
    "check_provisioned",
    "init",
    "load_consortium",
    "renew",
    "renew_signing",
    "server_fingerprint",
    "warnings",
    "write_connection",
    "write_invitation",
    "write_roster",
]
