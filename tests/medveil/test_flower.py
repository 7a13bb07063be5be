"""What MedVeil needs of Flower beyond its documented doors. When one of these fails, read what it says it needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.app import Error, Message, MessageType, RecordDict
from flwr.serverapp.exception import InconsistentMessageReplies

from medveil.flower import AppExitException, ErrorCode, NodeInfo, be_task, make_run, stamp

ROOT = Path(__file__).parents[2]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}
PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server", "simulations")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_one_file_alone_goes_behind_flowers_doors() -> None:
    behind = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for module in imported(path)
        if module.split(".")[0] == "flwr" and module not in PUBLIC
    }
    assert behind == {"medveil/flower.py"}


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
