"""A greeting to a server: whether it answers, by whose certificate, and what time it is there."""

from __future__ import annotations

import http.client
import ssl
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlparse

from medveil.errors import FederationError

_CALL_S = 15.0
_DAY_S = 86400.0
_CURE = "the server must run, its port be open, and 'server' be right; behind a proxy set HTTPS_PROXY"


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


def greet(server: str, authority: Path) -> Greeting:
    """Ask a server for nothing in particular, as any browser could.

    Parameters
    ----------
    server
        Host and port.
    authority
        The certificate of the one authority that counts.

    Raises
    ------
    FederationError
        It does not answer, or not by a certificate that counts.
    """
    host, _, port = server.rpartition(":")
    host = host.strip("[]")
    context = ssl.create_default_context(cafile=str(authority))
    connection = _connection(host, int(port), context)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        now = datetime.now(UTC)
        peer = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
        answer.read()
    except ssl.SSLCertVerificationError as error:
        cure = "'ca' must be the consortium's authority, and 'server' a name its certificate is good for"
        problem = f"the server's certificate does not count: {error.verify_message}"
        raise FederationError(problem, where=server, cure=cure) from error
    except ssl.SSLError as error:
        problem = f"no TLS there: {error.reason}"
        raise FederationError(problem, where=server, cure=_CURE) from error
    except (OSError, http.client.HTTPException) as error:
        problem = f"does not answer: {error}"
        raise FederationError(problem, where=server, cure=_CURE) from error
    finally:
        connection.close()
    until = str(peer["notAfter"]) if peer else None
    left = None if until is None else (ssl.cert_time_to_seconds(until) - now.timestamp()) / _DAY_S
    date = answer.getheader("date")
    return Greeting(until, left, (now - parsedate_to_datetime(date)).total_seconds() if date else None)


def _connection(host: str, port: int, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    """A connection to the server, through the proxy for it if one is set."""
    proxy = urllib.request.getproxies().get("https")
    if proxy is None or urllib.request.proxy_bypass(host):
        return http.client.HTTPSConnection(host, port, context=context, timeout=_CALL_S)
    way = urlparse(proxy if "//" in proxy else f"//{proxy}")
    made = http.client.HTTPSConnection(str(way.hostname), way.port or 8080, context=context, timeout=_CALL_S)
    made.set_tunnel(host, port)
    return made
