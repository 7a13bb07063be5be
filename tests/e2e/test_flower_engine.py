"""The two apps through Flower's own simulation, as a user starts them: real processes, Ray, a fresh clone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w
import yaml
from flower_runs import (
    CHECKOUT,
    DEMO,
    PROGRAMS,
    TINY,
    TINY_OVERRIDES,
    assert_same_run,
    environment,
    medveil_sim,
    processes,
)

from medveil.contract import RUN_KEY, SITES_KEY
from simulations.cli import main

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(280)]


@pytest.fixture(scope="module")
def in_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inprocess")
    assert main(["run", str(CHECKOUT / DEMO), *TINY_OVERRIDES, "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.faults
def test_the_flower_engine_gives_the_in_process_result(in_process: Path, tmp_path: Path) -> None:
    before = set(processes("flower-superlink")) | set(processes("ray::"))
    done = medveil_sim(
        "run", DEMO, *TINY_OVERRIDES, "--out", str(tmp_path / "run"), "--engine", "flower", home=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stdout
    assert_same_run(in_process, tmp_path / "run")
    left = (set(processes("flower-superlink")) | set(processes("ray::"))) - before
    assert not left, "Flower or Ray was left running"
    assert not (tmp_path / ".flwr").exists(), "the user's own Flower home was written to"


@pytest.mark.faults
def test_masked_updates_of_the_flower_engine_are_those_in_process(tmp_path: Path) -> None:
    """Each message may come to another process there: what waits for its masks is where Flower keeps it."""
    settings = [*TINY_OVERRIDES, "sites=3", "data.phantoms.sites=3", "kind=delta", "secagg.on=true"]
    settings += ["secagg.colluding=0", "server.min_updates=3"]
    runs = [tmp_path / "inprocess", tmp_path / "flower"]
    assert main(["run", str(CHECKOUT / DEMO), *settings, "--out", str(runs[0])]) == 0
    done = medveil_sim("run", DEMO, *settings, "--out", str(runs[1]), "--engine", "flower", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "updates masked in 32 bits, 0 of 6 scaled to the norm 4" in done.stdout
    assert_same_run(*runs)


@pytest.mark.faults
def test_a_light_scope_through_the_flower_engine(tmp_path: Path) -> None:
    words = ["run", DEMO, *TINY_OVERRIDES, "train.scope=lora-core", "train.rank=4", "train.precision=fp32"]
    assert main([words[0], str(CHECKOUT / DEMO), *words[2:], "--out", str(tmp_path / "in-process")]) == 0
    done = medveil_sim(*words, "--out", str(tmp_path / "run"), "--engine", "flower", home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "in-process", tmp_path / "run")
    sizes = [json.loads((tmp_path / name / "manifest.json").read_text())["model"] for name in ("in-process", "run")]
    assert sizes[0] == sizes[1]
    # Four blocks of four linear layers, and a head of width 96 for three classes.
    assert sizes[0]["trained"] < sizes[0]["parameters"] / 100


@pytest.mark.faults
def test_bad_data_under_the_flower_engine_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "b").mkdir()
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / "images" / name).write_bytes(b"\x89PNG\r\n\x1a\n but no image")
    words = ["data.source=images", f"data.path={tmp_path / 'images'}", "data.partition.kind=iid"]
    done = medveil_sim(
        "run", DEMO, *TINY_OVERRIDES, *words, "--out", str(tmp_path / "run"), "--engine", "flower", home=tmp_path
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr + done.stdout


@pytest.fixture
def superlink_port() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    yield port
    # `flwr run` starts a SuperLink that outlives it; its command line names our port.
    for process in processes("flower-superlink", f"--port {port} "):
        os.kill(process, signal.SIGTERM)
    end = time.monotonic() + 20
    while processes("flower-superlink", f"--port {port} ") and time.monotonic() < end:
        time.sleep(0.2)
    assert not processes("flower-superlink", f"--port {port} ")


def test_flwr_run_in_a_fresh_clone_runs_the_demo(in_process: Path, tmp_path: Path, superlink_port: str) -> None:
    if not (CHECKOUT / ".git").exists():
        pytest.skip("needs a git checkout to clone")
    clone, neutral = tmp_path / "clone", tmp_path / "neutral"
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(clone)], check=True)
    neutral.mkdir()
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(tiny(clone / "medveil" / "demo.yaml")))
    own = environment(
        tmp_path,
        FLWR_HOME=str(tmp_path / "flwr"),
        FLWR_LOCAL_SUPERLINK_HTTP_API_PORT=superlink_port,
        MEDVEIL_HOME=str(tmp_path / "medveil"),
    )
    command = [str(PROGRAMS / "flwr"), "run", str(clone), "--stream", "-c", str(tmp_path / "tiny.toml")]
    done = subprocess.run(command, cwd=neutral, env=own, capture_output=True, text=True, check=False, timeout=250)
    runs = list((tmp_path / "medveil" / "runs").glob("demo-*"))
    assert len(runs) == 1, done.stdout + done.stderr
    manifest = json.loads((runs[0] / "manifest.json").read_text())
    assert manifest["status"] == "finished", manifest["error"]
    assert_same_run(in_process, runs[0])
    assert main(["report", str(runs[0])]) == 0


def tiny(demo: Path) -> dict[str, str]:
    """What of the demo's run config makes rounds, images and epochs fewer; the server's is read by the app itself."""
    sections = yaml.safe_load(demo.read_text())
    run, sites = sections[RUN_KEY], sections[SITES_KEY]
    run["rounds"], run["train"]["epochs"] = TINY["rounds"], TINY["epochs"]
    sites["data"]["phantoms"]["images"] = TINY["images"]
    return {RUN_KEY: json.dumps(run), SITES_KEY: json.dumps(sites)}
