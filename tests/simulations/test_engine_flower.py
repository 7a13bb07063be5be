"""What the `flower` engine does around Flower; tests/e2e runs the real thing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medveil.errors import ConfigError, DataError, FederationError, KeyMaterialError, StorageError
from simulations.config import ExperimentConfig
from simulations.engines import flower
from simulations.plan import Plan, make_plan

Tiny = Callable[..., ExperimentConfig]
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system has no /proc")

MANIFEST: dict[str, Any] = {
    "format": "medveil-manifest",
    "version": 1,
    "run": "r",
    "name": "tiny",
    "run_config": {"rounds": 1},
    "server": {},
    "sites": [],
    "left_out": [],
    "resumed": [],
}


@pytest.fixture
def plan(tiny: Tiny, tmp_path: Path) -> Plan:
    return make_plan(tiny("engine=flower"), tmp_path / "run")


def fake_programs(folder: Path, monkeypatch: pytest.MonkeyPatch, **scripts: str) -> None:
    """Put shell scripts in place of Flower's programs."""
    folder.mkdir()
    for name, script in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    real = flower._environment
    monkeypatch.setattr(flower, "_environment", lambda scratch: {**real(scratch), "PATH": f"{folder}:/usr/bin:/bin"})


def test_a_superlink_that_does_not_start_is_said_in_its_last_words(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_programs(
        tmp_path / "bin", monkeypatch, flower_superlink="echo started; echo '│ no such database │' >&2; exit 1"
    )
    with pytest.raises(FederationError, match="SuperLink did not start: started no such database"):
        flower.run_flower(plan)


def test_a_run_flower_refuses_is_said_in_its_last_words(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_programs(
        tmp_path / "bin", monkeypatch, flower_superlink="exec sleep 60", flwr="echo '╭ Error ╮'; echo bad app; exit 1"
    )
    monkeypatch.setattr(flower, "_wait_until_up", lambda *_: None)
    began = time.monotonic()
    with pytest.raises(FederationError, match="'flwr run' refused the app: Error bad app"):
        flower.run_flower(plan)
    assert time.monotonic() - began < flower._STOP_S, "the SuperLink was not stopped at once"


def test_a_server_app_that_left_no_word(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_programs(tmp_path / "bin", monkeypatch, flower_superlink="exec sleep 60", flwr="exit 0")
    monkeypatch.setattr(flower, "_wait_until_up", lambda *_: None)
    with pytest.raises(FederationError, match="the server app left no manifest"):
        flower.run_flower(plan)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("DataError: x: no images; give some", DataError),
        ("KeyMaterialError: wrong key", KeyMaterialError),
        ("StorageError: disk: full", StorageError),
        ("ZeroDivisionError: division by zero", FederationError),
        ("EXIT_OK: no error at all", FederationError),
        (None, FederationError),
    ],
)
def test_the_servers_error_comes_back_in_its_own_class(tmp_path: Path, error: str | None, kind: type) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, "status": "failed", "error": error}))
    with pytest.raises(kind) as caught:
        flower._check_manifest(tmp_path)
    assert type(caught.value) is kind
    said = str(caught.value)
    if error is None:
        assert said == "the run ended as 'failed'"
    if kind is DataError:
        assert said == "x: no images; give some"


@pytest.mark.parametrize("status", ["finished", "stopped-early"])
def test_a_run_that_ended_well(tmp_path: Path, status: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, "status": status, "error": None}))
    flower._check_manifest(tmp_path)


def test_without_ray_the_cure_is_named(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else real(name))
    with pytest.raises(ConfigError, match=r"engine flower: needs Ray; make demo-flower"):
        flower.run_flower(plan)


def test_flower_is_kept_to_a_folder_a_home_and_a_port_of_its_own(plan: Plan, tmp_path: Path) -> None:
    environment = flower._environment(tmp_path)
    assert environment["FLWR_HOME"] == str(tmp_path / "home")
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    flower._write_settings(tmp_path, plan, 4711, resume=False)
    assert "127.0.0.1:4711" in (tmp_path / "home" / "config.toml").read_text()
    assert "medveil-run" in (tmp_path / "run.toml").read_text()
    assert flower.free_port() > 1023


@needs_proc
def test_what_outlives_the_superlink_is_found_by_its_home_and_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    environment = {**os.environ, "FLWR_HOME": str(tmp_path / "home")}
    ours = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    other = subprocess.Popen(command, env={**environment, "FLWR_HOME": str(tmp_path / "home2")}, stdout=subprocess.PIPE)
    try:
        for each in (ours, other):
            assert each.stdout is not None
            each.stdout.readline()
        assert flower._under(tmp_path) == [ours.pid]
        flower._kill_stragglers(tmp_path)
        assert ours.wait(10) != 0
        assert other.poll() is None
        assert flower._under(tmp_path) == []
    finally:
        for each in (ours, other):
            each.kill()
            each.communicate()
