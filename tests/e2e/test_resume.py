"""A run that is cut off and resumed ends with the tensors of an uninterrupted one, bit for bit."""

from __future__ import annotations

import functools
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forked_command import Command
from safetensors.numpy import load_file

from simulations.cli import main

CHECKOUT = Path(__file__).resolve().parents[2]
ROUNDS = 4
SETTINGS = [
    f"rounds={ROUNDS}",
    "sites=2",
    "threads=1",
    "data.phantoms.sites=2",
    "data.phantoms.images=80",
    "train.epochs=1",
    "train.mixup=0.2",
]
ARMS = {
    "per-site adapted stems": ["keys.policy=per-site"],
    "moments at the server": ["keys.policy=shared", "server.strategy=fedadam"],
}

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]


def start(folder: Path, *words: str) -> Command:
    return Command(lambda: main(["run", *words]), folder)


def experiment(out: Path, arm: str) -> list[str]:
    return [str(CHECKOUT / "simulations/conf/demo.yaml"), *SETTINGS, *ARMS[arm], "--out", str(out)]


def wait_for_round(out: Path, round_: int, process: Command) -> None:
    """Until the first site has sent its update of a round, and the second is at work."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        except (OSError, json.JSONDecodeError):
            lines = []
        if any(line["round"] == round_ and line["phase"] == "train" for line in lines):
            return
        time.sleep(0.02)
    pytest.fail(f"round {round_} was not reached: {process.communicate(timeout=5)}")


def tensors(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "checkpoints" / f"round-{ROUNDS:04d}.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an arm's whole run, which is made here, and not in a process, when it is first asked for."""

    @functools.cache
    def made(arm: str) -> Path:
        folder = tmp_path_factory.mktemp("whole") / "run"
        assert main(["run", *experiment(folder, arm)]) == 0
        return folder

    return made


@pytest.mark.parametrize(
    ("arm", "blow", "code"),
    [
        ("per-site adapted stems", signal.SIGKILL, -signal.SIGKILL),
        pytest.param("per-site adapted stems", signal.SIGINT, 130, marks=pytest.mark.faults),
        pytest.param("moments at the server", signal.SIGKILL, -signal.SIGKILL, marks=pytest.mark.faults),
    ],
)
@pytest.mark.slow
def test_resume_ends_as_if_nothing_had_happened(
    uninterrupted: Callable[[str], Path], tmp_path: Path, arm: str, blow: signal.Signals, code: int
) -> None:
    out = tmp_path / "run"
    process = start(tmp_path, *experiment(out, arm))
    wait_for_round(out, 2, process)
    process.send_signal(blow)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in errors
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] == ("interrupted" if blow is signal.SIGINT else "running")
    if blow is signal.SIGINT:
        assert f"--resume {out}" in errors

    resumed = start(tmp_path, "--resume", str(out))
    _, errors = resumed.communicate(timeout=150)
    assert resumed.returncode == 0, errors

    whole, mended = tensors(uninterrupted(arm)), tensors(out)
    assert whole.keys() == mended.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(mended[name], tensor, err_msg=name)
    for site in ("site-1", "site-2"):
        one, other = (np.load(run / "sites" / site / "predictions.npz") for run in (uninterrupted(arm), out))
        np.testing.assert_array_equal(one["probabilities"], other["probabilities"])
    rounds = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    trained = [(line["round"], line["site"]) for line in rounds if line["phase"] == "train"]
    assert len(trained) == len(set(trained)) == ROUNDS * 3, "every round of every site stands there once"


@pytest.mark.usefixtures("fresh_sites")
def test_a_finished_run_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    few = ["rounds=1", "data.phantoms.images=20", "model.depth=1"]
    assert main(["run", *experiment(run, "per-site adapted stems"), *few]) == 0
    last = run / "checkpoints" / "round-0001.safetensors"
    before = last.stat().st_mtime_ns
    capsys.readouterr()
    assert main(["run", "--resume", str(run)]) == 0
    assert "report:" in capsys.readouterr().out
    assert last.stat().st_mtime_ns == before
