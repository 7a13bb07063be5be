"""How our doors come before Flower's SuperLink. When one of these fails, read `medveil.flower_superlink`."""

from __future__ import annotations

import inspect
import os
import re
from importlib import import_module
from pathlib import Path

import pytest

from medveil import flower_superlink
from medveil.audit import AuditLog
from medveil.door_notes import DoorNotes, refusals


def test_the_superexec_is_started_with_its_secret() -> None:
    """Flower ignores the secret where it starts the SuperExec itself, and takes any caller for it."""
    command = import_module("flwr.superlink.cli.flower_superlink")
    source = inspect.getsource(command.SuperLinkLifespan._start_superexec_if_needed)
    assert source.count("_get_superexec_command(") == 1, "Flower starts its SuperExec otherwise"
    parser = import_module("flwr.supercore.cli.flower_superexec")
    shown = flower_superlink._showing(command._get_superexec_command, Path("/secret"))(
        runtime_address="127.0.0.1:1",
        runtime_certificates=None,
        runtime_root_certificates_path=None,
        parent_pid=1,
        runtime_dependency_install=False,
    )
    assert shown[-2:] == ["--superexec-auth-secret-file", "/secret"]
    assert shown[1:3] == ["-Pm", "medveil.flower_superexec"]
    given = parser._parse_args().parse_args(shown[3:])
    assert given.superexec_auth_secret_file == "/secret", "flower-superexec takes no secret"


def test_nothing_is_served_beside_the_doors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower begins other servers, without our rules, where these variables are set."""
    command = import_module("flwr.superlink.cli.flower_superlink")
    source = inspect.getsource(command.SuperLinkLifespan.startup)
    names = re.findall(r"os.getenv\((\w+)\)", source)
    assert len(names) == 2, "Flower asks for another variable"
    variables = [getattr(command, name) for name in names]
    for each in variables:
        monkeypatch.setenv(each, "1")
    flower_superlink.shut_other_doors()
    assert not any(each in os.environ for each in variables)


def test_flowers_app_asks_for_what_we_put_there() -> None:
    main = inspect.getsource(import_module("flwr.superlink.main"))
    for name in ("linkstate_factory", "runtime_handlers", "superexec_auth_secret"):
        assert f"fastapi_app.state.{name} = " in main, name
    runtime = inspect.getsource(import_module("flwr.supercore.routers.runtime.router"))
    assert "handlers.confirm_message_received(request, state, task)" in runtime
    assert "handlers.push_task_output(request, state, task)" in runtime
    assert "handlers.pull_messages(request, state, task)" in runtime


def test_notes_are_bounded_whoever_knocks_and_however_often(tmp_path: Path) -> None:
    notes, said = _notes(tmp_path)
    for number in range(2000):
        notes(f"site-{number}", "asked for what is not served")
    for _ in range(5000):
        notes("mercy", "pushed an instruction")
    notes.flush()
    rows = refusals(tmp_path / "notes.json")
    assert len(rows) <= 300
    assert len(said) <= 300
    assert sum(row["count"] for row in rows) == 7000
    assert sum(row["count"] for row in rows if row["site"] in {"mercy", "many others"}) >= 5000


def test_what_was_refused_is_said_at_once_and_then_more_and_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes_module = import_module("medveil.door_notes")
    now = [0.0]
    monkeypatch.setattr(notes_module.time, "monotonic", lambda: now[0])
    notes, said = _notes(tmp_path)
    for second in range(4000):
        now[0] = float(second)
        notes("mercy", "pushed an instruction")
    assert said[0] == "refused: mercy pushed an instruction"
    assert said[1] == "refused: mercy pushed an instruction (5 times, 6 in all)"
    assert 8 <= len(said) <= 12


def _notes(folder: Path) -> tuple[DoorNotes, list[str]]:
    said: list[str] = []
    return DoorNotes(folder / "notes.json", AuditLog(folder / "audit.jsonl", "server veil"), said.append), said
