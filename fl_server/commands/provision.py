"""Setting up a consortium and letting sites in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fl_server.commands.common import DEFAULT, PROG, Commands, consortium_of, said_of, say_new_key, show, tell_server
from medveil.cli import add_json, subcommand
from medveil.completing import completing, settings_of
from medveil.errors import EXIT_OK, ConfigError
from medveil.plain import tell, tell_result

if TYPE_CHECKING:
    from fl_server.deployment.consortium import Consortium


def add_init(commands: Commands) -> None:
    """Add `init`."""
    made = subcommand(
        commands,
        "init",
        text="Set up a consortium: certificate authority, server certificate, signing key, invitation for the sites.",
        example=f"{PROG} init consortium.yaml fleet.host=0.0.0.0 'certificates.names=[veil.example.org]'",
    )
    made.add_argument(
        "file", type=Path, nargs="?", default=DEFAULT, metavar="FILE", help=f"to write (default: {DEFAULT})"
    )
    settings = made.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings for a file that is not there yet"
    )
    completing(settings, settings_of(_schema))
    add_json(made)
    made.set_defaults(command=_do_init)


def _schema() -> type:
    from fl_server.deployment.consortium import ConsortiumConfig  # noqa: PLC0415

    return ConsortiumConfig


def _do_init(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.provision import init  # noqa: PLC0415

    made = init(arguments.file, arguments.overrides)
    handed = _handed(made)
    tell_result(
        {
            "consortium": made.config.name,
            "file": str(made.file),
            "state": str(made.state),
            "address": made.address,
            "names": list(made.names),
            **handed,
        },
        f"consortium '{made.config.name}': {made.file}, state in {made.state}",
        f"sites reach it at {made.address}; its certificate is good for {', '.join(made.names)}",
        f"hand every site: {made.invitation}",
        f"and read out to each, over another channel: {handed['fingerprint']}",
        as_json=arguments.json,
    )
    return EXIT_OK


def _handed(consortium: Consortium) -> dict[str, str]:
    """What every site is handed, and what is read out of it."""
    from fl_server.deployment.provision import server_fingerprint  # noqa: PLC0415

    return {"invitation": str(consortium.invitation), "fingerprint": server_fingerprint(consortium)}


def add_renew(commands: Commands) -> argparse.ArgumentParser:
    """Add `renew`."""
    made = subcommand(
        commands,
        "renew",
        text="Make a new server certificate of the same authority; sites need nothing new. Or a new signing key.",
        example=f"{PROG} renew",
    )
    made.add_argument(
        "--signing-key",
        action="store_true",
        help="draw a new key that signs the server's messages instead: every site takes the new invitation then",
    )
    add_json(made)
    made.set_defaults(command=_do_renew)
    return made


def _do_renew(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.provision import renew  # noqa: PLC0415

    consortium = consortium_of(arguments)
    if arguments.signing_key:
        return _renew_signing(consortium, as_json=arguments.json)
    begun = say_new_key(consortium, aside=arguments.json)
    renew(consortium)
    names = list(consortium.names)
    tell_result(
        {"certificate": names, "new_signing_key": begun, "former_key": None, **_handed(consortium)},
        f"new certificate for {', '.join(names)}; it counts from the next '{PROG} start'",
        as_json=arguments.json,
    )
    return EXIT_OK


def _renew_signing(consortium: Consortium, *, as_json: bool) -> int:
    from fl_server.deployment.provision import renew_signing  # noqa: PLC0415

    old = renew_signing(consortium)
    handed = _handed(consortium)
    tell_result(
        {"certificate": None, "new_signing_key": True, "former_key": old, **handed},
        f"the server signs with a new key from now on; the old one, {old}, is gone",
        f"hand every site again: {consortium.invitation}",
        "each is stopped, takes it with 'medveil-site rejoin' and is started; nobody is admitted anew",
        f"read out to each, over another channel: {handed['fingerprint']}",
        "until then a site refuses every message; heads of the audit log that the old key signed still count at sites",
        as_json=as_json,
    )
    return EXIT_OK


def add_admit(commands: Commands) -> argparse.ArgumentParser:
    """Add `admit`."""
    made = subcommand(
        commands, "admit", text="Let a site connect, by its public key.", example=f"{PROG} admit enrol/st-anna.pub"
    )
    made.add_argument("key", type=Path, metavar="PUB", help="what 'medveil-site enroll' made; never the private half")
    made.add_argument("--fingerprint", metavar="HEX", help="refuse another key than the site read out")
    add_json(made)
    made.set_defaults(command=_do_admit)
    return made


def _do_admit(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.roster import Roster  # noqa: PLC0415
    from medveil.fingerprints import plain_fingerprint  # noqa: PLC0415
    from medveil.node_keys import load_public  # noqa: PLC0415

    consortium = consortium_of(arguments)
    public = load_public(arguments.key)
    if arguments.fingerprint is not None and plain_fingerprint(arguments.fingerprint) != public.fingerprint:
        cure = "this is not the key the site read out: do not admit it"
        raise ConfigError(f"has the fingerprint {public.fingerprint}", where=arguments.key, cure=cure)
    Roster(consortium.roster, consortium.audit).admit(public)
    # Before the server is told: where it refuses, this is done all the same.
    tell(f"admitted {public.name} with the key {public.fingerprint}", error=arguments.json)
    if arguments.fingerprint is None:
        tell("compare it with what the site shows, over another channel than the file", error=arguments.json)
    told = tell_server(consortium)
    found = {"site": public.name, "key": public.fingerprint, "compared": arguments.fingerprint is not None}
    tell_result({**found, "server": told}, *said_of(told), as_json=arguments.json)
    return EXIT_OK


def add_revoke(commands: Commands) -> argparse.ArgumentParser:
    """Add `revoke`."""
    made = subcommand(
        commands,
        "revoke",
        text="Cut a site off. Its key never comes back: the site enrolls anew.",
        example=f"{PROG} revoke st-anna",
    )
    made.add_argument("name", metavar="NAME", help="the site")
    add_json(made)
    made.set_defaults(command=_do_revoke)
    return made


def _do_revoke(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.roster import Roster  # noqa: PLC0415

    consortium = consortium_of(arguments)
    gone = Roster(consortium.roster, consortium.audit).revoke(arguments.name)
    tell(f"revoked {gone.name} with the key {gone.public.fingerprint}", error=arguments.json)
    told = tell_server(consortium)
    found = {"site": gone.name, "key": gone.public.fingerprint, "server": told}
    tell_result(found, *said_of(told), as_json=arguments.json)
    return EXIT_OK


def add_list(commands: Commands) -> argparse.ArgumentParser:
    """Add `list`."""
    made = subcommand(commands, "list", text="List the sites that were admitted.", example=f"{PROG} list")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.set_defaults(command=_do_list)
    return made


def _do_list(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.provision import server_fingerprint  # noqa: PLC0415
    from fl_server.deployment.roster import Roster  # noqa: PLC0415

    consortium = consortium_of(arguments)
    members = Roster(consortium.roster).members()
    rows = [
        {
            "site": each.name,
            "status": each.status if each.identity else f"{each.status}, no identity",
            "since": each.since,
            "key": each.public.fingerprint,
        }
        for each in members
    ]
    if not arguments.json and consortium.signing_key.exists():
        tell(f"server {server_fingerprint(consortium)}")
    show(rows, as_json=arguments.json, empty=f"no site was admitted yet: {PROG} admit SITE.pub")
    return EXIT_OK


def add_roster(commands: Commands) -> argparse.ArgumentParser:
    """Add `roster`."""
    made = subcommand(
        commands,
        "roster",
        text="Write the roster: the admitted sites, by the keys that sign for them. Every site approves it once.",
        example=f"{PROG} roster --out roster.json",
    )
    made.add_argument("--out", type=Path, required=True, metavar="FILE", help="the roster, to hand to every site")
    made.add_argument(
        "--colluding",
        type=int,
        metavar="N",
        help="sites that may side with the server and still read no other one's update (default: 1)",
    )
    add_json(made)
    made.set_defaults(command=_do_roster)
    return made


def _do_roster(arguments: argparse.Namespace) -> int:
    from fl_server.deployment.provision import write_roster  # noqa: PLC0415

    made = write_roster(consortium_of(arguments), arguments.out, colluding=arguments.colluding)
    tell_result(
        {"file": str(arguments.out), **made.facts()},
        *made.lines(),
        f"any {made.threshold} of these {len(made.members)} sites can open a sum, and none of fewer than {made.fewest}",
        f"hand every site: {arguments.out}",
        f"and read out to each, over another channel: {made.fingerprint}",
        f"each approves it: medveil-site approve-roster {made.fingerprint} --roster {arguments.out.name}",
        as_json=arguments.json,
    )
    return EXIT_OK
