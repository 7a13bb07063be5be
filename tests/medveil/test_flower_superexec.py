"""How a run's process is handed its token. When one of these fails, read `medveil.flower_superexec`."""

from __future__ import annotations

import inspect
import os
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medveil import flower_superexec

TOKEN = "5a" * 32
READER = """
import os
import sys
from pathlib import Path
from flwr.common.args import try_obtain_flwr_app_token
from flwr.superlink.cli.flwr_serverapp import _parse_args_run_flwr_serverapp

given = _parse_args_run_flwr_serverapp().parse_args()
seen = Path("/proc/self/cmdline").read_text()
own = os.environ["MEDVEIL_STARTED_BY"]
Path(sys.argv[0] + ".seen").write_text("\\n".join([try_obtain_flwr_app_token(given), own, seen]))
"""


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What a run's process makes of its start by Flower's SuperExec: the token it has, and what others see."""
    executor: Any = import_module("flwr.supercore.superexec.executor.subprocess_executor")
    types: Any = import_module("flwr.supercore.superexec.executor.types")
    monkeypatch.setattr(executor, "subprocess", executor.subprocess)
    started = []

    def start(arguments: list[str], **settings: Any) -> None:
        script = tmp_path / "app.py"
        script.write_text(READER)
        started.append(flower_superexec.start_unseen([sys.executable, str(script), *arguments[1:]], **settings))

    flower_superexec.hide_tokens()
    assert executor.subprocess.Popen is flower_superexec.start_unseen
    monkeypatch.setattr(executor, "subprocess", SimpleNamespace(Popen=start, DEVNULL=executor.subprocess.DEVNULL))
    task = import_module("flwr.supercore.constant").TaskType.SERVER_APP
    given = dict.fromkeys(types.ExecutionSpec.__dataclass_fields__)
    given |= {"task_type": task, "token": TOKEN, "runtime_api_address": "127.0.0.1:1", "suppress_output": False}
    given |= {"insecure": True, "runtime_dependency_install": False, "task_id": 1}
    executor.SubprocessExecutor().launch(types.ExecutionSpec(**given))
    assert started[0].wait(timeout=60) == 0
    return (tmp_path / "app.py.seen").read_text().split("\n", 2)


def test_a_runs_process_has_its_token_and_nobody_sees_it(launched: list[str]) -> None:
    token, started_by, seen = launched
    assert token == TOKEN
    assert started_by == str(os.getpid())
    assert TOKEN not in seen
    assert "127.0.0.1:1" in seen


def test_what_flower_starts_without_a_token_is_not_started() -> None:
    with pytest.raises(ValueError, match="--token"):
        flower_superexec.start_unseen(["flwr-serverapp"])


def test_it_looks_less_often_while_a_run_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(flower_superexec, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(flower_superexec, "_started", [])
    flower_superexec.rest(0.2)
    quits = [sys.executable, "-c", ""]
    process = flower_superexec.start_unseen([*quits, "--token", TOKEN])
    process.wait(timeout=60)
    monkeypatch.setattr(process, "poll", lambda: None)
    flower_superexec.rest(0.2)
    flower_superexec.rest(3.0)
    monkeypatch.undo()
    assert slept == [0.2, flower_superexec.BUSY_S, 3.0]


def test_it_looks_at_once_again_when_the_run_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(flower_superexec, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(flower_superexec, "_started", [])
    flower_superexec.start_unseen([sys.executable, "-c", "", "--token", TOKEN]).wait(timeout=60)
    flower_superexec.rest(0.2)
    assert slept == [0.2]


def test_flowers_loop_has_its_rest_from_the_module_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loop: Any = import_module("flwr.supercore.superexec.run_superexec")
    assert inspect.getsource(loop).count("time.sleep(task_poll_interval)") == 1
    monkeypatch.setattr(loop, "time", loop.time)
    flower_superexec.look_seldom()
    assert loop.time.sleep is flower_superexec.rest
