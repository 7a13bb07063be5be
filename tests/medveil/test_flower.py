"""What MedVeil needs of Flower beyond its documented doors. When one of these fails, read what it says it needs."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message, MessageType, RecordDict
from flwr.serverapp.exception import InconsistentMessageReplies

from medveil.door_replies import LARGEST_OBJECT
from medveil.doors import FLEET
from medveil.environment import PIECES, TASK_POLL
from medveil.errors import FederationError
from medveil.flower import (
    AppExitException,
    ErrorCode,
    NodeInfo,
    Tasks,
    be_task,
    forgetting_ended_runs,
    make_run,
    noting_answers,
    pull_soon,
    stamp,
)
from medveil.pace import LastAnswer, ShortSleep
from medveil.times import SKEW_S

ROOT = Path(__file__).parents[2]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}
PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server", "simulations")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_files_of_one_name_alone_go_behind_flowers_doors() -> None:
    behind = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for module in imported(path)
        if module.split(".")[0] == "flwr" and module not in PUBLIC
    }
    parts = ("", "_absent", "_answers", "_build", "_door", "_control", "_commands", "_wipe", "_superlink", "_replies")
    assert behind == {f"medveil/flower{part}.py" for part in parts}


def test_flower_reads_how_large_the_pieces_of_tensors_are() -> None:
    """Where it reads that no more, a slow line gets pieces that never pass in time (`medveil.environment.PIECES`)."""
    ((name, size),) = PIECES.items()
    source = inspect.getsource(importlib.import_module("flwr.common.constant"))
    read = [
        ast.literal_eval(node.args[0])
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.getenv"
    ]
    assert name in read, "Flower reads another variable for the size of its pieces"
    assert 0 < int(size) < LARGEST_OBJECT


def test_a_task_identity_settles_whose_message_it_is() -> None:
    be_task(run_id=7, node_id=1)
    message = Message(RecordDict(), message_type=MessageType.QUERY, dst_node_id=2, group_id="1")
    assert message.metadata.run_id == 7, "TaskIdentity.run_id no longer settles a message's run"
    ids = {stamp(message, sender=1) for _ in range(3)}
    assert len(ids) == 3
    assert message.metadata.message_id in ids, "Metadata no longer keeps its id in __dict__['_message_id']"
    assert message.metadata.src_node_id == 1, "Metadata no longer keeps its sender in __dict__['_src_node_id']"


def test_a_run_can_be_described_without_a_superlink() -> None:
    assert make_run(7).run_id == 7, "flwr.supercore.run.Run.create_empty no longer takes the run id"


def test_nodes_have_names() -> None:
    assert NodeInfo(node_id=3, name="mercy").name == "mercy", "NodeInfo lost node_id or name"


def test_an_apps_exception_has_its_code() -> None:
    assert ErrorCode.CLIENT_APP_RAISED_EXCEPTION == 2, "Flower renumbered its error codes"
    assert Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "why").reason == "why"


def test_a_strategy_that_gives_up_raises_what_can_be_caught() -> None:
    assert issubclass(InconsistentMessageReplies, AppExitException), "strategies no longer fail by AppExitException"
    with pytest.raises(AppExitException):
        raise InconsistentMessageReplies("replies differ")


# -- a server's process ------------------------------------------------------------------------------------------------


def module(name: str) -> Any:
    return importlib.import_module(name)


def calls(source: str, owner: str) -> set[str]:
    """What a module asks of a name it imported, for example of ``time``."""
    return {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == owner
    }


def test_a_superlink_serves_by_one_call_of_uvicorn_that_can_be_taken_over() -> None:
    command = module("flwr.superlink.cli.flower_superlink")
    source = inspect.getsource(command)
    assert calls(source, "uvicorn") == {"run"}, "flower_superlink asks more of uvicorn than run()"
    tree = ast.parse(inspect.getsource(command._run_superlink_http_api))
    asked = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and ast.unparse(each.func) == "uvicorn.run"]
    given = {keyword.arg for keyword in asked[0].keywords}
    assert len(asked) == 1
    assert given >= {"app", "host", "port", "access_log", "ssl_keyfile", "ssl_certfile"}, "uvicorn.run is called anew"
    assert callable(command.flower_superlink)


def test_all_of_the_fleets_interface_lies_below_one_path_and_nothing_else_does() -> None:
    fleet = module("flwr.superlink.routers.fleet.router").router
    control = module("flwr.superlink.routers.control").router
    assert {route.path.startswith(FLEET) for route in fleet.routes} == {True}
    assert {route.path.startswith(FLEET) for route in control.routes} == {False}
    client = inspect.getsource(module("flwr.supernode.fleet_http_client"))
    assert client.count('path="/v1/') == client.count(f'path="{FLEET}'), "a SuperNode asks for more than the fleet"


def test_the_poll_of_a_superexec_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    interval = module("flwr.supercore.superexec.run_superexec")._get_task_poll_interval
    assert interval() == 1.0
    monkeypatch.setenv(TASK_POLL, "0.2")
    assert interval() == 0.2


def test_clocks_may_differ_by_so_much() -> None:
    assert module("flwr.common.constant").TIMESTAMP_TOLERANCE == SKEW_S


# -- a node's process --------------------------------------------------------------------------------------------------


def test_a_supernodes_loop_asks_time_for_sleep_alone() -> None:
    source = inspect.getsource(module("flwr.supernode.start_client_internal"))
    assert calls(source, "time") == {"sleep"}, "another time is needed where medveil.flower puts its own"
    assert "time.sleep(3)" in source, "the sleep of an idle SuperNode changed"
    assert "time.sleep(0.5)" in source, "the sleep of a SuperNode that waits for a reply changed"


def test_short_sleeps_end_when_there_is_no_work() -> None:
    slept: list[float] = []
    sleep = ShortSleep(0.25, sleep=slept.append)
    for _ in range(480):
        sleep(3)
    assert set(slept) == {0.25}, "not eager while there may be work"
    slept.clear()
    sleep(3)
    assert slept == [3], "eager without end"
    sleep(0.5)
    sleep(3)
    assert slept == [3, 0.25, 0.25], "not eager again after work"


def test_a_server_that_is_slow_to_answer_is_asked_less_often() -> None:
    now, slept = [0.0], []

    def later(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    sleep = ShortSleep(0.25, sleep=later, clock=lambda: now[0])
    for took, wanted in ((0.01, 0.25), (9.0, 0.25), (0.1, 0.25), (0.1, 1.0), (0.4, 1.0), (2.0, 1.0), (2.0, 3.0)):
        now[0] += took
        sleep(3)
        assert slept.pop() == pytest.approx(wanted), f"after a look that took {took} s"
    now[0] += 2.0
    sleep(0.5)
    assert slept == [0.25], "waiting for the worker asks nothing of the server"


def test_all_that_a_supernode_asks_goes_through_one_function_of_its_client() -> None:
    client = module("flwr.supernode.fleet_http_client").FleetHttpClient
    assert module("flwr.supernode.fleet_http_connection").FleetHttpClient is client
    own = {name: each for name, each in vars(client).items() if inspect.isfunction(each)}
    assert {"PullMessages", "SendNodeHeartbeat", "PushObject"} <= set(own)
    assert all("return self._unary_unary(" in inspect.getsource(each) for each in own.values())
    assert set(inspect.signature(client._unary_unary).parameters) >= {"path", "request", "timeout"}


def test_a_supernode_tries_for_ever_and_its_heartbeats_are_less_than_half_a_minute_apart() -> None:
    invoker = module("flwr.supercore.retry").make_simple_http_retry_invoker()
    assert (invoker.max_tries, invoker.max_time) == (None, None), "a node whose server is away may end by itself now"
    constant = module("flwr.common.constant")
    longest = constant.HEARTBEAT_BASE_MULTIPLIER + max(constant.HEARTBEAT_RANDOM_RANGE)
    assert (constant.HEARTBEAT_DEFAULT_INTERVAL - constant.HEARTBEAT_CALL_TIMEOUT) * longest < 25


def test_only_calls_that_succeed_are_noted_as_answers() -> None:
    class Client:
        away = False

        def _unary_unary(self, **call: Any) -> Any:
            if self.away:
                raise ConnectionError
            return call

    noted: list[int] = []
    client = noting_answers(Client, lambda: noted.append(1))()
    assert client._unary_unary(path="/v1/fleet/x") == {"path": "/v1/fleet/x"}
    client.away = True
    with pytest.raises(ConnectionError):
        client._unary_unary(path="/v1/fleet/x")
    assert noted == [1]


def test_the_last_answer_is_the_time_of_a_file_which_is_touched_now_and_then(tmp_path: Path) -> None:
    path, now = tmp_path / "answered", [0.0]
    note = LastAnswer(path, clock=lambda: now[0])
    note()
    os.utime(path, (1, 1))
    now[0] = 1.9
    note()
    assert path.stat().st_mtime == 1, "touched for every answer"
    now[0] = 2.0
    note()
    assert path.stat().st_mtime > 1
    assert path.stat().st_mode & 0o077 == 0
    LastAnswer(tmp_path / "none" / "answered")()


# -- a worker's process ------------------------------------------------------------------------------------------------


def test_the_waits_for_tensors_are_defaults_of_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = module("flwr.supercore.inflatable.inflatable_utils")
    defaults = utils.pull_objects.__kwdefaults__
    assert (defaults["initial_backoff"], defaults["backoff_cap"]) in {(1, 10), (0.05, 1.0)}
    for name in ("flwr.supernode.start_client_internal", "flwr.superlink.grid.http_grid"):
        assert module(name).pull_objects is utils.pull_objects, f"{name} pulls tensors in another way"
    monkeypatch.setattr(utils.pull_objects, "__kwdefaults__", dict(defaults))
    pull_soon()
    assert utils.pull_objects.__kwdefaults__["initial_backoff"] == 0.05


def test_a_message_of_an_ended_run_is_forgotten_by_flowers_own_lines() -> None:
    loop = module("flwr.supernode.start_client_internal")
    source = inspect.getsource(loop._pull_and_store_message)
    # What Flower removes a message by is an Exception, and what it says that a run ended by is none.
    assert "except Exception as err" in source
    assert not issubclass(loop.RunNotRunningException, Exception)

    def ended(*arguments: object, **settings: object) -> None:
        raise loop.RunNotRunningException

    with pytest.raises(FederationError, match="the run ended"):
        forgetting_ended_runs(ended)(["an id"], pull_object_fn=None)
    assert forgetting_ended_runs(lambda ids: ids)(["an id"]) == ["an id"]


def test_a_clientapp_takes_its_message_and_gives_its_reply_as_ours_does() -> None:
    source = inspect.getsource(module("flwr.supernode.runtime.run_clientapp"))
    for name in ("pull_task_input", "push_message", "push_task_output"):
        assert f"def {name}(" in source, f"run_clientapp lost {name}"
    superexec = module("flwr.supercore.superexec.run_superexec")
    assert frozenset({"/flwr.proto.Runtime/AcquireTask"}) == superexec._SUPEREXEC_AUTH_METHODS


def test_a_supernode_that_is_away_is_an_error_of_ours() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(FederationError, match=r"the SuperNode does not answer.*ConnectError"):
        Tasks(address, b"secret", patience=0.001).take()
