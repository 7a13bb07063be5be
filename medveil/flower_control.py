"""The inner door of Flower's SuperLink: its own commands, and the processes of its runs. Private interfaces of Flower.

Flower serves both on one port of the machine and asks nobody who they are, so that any account of the machine could
submit an app, which then runs as the server's account, or take the server's work. Here a command shows a secret that
only the server's account can read, where Flower's own ``flwr`` looks for one; a SuperExec signs with another; and what
is served of all that Flower serves is what a consortium needs, and of all apps the installed MedVeil.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from medveil.doors import CONTROL, RUNTIME, SMALL, Caller, RequestError, Scope, header
from medveil.fab import hash_of, installed_fab
from medveil.files import write_bytes, write_text
from medveil.flower_answers import http_error
from medveil.flower_door import check_content

CREDENTIALS = "credentials.yaml"
"""In Flower's home: what ``flwr`` shows a SuperLink that asks for a login."""
LARGEST_APP = 12 * 2**20
"""Bytes of a request that submits an app: Flower takes apps of 10 MiB."""
LARGEST_RUN = 16 * 2**20
"""Bytes of a request of a run's process: Flower cuts tensors into pieces of 5 MiB."""
CONTROL_ASKED = frozenset(
    {"start-run", "stop-run", "list-runs", "stream-logs", "register-node", "unregister-node", "list-nodes"}
)
ACQUIRE, ACQUIRE_METHOD = "acquire-task", "/flwr.proto.Runtime/AcquireTask"
"""Asking for work, as a path and as what a SuperExec signs."""
RUNTIME_ASKED = frozenset(
    {
        *(ACQUIRE, "send-task-heartbeat", "pull-task-input", "push-task-output", "push-object", "pull-object"),
        *("confirm-message-received", "push-logs", "push-messages", "pull-messages", "get-nodes"),
    }
)
_SECRET_BYTES = 32
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def draw_secrets(home: Path, address: str, superexec: Path) -> tuple[str, bytes]:
    """Draw what commands and the SuperExec show a server, anew for every start, and lay it where they look for it.

    Parameters
    ----------
    home
        Flower's home.
    address
        The inner door, as Flower's configuration names it.
    superexec
        The file for the SuperExec.

    Returns
    -------
    str, bytes
        The commands' secret and the SuperExec's.
    """
    from flwr.cli.constant import (  # noqa: PLC0415
        ACCESS_TOKEN_STORE_KEY,
        AUTHN_TYPE_STORE_KEY,
        REFRESH_TOKEN_STORE_KEY,
    )
    from flwr.common.constant import AuthnType  # noqa: PLC0415

    secret, other = secrets.token_hex(_SECRET_BYTES), secrets.token_bytes(_SECRET_BYTES)
    said = {AUTHN_TYPE_STORE_KEY: AuthnType.OIDC, ACCESS_TOKEN_STORE_KEY: secret, REFRESH_TOKEN_STORE_KEY: secret}
    encoded = {key % address: base64.b64encode(value.encode()).decode() for key, value in said.items()}
    write_text(home / CREDENTIALS, yaml.safe_dump(encoded), mode=0o600)
    write_bytes(superexec, other, mode=0o600)
    return secret, other


class InnerGate:
    """Who asks at the inner door.

    Parameters
    ----------
    secret
        What a command shows.
    state
        Returns Flower's LinkState.
    superexec
        What a SuperExec signs with; None where Flower was given none, and lets anyone take work.
    """

    def __init__(self, secret: str, state: Callable[[], Any], superexec: bytes | None) -> None:
        self._secret, self._state, self._superexec = secret, state, superexec

    async def __call__(self, scope: Scope) -> Caller:
        """Who sent a request, if it may pass."""
        method, path = scope["method"], scope["path"]
        if (method, path) == ("GET", "/health"):
            return Caller("somebody on this machine", largest=0)
        for where, asked, judge in ((CONTROL, CONTROL_ASKED, self._command), (RUNTIME, RUNTIME_ASKED, self._run)):
            if method == "POST" and path.startswith(where) and path.removeprefix(where) in asked:
                check_content(scope)
                return await judge(scope, path.removeprefix(where))
        raise RequestError(404, "asked at the inner door for what is not served")

    async def _command(self, scope: Scope, asked: str) -> Caller:
        shown = (header(scope, "authorization") or "").removeprefix("Bearer ")
        if not hmac.compare_digest(shown, self._secret):
            raise RequestError(401, "asked at the inner door without the server's secret")
        return Caller("a command of this server", largest=LARGEST_APP if asked == "start-run" else SMALL)

    async def _run(self, scope: Scope, asked: str) -> Caller:
        if asked == ACQUIRE:
            # Strangers are no caller of this name: what they hold open, the SuperExec need not wait for.
            if self._superexec is not None and not is_superexec(scope, self._superexec):
                raise RequestError(401, "asked at the inner door for work without the secret of who does it")
            return Caller("a SuperExec")
        from flwr.supercore.constant import TASK_TOKEN_HEADER  # noqa: PLC0415
        from starlette.concurrency import run_in_threadpool  # noqa: PLC0415

        token = header(scope, TASK_TOKEN_HEADER)
        task = await run_in_threadpool(self._state().get_task_by_token, token) if token else None
        if task is None:
            raise RequestError(401, "asked at the inner door for the work of a run that is not its own")
        return Caller(f"run {task.run_id}", largest=LARGEST_RUN)


def is_superexec(scope: Scope, secret: bytes) -> bool:
    """Whether a request is signed with a SuperExec's secret, from its head alone.

    What is signed is the digest of the body; Flower compares the body with it, and takes no signature twice.
    """
    from flwr.supercore import constant  # noqa: PLC0415
    from flwr.supercore.auth import compute_superexec_signature, derive_auth_secret  # noqa: PLC0415
    from flwr.supercore.date import now  # noqa: PLC0415

    timestamp = header(scope, constant.SUPEREXEC_AUTH_TIMESTAMP_HEADER) or ""
    if not _TIMESTAMP.fullmatch(timestamp):
        return False
    age = now().timestamp() - int(timestamp)
    signature = compute_superexec_signature(
        auth_secret=derive_auth_secret(secret),
        method=ACQUIRE_METHOD,
        timestamp=int(timestamp),
        nonce=header(scope, constant.SUPEREXEC_AUTH_NONCE_HEADER) or "",
        body_sha256=header(scope, constant.SUPEREXEC_AUTH_BODY_SHA256_HEADER) or "",
    )
    given = header(scope, constant.SUPEREXEC_AUTH_SIGNATURE_HEADER) or ""
    fresh = constant.MIN_TIMESTAMP_DIFF_SECONDS < age < constant.MAX_TIMESTAMP_DIFF_SECONDS
    return hmac.compare_digest(given, signature) and fresh


class Control:
    """Flower's handlers of its commands, but for one: only the installed MedVeil is run.

    Parameters
    ----------
    handlers
        Flower's module `control_handlers`.
    wanted
        Returns the hash of the installed MedVeil.
    """

    def __init__(self, handlers: Any, wanted: Callable[[], str] = lambda: hash_of(installed_fab())) -> None:
        self._handlers, self._wanted = handlers, wanted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handlers, name)

    def start_run(self, request: Any, *arguments: Any, **settings: Any) -> Any:
        """Begin a run of the installed MedVeil; 403 for any other app."""
        given = hashlib.sha256(request.fab.content).hexdigest()
        extras = (request.app_spec, request.connector_ids, request.connector_refs)
        if any(extras) or given != self._wanted():
            raise http_error(403, "this server runs the installed MedVeil, and no other app")
        return self._handlers.start_run(request, *arguments, **settings)


def guard_control() -> None:
    """Put the rule before the handlers of Flower's control router."""
    router = importlib.import_module("flwr.superlink.routers.control.router")
    handlers = importlib.import_module("flwr.superlink.servicer.control.control_handlers")
    router.control_handlers = Control(handlers)  # type: ignore[attr-defined]
