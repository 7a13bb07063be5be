"""The parts of Flower that its documentation does not promise: the one file that touches them.

Flower's public doors are ``flwr.app``, ``flwr.clientapp``, ``flwr.serverapp``, its strategies and its commands.
What lies behind them and MedVeil needs all the same stands here under names of our own; `tests/medveil/test_flower.py`
says which of it Flower moved. What only a server's, a node's or a worker's process needs is imported there.
"""

from __future__ import annotations

import importlib
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from flwr.app import Context, Message
from flwr.app.exception import AppExitException
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.run import InvalidRunStatusException, Run, RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity

from medveil.bounded import word
from medveil.errors import FederationError
from medveil.flower_session import in_session, keep_others
from medveil.folded import fold, unfold
from medveil.pace import LastAnswer, ShortSleep

__all__ = ["AppExitException", "ErrorCode", "NodeInfo", "Run", "be_task", "make_run", "stamp"]

TESTED = ("1.41.", "1.42.")
"""The versions of Flower this file was tried with begin like one of these."""
FLOWERS_ENDS = (Exception, RunNotRunningException, InvalidRunStatusException)
"""Every error of Flower's: two of them are told by a BaseException, which would end a process that serves on."""
_TRIES = 5
_PULL_S, _PULL_MOST_S = 0.05, 1.0


def be_task(*, run_id: int, node_id: int, task_id: int = 1) -> None:
    """Take the identity that Flower's runtime gives a process; without one no `Message` can be made."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, task_id


def make_run(run_id: int) -> Run:
    """Describe a run that no SuperLink knows."""
    return Run.create_empty(run_id)


def stamp(message: Message, *, sender: int) -> str:
    """Give a message what the transport gives it: an id of its own, which is returned, and its sender."""
    message_id = str(uuid.uuid4())
    message.metadata.__dict__["_message_id"] = message_id
    message.metadata.__dict__["_src_node_id"] = sender
    return message_id


def pull_soon() -> None:
    """Look often for tensors that are still on their way, in this process.

    A message is seen before its tensors have all been stored. Flower then waits 1 s, 2 s, 4 s and so on for each of
    them, which takes longer than sending a small model does.
    """
    from flwr.supercore.inflatable.inflatable_utils import pull_objects  # noqa: PLC0415

    cast("Any", pull_objects).__kwdefaults__.update(initial_backoff=_PULL_S, backoff_cap=_PULL_MOST_S)


# -- a node's process --------------------------------------------------------------------------------------------------


def run_supernode(
    arguments: Sequence[str], *, poll: float, answered: Path | None = None, others: Path | None = None
) -> None:
    """Be a ``flower-supernode`` that looks for work every `poll` seconds while there is some.

    Parameters
    ----------
    arguments
        Of ``flower-supernode``.
    poll
        Seconds between two looks.
    answered
        A file whose time is when the server answered last.
    others
        A file that tells of other sessions with this node's key.
    """
    from flwr.supernode.cli.flower_supernode import flower_supernode  # noqa: PLC0415

    loop = cast("Any", importlib.import_module("flwr.supernode.start_client_internal"))
    connection = cast("Any", importlib.import_module("flwr.supernode.fleet_http_connection"))
    if answered is not None:
        connection.FleetHttpClient = noting_answers(connection.FleetHttpClient, LastAnswer(answered))
    if others is not None:
        connection.FleetHttpClient = in_session(connection.FleetHttpClient, keep_others(others))
    loop.time = SimpleNamespace(sleep=ShortSleep(poll))
    pull_soon()
    loop.pull_objects = forgetting_ended_runs(loop.pull_objects)
    _put_door(arguments)
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()


def _put_door(arguments: Sequence[str]) -> None:
    # It stands on what this file is imported by.
    from medveil.flower_node_door import put_door  # noqa: PLC0415
    from medveil.flower_superlink import warn  # noqa: PLC0415

    put_door(int(arguments[list(arguments).index("--port") + 1]), warn)


def forgetting_ended_runs(pull: Callable[..., Any]) -> Callable[..., Any]:
    """Let a SuperNode forget a message whose run ended before its tensors had come.

    Flower 1.41 tells the end of a run by a BaseException, which passes by the very lines that remove such a message.
    Its task stays, and whoever takes it waits for the tensors for eight minutes.

    Parameters
    ----------
    pull
        Flower's `pull_objects`.
    """
    from flwr.supercore.run import RunNotRunningException  # noqa: PLC0415

    def pulled(*arguments: Any, **settings: Any) -> Any:
        try:
            return pull(*arguments, **settings)
        except RunNotRunningException as error:
            raise FederationError("the run ended before all of a message had come") from error

    return pulled


def noting_answers(client: Any, note: Callable[[], None]) -> Any:
    """Make a SuperNode's client that says when its server has answered.

    While its server is away Flower's node tries one call again without end, and its log goes on saying that it was let
    in. While it trains it asks for nothing; then its heartbeats are answered, every 23 s at the latest.

    Parameters
    ----------
    client
        Flower's `FleetHttpClient`.
    note
        Called after each call that succeeded.
    """

    class Noting(client):
        def _unary_unary(self, **call: Any) -> Any:
            response = super()._unary_unary(**call)
            note()
            return response

    return Noting


# -- a worker's process ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One message to a site, and the bundle of the app its server wants to run."""

    message: Message
    context: Context
    fab: bytes
    answer: Callable[[Message], None]
    """Sends the reply; FederationError where the SuperNode does not take it."""


class Tasks:
    """The work of a SuperNode in process isolation, taken as ``flower-superexec`` and ``flwr-clientapp`` take it.

    Parameters
    ----------
    address
        Host and port of the SuperNode's own interface.
    secret
        What the SuperNode was given as ``--superexec-auth-secret-file``: without it any user of the machine could take
        the work.
    patience
        Seconds before a broken call is tried again, doubled four times.
    """

    def __init__(self, address: str, secret: bytes, *, patience: float = 0.2) -> None:
        from flwr.supercore.interceptors import (  # noqa: PLC0415
            RuntimeVersionHttpInterceptor,
            SuperExecAuthHttpInterceptor,
        )

        pull_soon()
        self._address, self._patience = address, patience
        signing = SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods={"/flwr.proto.Runtime/AcquireTask"}
        )
        self._client = self._connect(RuntimeVersionHttpInterceptor(component_name="SuperExec"), signing)

    def take(self) -> Task | None:
        """Take the next message; None while there is none.

        Raises
        ------
        FederationError
            The SuperNode does not answer, or does not hand over what it offered.
        """
        from flwr.proto.runtime_pb2 import AcquireTaskRequest  # noqa: PLC0415
        from flwr.supercore.constant import TaskType  # noqa: PLC0415

        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        offered = self._asked(lambda: self._client.AcquireTask(request))
        if not (offered.HasField("task") and offered.token):
            return None
        taken: Task = self._asked(lambda: self._pulled(offered.token))
        return taken

    def _pulled(self, token: str) -> Task:
        from flwr.supercore.heartbeat import HeartbeatSender  # noqa: PLC0415
        from flwr.supercore.interceptors import (  # noqa: PLC0415
            RuntimeTokenHttpInterceptor,
            RuntimeVersionHttpInterceptor,
        )
        from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output  # noqa: PLC0415

        client = self._connect(
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), RuntimeTokenHttpInterceptor(token)
        )
        beats = HeartbeatSender(lambda: _beat(client))
        beats.start()

        def end() -> None:
            if beats.is_running:
                beats.stop()
            client.close()

        try:
            message, context, _, fab = pull_task_input(client)
        except BaseException:
            end()
            raise

        folded = unfold(message)

        def answer(reply: Message) -> None:
            from flwr.common.constant import SubStatus  # noqa: PLC0415

            try:
                if folded:
                    fold(reply)
                self._asked(lambda: push_message(client, reply, context))
                failed = reply.has_error()
                status, details = (SubStatus.FAILED, reply.error.reason) if failed else (SubStatus.COMPLETED, "")
                self._asked(lambda: push_task_output(client, context, status, details or ""))
            finally:
                end()

        return Task(message, context, fab.content, answer)

    def _connect(self, *interceptors: Any) -> Any:
        from flwr.supercore.runtime import RuntimeHttpClient  # noqa: PLC0415

        return RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=True,
            root_certificates=None,
            interceptors=list(interceptors),
            retry_invoker=cast("Any", _FewTries(self._patience)),
        )

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except FLOWERS_ENDS as error:
            # A server's bytes make Flower's decoding raise whatever they meet there.
            raise FederationError(
                f"the SuperNode does not answer as it should: {type(error).__name__}: {word(error, 200)}",
                where=self._address,
            ) from error


class _FewTries:
    """Tries a call again when the connection breaks, for some seconds.

    Flower's own retries go on without end, and interrupt the process where a task is no longer known: right for a
    process of one message, and not for a worker.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience

    def invoke(self, call: Callable[[], Any]) -> Any:
        import httpx  # noqa: PLC0415

        for attempt in range(1, _TRIES):
            try:
                return call()
            except httpx.TransportError:
                time.sleep(self._patience * 2**attempt)
        return call()


def _beat(client: Any) -> bool:
    """Tell the SuperNode that its task is alive; what goes wrong shows when the reply is sent."""
    import httpx  # noqa: PLC0415
    from flwr.proto.runtime_pb2 import SendTaskHeartbeatRequest  # noqa: PLC0415

    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.TransportError:
        return False
    except (httpx.HTTPStatusError, RuntimeError):
        return True
    return True
