"""Whatever ends a command ends what it started; and a run that was ended so goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from consortium_world import PASSPHRASE, World, wait, with_mark
from families import Family
from safetensors.numpy import load_file

from crypto.passphrase import VARIABLE
from fl_server.deployment.runs import submissions
from medveil import processes
from simulations.engines.flower import OFFLINE

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
ROUNDS = 8
"""So many that some are left when a signal that is sent in the second arrives."""
SETTINGS = [f"rounds={ROUNDS}", "sites=2", "threads=1", "data.phantoms.sites=2", "data.phantoms.images=40"]
EXPERIMENT = ["simulations/conf/demo.yaml", *SETTINGS, "train.epochs=1"]
ENDS = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGKILL: -9}
SOON_S = 20.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    begun: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
        own = {**os.environ, **OFFLINE, "PATH": path, "HOME": str(tmp_path)}
        begun.append(
            subprocess.Popen(
                [str(PROGRAMS / "medveil-sim"), *words],
                cwd=CHECKOUT,
                # Ray's workers step back for every other process unless they are told not to.
                env=own | {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return begun[-1]

    yield begin
    for process in begun:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def lines(run: Path) -> list[dict[str, object]]:
    try:
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    except (OSError, json.JSONDecodeError):
        return []


def wait_for_training(run: Path, process: subprocess.Popen[str], *, round_: int = 2) -> None:
    """Until a site has sent its update of a round."""
    end = time.monotonic() + 300
    while time.monotonic() < end and process.poll() is None:
        if any(line["round"] == round_ and line["phase"] == "train" for line in lines(run)):
            return
        time.sleep(0.02)
    pytest.fail(f"round {round_} was not reached: {process.communicate(timeout=60)}")


def assert_as_uninterrupted(run: Path, whole: Path) -> None:
    told = [(line["round"], line["site"], line["phase"]) for line in lines(run)]
    assert len(told) == len(set(told)), "a line was written twice"
    assert sorted(told) == sorted((line["round"], line["site"], line["phase"]) for line in lines(whole))
    ours, theirs = (load_file(each / "checkpoints" / f"round-{ROUNDS:04d}.safetensors") for each in (run, whole))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        np.testing.assert_allclose(ours[name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same experiment, uninterrupted; the default engine gives what Flower's does."""
    out = tmp_path_factory.mktemp("whole") / "run"
    command = [str(PROGRAMS / "medveil-sim"), "run", *EXPERIMENT, "--out", str(out)]
    subprocess.run(command, cwd=CHECKOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    return out


@pytest.mark.faults
@pytest.mark.parametrize("blow", ENDS, ids=lambda each: each.name)
def test_nothing_of_the_flower_engine_outlives_its_command(
    whole: Path, start: Start, tmp_path: Path, blow: signal.Signals
) -> None:
    run = tmp_path / "run"
    process = start("run", *EXPERIMENT, "--out", str(run), "--engine", "flower")
    family = Family(process.pid)
    wait_for_training(run, process)
    seen = family.look()
    for program in ("flower-superlink", "flower-superexec", "flwr-simulation", "raylet", "ray::"):
        assert any(program in line for line in seen), (program, seen)
    process.send_signal(blow)
    if blow != signal.SIGKILL:
        assert process.wait(60) == ENDS[blow]
        assert json.loads((run / "manifest.json").read_text())["status"] == "interrupted"
    # At once: what is left of the run that was ended is waited for.
    resumed = start("run", "--resume", str(run))
    assert process.wait(60) == ENDS[blow]
    assert not family.wait_gone(SOON_S)
    output, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    assert "report:" in output
    assert_as_uninterrupted(run, whole)
    scratch = next(Path(line.split("--remove ")[1].split()[0]) for line in seen if "--remove " in line)
    assert scratch.name.startswith("mv-")
    assert not scratch.exists(), "Flower's scratch folder is left"


@pytest.mark.faults
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGHUP], ids=lambda each: each.name)
def test_a_server_and_a_site_in_the_foreground_end_with_their_commands(world: World, blow: signal.Signals) -> None:
    """In the middle of a run, whose process the server's SuperLink has started."""
    world.set_up("policy.least_sites=1")
    site = world.enroll("st-anna", "limits.least_sites=1")
    mark = f"MEDVEIL_HOME={world.folder}"
    # Commands that ran in this process took the passphrase out of its environment.
    commands, named = [], {**os.environ, VARIABLE: PASSPHRASE}
    for program, words in (("medveil-server", ["--consortium", world.file]), ("medveil-site", ["--site", site.file])):
        line = [str(PROGRAMS / program), "start", "--foreground", *map(str, words)]
        commands.append(subprocess.Popen(line, env=named, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait(f"{program} is up", lambda: processes.running(world.consortium.record) is not None)
    assert [each.poll() for each in commands] == [None, None], "one ended at once"
    site.wait_ready()
    file = world.run_file(rounds=50, train={"batch_size": 8, "lr": 0.003, "epochs": 5})
    line = [str(PROGRAMS / "medveil-server"), "run", str(file), "--consortium", str(world.file)]
    run = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait("the run trains", lambda: bool(submissions(world.consortium)) and bool(lines(world.run_folder())))
        assert len(with_mark(mark)) >= 4
        for command in commands:
            command.send_signal(blow)
        wait("all have ended", lambda: not with_mark(mark), seconds=60)
        assert [command.wait(60) for command in commands] == ([-9, -9] if blow == signal.SIGKILL else [0, 0])
    finally:
        for each in (*commands, run):
            each.terminate()
            each.wait(60)


@pytest.mark.faults
def test_a_measured_consortium_ends_with_the_command_that_measures_it(start: Start) -> None:
    process = start("bench", "--deployment", "--parts", "overhead", "--rounds", "1", "--images", "8")
    family, until = Family(process.pid), time.monotonic() + 240
    while sum("fl_client.worker" in line for line in family.look()) < 2 and time.monotonic() < until:
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    assert any("fl_server.deployment.superlink" in line for line in family.look())
    process.kill()
    assert not family.wait_gone(SOON_S)
