"""Who knocks at the doors of a SuperLink, judged by the head of a request. Private interfaces of Flower.

Flower reads a whole request before it asks who sent it, and asks nobody at its control side. These gates ask first.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Callable
from typing import Any

from medveil.door_sessions import OTHERS_HEADER, SECOND_SESSION, SESSION_HEADER, Sessions
from medveil.doors import FLEET, SMALL, Caller, Noted, RequestError, Scope, header
from medveil.flower_fleet import Fleet

ACTIVATE, REGISTER = "activate-node", "register-node"
FLEET_ASKED = frozenset(
    {
        *(ACTIVATE, "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages", "get-run"),
        *("get-fab", "push-object", "pull-object", "confirm-message-received"),
    }
)
"""What a SuperNode with a key asks for. Registering is the coordinator's, through the control side."""
GREETING = ("GET", "/")
"""What `medveil-site check` asks to see a certificate and a clock; the answer tells nothing else."""
UNREGISTERED, REFUSED = "FLEET_SUPERNODE_REGISTRATION_DISABLED", "FLEET_NODE_ACTIVATION_FAILED"
"""Flower's names of what it answers a node without a key, and one whose key it does not take: both say so then."""
_KNOWN_S = 30.0
_SESSION = re.compile(r"[0-9a-f]{64}")


class FleetGate:
    """Who asks at the sites' door: judged by the head of a request alone.

    Parameters
    ----------
    state
        Returns Flower's LinkState.
    fleet
        What was handed to whom.
    sessions
        Who is in session.
    note
        Hears of a second session.
    """

    def __init__(self, state: Callable[[], Any], fleet: Fleet, sessions: Sessions, note: Noted) -> None:
        self._state, self._fleet, self._sessions, self._note = state, fleet, sessions, note
        self._names: dict[bytes, tuple[float, int, str]] = {}

    async def __call__(self, scope: Scope) -> Caller:
        """Who sent a request, if it may pass."""
        asked = scope["path"].removeprefix(FLEET)
        if (scope["method"], scope["path"]) == GREETING:
            raise RequestError(404, "")
        if asked == REGISTER:
            raise RequestError(412, "tried to register a node", body=flowers_answer(UNREGISTERED))
        if scope["method"] != "POST" or scope["path"] != FLEET + asked or asked not in FLEET_ASKED:
            raise RequestError(404, "asked for what is not served to sites")
        check_content(scope)
        node, name = await self._known(scope, activates=asked == ACTIVATE)
        session = header(scope, SESSION_HEADER) or ""
        if session and not _SESSION.fullmatch(session):
            raise RequestError(400, "said a session that is none", name)
        if asked != ACTIVATE:
            self._check_session(node, name, session)
        if self._fleet.is_impatient(node, activates=asked == ACTIVATE):
            raise RequestError(429, "was refused so often that it has to wait", name)
        others = self._sessions.others(node)
        said = ((OTHERS_HEADER.encode(), str(others).encode()),) if others and asked != ACTIVATE else ()
        return Caller(name, node, session, self._fleet.largest(node, asked) or SMALL, said)

    def _check_session(self, node: int, name: str, session: str) -> None:
        counts, certain = self._sessions.heard(node, session)
        if not counts:
            raise RequestError(409, SECOND_SESSION, name)
        if certain:
            self._note(name, SECOND_SESSION)

    async def _known(self, scope: Scope, *, activates: bool) -> tuple[int, str]:
        """The node whose key signed a request, and what the coordinator calls it."""
        from starlette.concurrency import run_in_threadpool  # noqa: PLC0415

        try:
            key = base64.b64decode(header(scope, _key_header()) or "", validate=True)
        except binascii.Error:
            key = b""
        # Only the database keeps others waiting: what is remembered needs no thread.
        known = self._remembered(key) or (await run_in_threadpool(self._named, key) if key else None)
        if known is None and activates:
            # A node that hears 401 ends without a word; this it says.
            raise RequestError(412, "showed no key that is admitted", body=flowers_answer(REFUSED))
        if known is None or not is_signed(scope, key):
            raise RequestError(401, "showed no key that is admitted")
        return known

    def _remembered(self, key: bytes) -> tuple[int, str] | None:
        until, node, name = self._names.get(key, (0.0, 0, ""))
        return (node, name) if time.monotonic() < until else None

    def _named(self, key: bytes) -> tuple[int, str] | None:
        state = self._state()
        found = state.get_node_id_by_public_key(key)
        if found is None:
            self._names.pop(key, None)
            return None
        name = state.get_node_info(node_ids=[found])[0].name or f"node {found}"
        # Flower looks the key up again for every request: this only saves asking for the name.
        self._names[key] = (time.monotonic() + _KNOWN_S, found, name)
        return found, name


def is_signed(scope: Scope, key: bytes) -> bool:
    """Whether a request is signed by a key, as Flower judges it, from its head alone."""
    from fastapi import HTTPException, Request  # noqa: PLC0415
    from flwr.proto.fleet_pb2 import ActivateNodeRequest  # noqa: PLC0415
    from flwr.superlink.routers.fleet.node_auth import authenticate_node  # noqa: PLC0415

    head = {**scope, "state": {"protobuf_request": ActivateNodeRequest(public_key=key)}}
    try:
        authenticate_node(Request(head))
    except HTTPException:
        return False
    return True


def flowers_answer(named: str) -> bytes:
    """What Flower answers for one of its errors."""
    from flwr.supercore.error import ApiErrorCode, FlowerError  # noqa: PLC0415
    from flwr.supercore.error.catalog import API_ERROR_MAP  # noqa: PLC0415

    code = ApiErrorCode[named]
    return json.dumps(FlowerError(code, "").to_json(API_ERROR_MAP[code].public_message)).encode()


def check_content(scope: Scope) -> None:
    """Refuse another kind of content than Flower's."""
    from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE  # noqa: PLC0415

    if header(scope, "content-type") != PROTOBUF_MEDIA_TYPE:
        raise RequestError(415, "sent another kind of content")


def _key_header() -> str:
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER  # noqa: PLC0415

    return FLEET_HTTP_PUBLIC_KEY_HEADER
