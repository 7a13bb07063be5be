"""A server that is drained: the round in flight is finished and kept, the rest is resumed, and nothing new begins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fl_server.commands import serve
from fl_server.config import ServerConfig, ServerSettings
from fl_server.deployment import control, runs
from fl_server.draining import Drain
from fl_server.federation import Federation
from fl_server.watch import Watcher
from medveil import processes
from medveil.errors import ConfigError, DrainedError


class Asks(Watcher):
    """Drains the server when a round's messages are about to go out."""

    def __init__(self, drain: Drain, round_: int) -> None:
        self.drain, self.round = drain, round_

    def phase(self, round_: int, phase: str, sites: Any) -> None:
        if (phase, round_) == ("train", self.round):
            self.drain.ask()


def federate(world: Any, drain: Drain, *, resume: bool = False, watch: Watcher | None = None) -> dict[str, Any]:
    server = ServerConfig(wait_for_sites=0.3, prepare_deadline=60.0, round_deadline=60.0)
    settings = ServerSettings(out=str(world.out), sites=len(world.sites), resume=resume, server=server)
    return Federation(world.grid, world.run, settings, watch=watch, drain=drain).run()


def without_time(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_the_round_in_flight_is_kept_and_the_run_goes_on_as_if_nothing_had_been(
    make_world: Callable[..., Any], tmp_path: Path
) -> None:
    whole, drained = make_world(2, rounds=4, out="whole"), make_world(2, rounds=4, out="drained")
    federate(whole, Drain())
    drain = Drain(tmp_path / "drain.json")
    with pytest.raises(DrainedError, match=r"round 2 of 4 is done and kept; 'medveil-server resume'") as error:
        federate(drained, drain, watch=Asks(drain, 2))
    assert error.value.exit_code == 6
    manifest = drained.manifest()
    assert manifest["status"] == "interrupted"
    assert manifest["error"].startswith("DrainedError: the server is drained")
    asked = len(drained.grid.sent)
    with pytest.raises(DrainedError, match="nothing was begun"):
        federate(drained, drain, resume=True)
    assert len(drained.grid.sent) == asked, "while it is drained nobody is asked anything"
    drain.forget()
    assert federate(drained, drain, resume=True)["status"] == "finished"
    assert without_time(drained.lines()) == without_time(whole.lines())
    told = {"run": manifest["run"], "error": manifest["error"], "status": "interrupted"}
    with pytest.raises(DrainedError):
        runs._refuse_failed(told, SimpleNamespace(name="trial"))  # type: ignore[arg-type]


def test_what_is_measured_last_is_no_round_and_is_finished(make_world: Callable[..., Any], tmp_path: Path) -> None:
    world, drain = make_world(2, rounds=2), Drain(tmp_path / "drain.json")
    assert federate(world, drain, watch=Asks(drain, 2))["status"] == "finished"


def test_no_run_is_submitted_to_a_server_that_is_drained(tmp_path: Path) -> None:
    drain = Drain(tmp_path / "state" / "drain.json")
    drain.refuse_new()
    drain.ask()
    with pytest.raises(ConfigError, match="drain: the server finishes what it has in hand and stops"):
        drain.refuse_new()
    drain.forget()
    drain.forget()
    assert not drain.is_asked


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []
    monkeypatch.setattr(processes, "stop", lambda record: done.append("stopped") or True)
    monkeypatch.setattr(runs, "end_left_behind", lambda consortium: done.append("ended") or [])
    monkeypatch.setattr(control, "Control", lambda consortium: None)
    return done


def consortium(tmp_path: Path) -> Any:
    audit = SimpleNamespace(append=lambda event, **details: None)
    return SimpleNamespace(audit=audit, drain=Drain(tmp_path / "drain.json"), record=tmp_path / "record")


@pytest.mark.parametrize("left", [[], ["trial"]])
def test_the_command_waits_then_stops_and_says_what_it_cut_short(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stopped: list[str],
    left: list[str],
) -> None:
    where = consortium(tmp_path)

    def waits(*given: Any, seconds: float) -> list[str]:
        assert where.drain.is_asked
        assert not stopped
        return left

    monkeypatch.setattr(runs, "wait_for_round", waits)
    assert serve._drain(where, 9.0) == (6 if left else 0)
    assert stopped == ["stopped", "ended"]
    assert not where.drain.is_asked
    assert ("in the middle of a round of trial" in capsys.readouterr().out) is bool(left)


def test_who_interrupts_it_takes_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: list[str]) -> None:
    where = consortium(tmp_path)

    def waits(*given: Any, seconds: float) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "wait_for_round", waits)
    with pytest.raises(KeyboardInterrupt):
        serve._drain(where, 9.0)
    assert not stopped
    assert not where.drain.is_asked


def test_it_waits_for_runs_that_are_there_or_will_be(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"a": ["running", "running", "interrupted"], "b": ["submitted", "running", "finished"], "c": ["submitted"]}
    monkeypatch.setattr(runs, "_POLL_S", 0.001)
    every = [SimpleNamespace(name=name, flower_runs=(name,)) for name in states]
    monkeypatch.setattr(runs, "submissions", lambda consortium: every)

    def state_of(each: Any, consortium: Any) -> dict[str, str]:
        known = states[each.name]
        return {"status": known.pop(0) if len(known) > 1 else known[0]}

    monkeypatch.setattr(runs, "state_of", state_of)
    flower = SimpleNamespace(run=lambda name: SimpleNamespace(finished=name == "c"))
    assert runs.wait_for_round(None, flower, seconds=10) == []  # type: ignore[arg-type]
    states["a"] = ["running"]
    assert runs.wait_for_round(None, flower, seconds=0.01) == ["a"]  # type: ignore[arg-type]
