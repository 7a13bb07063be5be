"""Whether a site's server is the right one and can be reached, point by point: keys, TLS, clock, session."""

from __future__ import annotations

from fl_client.deployment import running
from fl_client.deployment.door import greeting_of
from fl_client.deployment.enroll import server_fingerprint
from fl_client.deployment.greeting import Greeting, clock_in_words, refuse_clock
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.points import FAILED, OK, WARNING, Point, point_of
from fl_client.deployment.signatures import refuse_unsigned
from fl_client.deployment.supervisor import SUPERVISOR
from medveil import processes
from medveil.certificates import WARN_DAYS, days_left, expiry_warning, load_certificate
from medveil.errors import ConfigError, FederationError, MedVeilError

_ODD_S = 2.0


def of_door(files: OwnFiles) -> list[Point]:
    """What lies between this site and its server."""
    greeted: Greeting | MedVeilError
    try:
        greeted = greeting_of(files)
    except MedVeilError as error:
        greeted = error
    return [
        point_of("TLS", lambda: _tls(files, greeted)),
        point_of("clock", lambda: _clock(greeted, files.config.server)),
        point_of("session", lambda: _session(files)),
    ]


def server_key(files: OwnFiles) -> Point:
    """Whether what the server signs can be told."""
    refuse_unsigned(files)
    return Point("server key", OK, f"what it signs counts; authority and key together are {server_fingerprint(files)}")


def authority(files: OwnFiles) -> Point:
    """How long the authority's certificate is good."""
    certificate = load_certificate(files.path(files.config.ca))
    warned = expiry_warning(certificate, "the authority's certificate", cure="ask the coordinator for a new invitation")
    if warned is not None:
        text, _, cure = warned.partition(": ")
        gone = days_left(certificate) < 0
        return Point("authority", FAILED if gone else WARNING, text, cure, ConfigError.exit_code if gone else 0)
    return Point("authority", OK, f"good for {int(days_left(certificate))} days")


def _tls(files: OwnFiles, greeting: Greeting | MedVeilError) -> Point:
    if isinstance(greeting, MedVeilError):
        raise greeting
    if greeting.days is not None and greeting.days <= WARN_DAYS:
        found = f"the server's certificate expires in {int(greeting.days)} days"
        return Point("TLS", WARNING, found, "the coordinator runs 'medveil-server renew'")
    until = "" if greeting.expires is None else f", its certificate until {greeting.expires}"
    return Point("TLS", OK, f"{files.config.server} answers{until}")


def _clock(greeting: Greeting | MedVeilError, server: str) -> Point:
    if isinstance(greeting, MedVeilError) or greeting.ahead is None:
        return Point("clock", WARNING, "the server did not tell its time", "compare it by hand")
    refuse_clock(greeting, server=server)
    if abs(greeting.ahead) > _ODD_S:
        return Point("clock", WARNING, clock_in_words(greeting.ahead), "set it by NTP: timedatectl set-ntp true")
    return Point("clock", OK, "agrees with the server's")


def _session(files: OwnFiles) -> Point:
    """What `start` and `status` say of a site that runs."""
    if processes.running(files.record(SUPERVISOR)) is None:
        return Point("session", OK, "not started")
    if running.is_connected(files):
        return Point("session", OK, f"connected to {files.config.server}")
    found = f"not connected to {files.config.server}: {running.told_why(files)}"
    return Point("session", FAILED, found, "'medveil-site status' follows it", FederationError.exit_code)
