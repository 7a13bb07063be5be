"""A greeting to a server: whether it answers, by whose certificate, and what time it is there.

It goes the way the site's node goes, by the same library and through the same proxy, so that what stops the one stops
the other and is said in the same words.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from medveil.bounded import word
from medveil.errors import ConfigError, FederationError, MedVeilError, StorageError
from medveil.times import SKEW_S, moment

_CALL_S = 15.0
_DAY_S = 86400.0
_LONGEST = 200
AHEAD_S = 4.0
"""Seconds a clock may be ahead of the server's: it takes 5, and its answers carry whole seconds."""
_CURE = "the server must run, its port be open, and 'server' be right; behind a proxy set HTTPS_PROXY"
_PROXY = "HTTPS_PROXY names the proxy, with name and password where it asks for them: http://NAME:PASSWORD@HOST:PORT"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_NTP = "set it by NTP: timedatectl set-ntp true"
# Of OpenSSL's x509_vfy.h.
_EXPIRED, _NOT_YET, _WRONG_HOST, _WRONG_IP = 10, 9, 62, 64
_CURES = {
    _EXPIRED: "the coordinator runs 'medveil-server renew'; if it is good, this machine's clock is wrong",
    _NOT_YET: f"this machine's clock is behind: {_NTP}",
    _WRONG_HOST: "'server' must be a name its certificate is good for, one of the consortium's 'certificates.names'",
}
_CURES[_WRONG_IP] = _CURES[_WRONG_HOST]
_OTHER = "'ca' must be the consortium's authority: ask the coordinator for its invitation"


@dataclass(frozen=True)
class Greeting:
    """What a server's answer tells.

    Attributes
    ----------
    expires, days
        Until when its certificate is good, and the days left.
    ahead
        Seconds this machine's clock is ahead of the server's; answers carry whole seconds.
    """

    expires: str | None
    days: float | None
    ahead: float | None


def greet(server: str, authority: Path, environment: Mapping[str, str] | None = None) -> Greeting:
    """Ask a server for nothing in particular, as any browser could.

    Parameters
    ----------
    server
        Host and port.
    authority
        The certificate of the one authority that counts.
    environment
        Where the node finds its proxy; None: this process's.

    Raises
    ------
    FederationError
        It does not answer, or not by a certificate that counts; or a proxy does not let it through.
    ConfigError, StorageError
        The authority's certificate is none, or cannot be read; or the proxy cannot be one.
    """
    context = _context(authority)
    try:
        with (
            _proxied(os.environ if environment is None else environment),
            httpx.Client(verify=context, timeout=_CALL_S) as client,
            client.stream("GET", f"https://{server}/") as answer,
        ):
            return _greeting(answer)
    except httpx.ProxyError as error:
        raise FederationError(f"the proxy refuses: {word(error, _LONGEST)}", where=server, cure=_PROXY) from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise _told(error, server) from None
    except (ImportError, ValueError, httpx.InvalidURL):
        # A proxy of a kind that the node could not use either; its words hold the password.
        raise ConfigError("HTTPS_PROXY is no proxy that can be used", where=server, cure=_PROXY) from None


def refuse_clock(greeting: Greeting, *, server: str) -> None:
    """Refuse a clock by which the server would not let this node in (FederationError)."""
    ahead = greeting.ahead
    if ahead is not None and not -SKEW_S <= ahead <= AHEAD_S:
        problem = f"this machine's clock is {clock_in_words(ahead)}: the server would refuse this node"
        raise FederationError(problem, where=server, cure=_NTP)


def clock_in_words(ahead: float) -> str:
    """How far this machine's clock is from the server's."""
    return f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"


def _context(authority: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(authority))
    except ssl.SSLError:
        raise ConfigError("is no certificate", where=authority, cure=_OTHER) from None
    except OSError as error:
        why = (error.strerror or "cannot be read").lower()
        raise StorageError(f"cannot read the authority's certificate: {why}", where=authority, cure=_OTHER) from None


def _greeting(answer: httpx.Response) -> Greeting:
    now = datetime.now(UTC)
    stream: Any = answer.extensions.get("network_stream")
    secured = None if stream is None else stream.get_extra_info("ssl_object")
    peer = None if secured is None else secured.getpeercert()
    ends = ssl.cert_time_to_seconds(str(peer["notAfter"])) if peer else None
    left = None if ends is None else (ends - now.timestamp()) / _DAY_S
    until = None if ends is None else moment(datetime.fromtimestamp(ends, UTC))
    return Greeting(until, left, _ahead(answer.headers.get("date"), now))


def _ahead(date: str | None, now: datetime) -> float | None:
    try:
        return None if date is None else (now - parsedate_to_datetime(date)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        # Whoever answers may write what it likes there.
        return None


def _told(error: Exception, server: str) -> MedVeilError:
    """What stopped a greeting, from the innermost of what was raised."""
    causes: list[BaseException] = [error]
    while (inner := causes[-1].__cause__ or causes[-1].__context__) is not None and inner not in causes:
        causes.append(inner)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            problem = f"the server's certificate does not count here: {word(cause.verify_message, _LONGEST)}"
            return FederationError(problem, where=server, cure=_CURES.get(cause.verify_code, _OTHER))
    for cause in causes:
        if isinstance(cause, ssl.SSLError):
            return FederationError(f"no TLS there: {word(cause.reason, _LONGEST)}", where=server, cure=_CURE)
    said = word(error, _LONGEST) or type(error).__name__
    return FederationError(f"does not answer: {said}", where=server, cure=_CURE)


@contextmanager
def _proxied(environment: Mapping[str, str]) -> Iterator[None]:
    """While a client is made, let it find the proxies of another environment; both spellings count."""
    names = [spelling for name in _PROXIES for spelling in (name, name.lower())]
    before = {name: os.environ.get(name) for name in names}
    _set({name: environment.get(name) for name in names})
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
