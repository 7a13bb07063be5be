"""The one way to a DICOMweb server: every request is paced, goes to that server alone, and what comes back is bounded.

A session of requests, which dicomweb-client sends its queries and reports through. Redirects are not followed: they
would take the token elsewhere. Nothing is taken from the environment: no proxy, no login of a ``.netrc``.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from fl_client.dicomweb.server import MIB, Server
from medveil.bounded import Bounds, parse_json
from medveil.errors import ConfigError, DataError, KeyMaterialError, PacsError
from medveil.log import logger
from medveil.plain import shown

ANSWER = Bounds(length=64 * MIB, depth=32, values=4_000_000)
"""Of an answer to a query: a page of instances takes a hundredth of it."""
_PIECE = 2**16
_AGAIN = {429, 500, 502, 503, 504}
_LONGEST_PAUSE = 30.0
JSON = ("application/dicom+json", "application/json")
_log = logger("dicomweb")


class TooLargeError(DataError):
    """An answer that is larger than it may be."""


class CutError(DataError):
    """An answer that ends before it should."""


class RefusedError(DataError):
    """What the server says it does not have, or does not give."""


class _Token(AuthBase):
    """Sets the header of every request; with an object of its own, requests looks into no ``.netrc``."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: Any) -> Any:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class PacsSession(requests.Session):
    """A session with one server.

    Parameters
    ----------
    server
        The server.
    sleep, clock
        What waits and what tells seconds, for tests.

    Raises
    ------
    ConfigError, KeyMaterialError, StorageError
        A file that the server's file names is missing, or holds no secret or no certificate.
    """

    def __init__(
        self,
        server: Server,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._server, self._sleep, self._clock = server, sleep, clock
        self._origin = _origin(server.url)
        self._next = 0.0
        self.requests = 0
        self.trust_env = False
        self.headers.update({"Accept-Encoding": "identity", "User-Agent": "medveil"})
        self.auth = _Token(_authorization(server))
        config = server.config
        self.verify = True if config.ca is None else str(_present(server, "ca"))
        if config.certificate is not None:
            own = str(_present(server, "certificate", private=config.certificate_key is None))
            key = None if config.certificate_key is None else str(_present(server, "certificate_key", private=True))
            self.cert = own if key is None else (own, key)

    def request(self, method: str | bytes, url: str | bytes, *given: Any, **named: Any) -> requests.Response:
        """As `requests.Session.request`, with the whole answer in memory, which is JSON or nothing.

        Raises
        ------
        PacsError
            The server is out of reach, refuses this site, sends it elsewhere, or answers what is no JSON.
        DataError
            It has not what was asked for, or the answer is too large or cut short.
        """
        response, data = self._asked(str(method), str(url), most=ANSWER.length, **_kept(named))
        kind = response.headers.get("Content-Type", "").split(";", 1)[0].strip().lower()
        if data and kind not in JSON:
            raise PacsError(f"answers with {shown(kind, most=40) or 'nothing named'}, not JSON", where=self._where)
        if data:
            # What reads it next has no bounds of its own.
            parse_json(data, where=self._where, bounds=ANSWER, kind=PacsError)
        response._content, response._content_consumed = data, True
        return response

    def fetch(self, url: str, *, accept: str, most: int) -> tuple[str, bytes]:
        """The content type and the bytes of an answer, at most so many; errors as `request`."""
        response, data = self._asked("GET", url, most=most, headers={"Accept": accept})
        return response.headers.get("Content-Type", ""), data

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: requests would read the whole body of an answer that sends elsewhere, to be ready to follow it."""
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _where(self) -> str:
        return self._origin

    def _asked(self, method: str, url: str, *, most: int, **named: Any) -> tuple[requests.Response, bytes]:
        if _origin(url) != self._origin:
            raise PacsError("a request would leave this server", where=self._where)
        began, tried = self._clock(), 0
        while True:
            tried += 1
            try:
                return self._once(method, url, most=most, **named)
            except _LaterError as error:
                if error.broke and tried == 1:
                    # A kept connection may have been closed as it was taken (RFC 9112, section 9.3.1).
                    continue
                pause = min(_LONGEST_PAUSE, error.pause or 0.25 * 2 ** min(tried, 8))
                if self._clock() - began + pause > self._server.config.patience:
                    raise error.final from None
                _log.info("%s: %s; tried again in %.1f s", self._where, error.final.problem, pause)
                self._sleep(pause)

    def _once(self, method: str, url: str, *, most: int, **named: Any) -> tuple[requests.Response, bytes]:
        self._pace()
        timeout, where = self._server.config.timeout, self._where
        try:
            response = super().request(
                method, url, allow_redirects=False, stream=True, timeout=(timeout, timeout), **named
            )
        except requests.exceptions.SSLError as error:
            cure = "'ca' names the authority's certificate; 'certificate' this site's own"
            raise PacsError(f"TLS failed: {_reason(error)}", where=where, cure=cure) from None
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            final = PacsError(f"is out of reach: {_reason(error)}", where=where, cure="see that it runs, then go on")
            broke = isinstance(error, requests.exceptions.ConnectionError)
            broke = broke and not isinstance(error, requests.exceptions.Timeout)
            raise _LaterError(final, broke=broke) from None
        with response:
            self._judge(response)
            return response, self._body(response, most)

    def _pace(self) -> None:
        now = self._clock()
        if now < self._next:
            self._sleep(self._next - now)
        self._next = max(now, self._next) + 1 / self._server.config.rate
        self.requests += 1

    def _judge(self, response: requests.Response) -> None:
        status, where = response.status_code, self._where
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise PacsError(f"sends this site elsewhere ({status}), which is not followed", where=where, cure=_ADDRESS)
        if status in {401, 403}:
            cure = "'token', 'login' or 'certificate' of the server's file; its administrator knows what it takes"
            raise PacsError(f"does not let this site in ({status})", where=where, cure=cure)
        if status in _AGAIN:
            raise _LaterError(RefusedError(f"the server answers {status}"), _pause(response))
        raise RefusedError(f"the server answers {status}")

    def _body(self, response: requests.Response, most: int) -> bytes:
        length, coding = response.headers.get("Content-Length", ""), response.headers.get("Content-Encoding", "")
        if coding.lower() not in {"", "identity"}:
            raise PacsError("packs its answers, which was not asked for", where=self._where)
        if length.isdigit() and int(length) > most:
            raise TooLargeError(f"is {int(length)} bytes, and at most {most} are taken")
        data, end = bytearray(), self._clock() + max(60.0, 10 * self._server.config.timeout)
        try:
            for piece in response.raw.stream(_PIECE, decode_content=False):
                data += piece
                if len(data) > most:
                    raise TooLargeError(f"is larger than the {most} bytes that are taken")
                if self._clock() > end:
                    raise CutError("comes too slowly")
        except (urllib3.exceptions.HTTPError, OSError):
            raise _LaterError(CutError("is cut short by the server")) from None
        return bytes(data)


_ADDRESS = "write the address it really has into 'url'"


class _LaterError(Exception):
    """What may go well when it is tried again, and what it is where it does not; `broke`: a connection, unanswered."""

    def __init__(self, final: PacsError | DataError, pause: float | None = None, *, broke: bool = False) -> None:
        super().__init__(str(final))
        self.final, self.pause, self.broke = final, pause, broke


def _kept(named: dict[str, Any]) -> dict[str, Any]:
    """What of the arguments of a caller counts; where it goes, how long it waits and what is followed is ours."""
    taken = {name: value for name, value in named.items() if name in {"params", "data", "headers"}}
    # dicomweb-client writes the host without its port.
    taken["headers"] = {name: value for name, value in (taken.get("headers") or {}).items() if name != "Host"}
    # Without it a server may answer in XML what it stored.
    taken["headers"].setdefault("Accept", ", ".join(JSON))
    return taken


def _authorization(server: Server) -> str | None:
    if server.config.token is not None:
        return f"Bearer {server.secret('token')}"
    if server.config.login is None:
        return None
    login = server.secret("login")
    if ":" not in login:
        where = f"{server.file}: 'login'"
        raise KeyMaterialError("names a file without a login", where=where, cure="user:password, on one line")
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def _present(server: Server, setting: str, *, private: bool = False) -> Path:
    named, where = str(getattr(server.config, setting)), f"{server.file}: '{setting}'"
    path = server.path(named)
    if not path.is_file():
        raise ConfigError("names no file that is there", where=where, cure="a PEM file")
    if private:
        server.refuse_open(setting, path.stat().st_mode)
    return path


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _pause(response: requests.Response) -> float | None:
    told = response.headers.get("Retry-After", "")
    return float(told) if told.isascii() and told.isdigit() and len(told) < 6 else None


def _reason(error: Exception) -> str:
    """The kind of an error of requests; its text holds the address that was asked, and accession numbers with it."""
    inner: Any = error.args[0] if error.args else None
    reason = getattr(inner, "reason", None) or inner
    name = type(reason).__name__ if isinstance(reason, BaseException) else type(error).__name__
    return f"{name} ({_WORDS.get(name, 'no connection')})"


_WORDS = {
    "NewConnectionError": "nothing listens there, or no such host",
    "ConnectTimeoutError": "it does not answer",
    "ReadTimeoutError": "it does not answer in time",
    "NameResolutionError": "no such host",
    "SSLCertVerificationError": "its certificate is not of the authority, or of another host",
    "SSLError": "no common language, or it wants a certificate",
}
