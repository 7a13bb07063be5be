"""What Flower's commands ask a SuperLink, asked by Flower's client of its Control API. Private interfaces of Flower.

The ``flwr`` command imports for most of a second each time it is called, and a server that starts asks once for every
site it admitted. This is the client that the command itself is made of, with the secret it would show.
"""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from medveil.bounded import parse_json, parse_yaml
from medveil.errors import FederationError, MedVeilError
from medveil.files import read_bytes
from medveil.flower_control import CREDENTIALS

if TYPE_CHECKING:
    import httpx
    from flwr.supercore.protobuf.client import ProtobufRequestContext

_TIMEOUT_S = 120.0
_COMPONENT = "flwr CLI"
_LONGEST_REASON = 300
_LONGEST_FILE = 2**16


@dataclass(frozen=True)
class Node:
    """A node as Flower lists it; times are ISO 8601 in UTC, and empty for what never happened."""

    node: int
    status: str
    online_since: str
    offline_since: str


@dataclass(frozen=True)
class RunState:
    """A run as Flower lists it: ``finished:completed`` and the like, and why."""

    status: str
    details: str

    @property
    def finished(self) -> bool:
        """Whether it ended, in whatever way."""
        return self.status.startswith("finished")


class Commands:
    """A SuperLink's Control API on this machine, never by way of a proxy.

    Parameters
    ----------
    address
        Host and port of its inner door.
    home
        Flower's home, which holds the secret to show; a SuperLink that asks for none has none there.
    authority
        Certificate, in PEM, of whoever signed the SuperLink's; None for one without TLS.
    """

    def __init__(self, address: str, home: Path, authority: Path | None = None) -> None:
        import httpx  # noqa: PLC0415
        from flwr.supercore.control import ControlHttpClient  # noqa: PLC0415
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor  # noqa: PLC0415

        shown = _secret(home, address)
        self._address = address
        self._client = ControlHttpClient.from_server_address(
            server_address=address,
            insecure=authority is None,
            root_certificates=None,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name=_COMPONENT),
                *([_Shown(shown)] if shown else []),
            ],
        )
        # Flower's own would ask the proxy that the environment names, and show it the secret.
        self._client._client.close()
        self._client._client = httpx.Client(timeout=_TIMEOUT_S, trust_env=False, verify=_trusted(authority))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def register(self, public_key: str, name: str) -> int:
        """Let a node in by its public key, a line of OpenSSH; returns Flower's id of it."""
        from cryptography.hazmat.primitives.serialization import load_ssh_public_key  # noqa: PLC0415
        from flwr.proto.control_pb2 import RegisterNodeRequest  # noqa: PLC0415
        from flwr.supercore.primitives.asymmetric import public_key_to_bytes  # noqa: PLC0415

        key: Any = load_ssh_public_key(public_key.encode())
        request = RegisterNodeRequest(public_key=public_key_to_bytes(key), name=name)
        return int(self._ask("register", self._client.RegisterNode, request).node_id)

    def unregister(self, node: int) -> None:
        """Cut a node off."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest  # noqa: PLC0415

        self._ask("unregister", self._client.UnregisterNode, UnregisterNodeRequest(node_id=node))

    def nodes(self) -> list[Node]:
        """All nodes that were ever let in."""
        from flwr.proto.control_pb2 import ListNodesRequest  # noqa: PLC0415

        listed = self._ask("list", self._client.ListNodes, ListNodesRequest()).nodes_info
        with _told("list", self._address):
            return [
                Node(int(each.node_id), each.status, _time(each.last_activated_at), _time(each.last_deactivated_at))
                for each in listed
            ]

    def begin(self, content: bytes, sha256: str, config: Mapping[str, str]) -> int:
        """Begin a run of an app, by its bundle and run config; returns Flower's id of the run."""
        from flwr.common.serde import fab_to_proto, user_config_to_proto  # noqa: PLC0415
        from flwr.proto.control_pb2 import StartRunRequest  # noqa: PLC0415
        from flwr.supercore.fab import Fab  # noqa: PLC0415

        request = StartRunRequest(
            fab=fab_to_proto(Fab(sha256, content, {})), override_config=user_config_to_proto(dict(config))
        )
        said = self._ask("run", self._client.StartRun, request)
        if not said.HasField("run_id"):
            raise FederationError("Flower began no run", where=self._address)
        return int(said.run_id)

    def run(self, number: int) -> RunState:
        """What became of a run."""
        from flwr.proto.control_pb2 import ListRunsRequest  # noqa: PLC0415

        found = self._ask("list", self._client.ListRuns, ListRunsRequest(run_id=number)).run_dict
        if number not in found:
            raise FederationError(f"Flower knows no run {number}", where=self._address)
        state = found[number].status
        return RunState(":".join(filter(None, (state.status, state.sub_status))), state.details)

    def stop(self, number: int) -> None:
        """End a run."""
        from flwr.proto.control_pb2 import StopRunRequest  # noqa: PLC0415

        if not self._ask("stop", self._client.StopRun, StopRunRequest(run_id=number)).success:
            raise FederationError(f"Flower did not stop run {number}", where=self._address)

    def _ask(self, what: str, method: Callable[[Any], Any], request: Any) -> Any:
        with _told(what, self._address):
            return method(request)


class _Shown:
    """The secret, as Flower's command shows it."""

    def __init__(self, secret: str) -> None:
        self._value = f"Bearer {secret}"

    def intercept(self, context: ProtobufRequestContext, call_next: Callable[..., httpx.Response]) -> httpx.Response:
        context.request.headers["Authorization"] = self._value
        return call_next(context)


@contextmanager
def _told(what: str, address: str) -> Iterator[None]:
    """Say in our words what Flower refuses."""
    import httpx  # noqa: PLC0415

    try:
        yield
    except httpx.HTTPStatusError as error:
        raise FederationError(f"'{what}' failed: {_reason(error.response)}", where=address) from None
    except httpx.TimeoutException:
        raise FederationError(f"'{what}' took more than {_TIMEOUT_S:g} s", where=address) from None
    except (httpx.HTTPError, ValueError) as error:
        raise FederationError(f"'{what}' failed: {type(error).__name__}", where=address) from None


def _reason(response: httpx.Response) -> str:
    """What an answer says, as Flower's command reads it."""
    from flwr.supercore.error import FlowerError  # noqa: PLC0415

    found = _read(response.text)
    said = None if found is None else FlowerError.from_json(response.text)
    if said is not None:
        text = f"{said.message} {said.public_details or ''}"
    else:
        text = str(found["detail"]) if found is not None and "detail" in found else f"status {response.status_code}"
    return " ".join(text.split())[:_LONGEST_REASON]


def _read(text: str) -> dict[str, Any] | None:
    try:
        found = parse_json(text, where="answer")
    except MedVeilError:
        return None
    return found if isinstance(found, dict) else None


def _secret(home: Path, address: str) -> str | None:
    from flwr.cli.constant import ACCESS_TOKEN_STORE_KEY  # noqa: PLC0415

    path = home / CREDENTIALS
    if not path.exists():
        return None
    found = parse_yaml(read_bytes(path, most=_LONGEST_FILE).decode(errors="replace"), where=path)
    value = found.get(ACCESS_TOKEN_STORE_KEY % address) if isinstance(found, dict) else None
    try:
        return None if value is None else base64.b64decode(str(value), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _trusted(authority: Path | None) -> ssl.SSLContext | bool:
    if authority is None:
        return False
    try:
        return ssl.create_default_context(cafile=str(authority))
    except (OSError, ssl.SSLError) as error:
        raise FederationError(f"is no certificate to trust: {type(error).__name__}", where=authority) from None


def _time(text: str) -> str:
    """A moment of Flower's as we keep ours; Flower's own are UTC, and do not always say so."""
    if not text:
        return ""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")
