"""A command that starts others ends them when it is ended; tests/e2e/test_ending.py does so to whole runs."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from families import Family
from forked_command import Command

from simulations.cli import main

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")

CHECKOUT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "compare": ("simulations.side_by_side", ["compare", "demo", "--jobs", "2", "--out", "OUT"]),
    "attack-matrix": (
        "simulations.attacks.matrix.run",
        ["attack-matrix", "--images", "IMAGES", "--jobs", "2", "--block", "8", "--out", "OUT"],
    ),
    "bench": ("simulations.bench_command", ["bench", "--deployment"]),
}
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}


@pytest.mark.parametrize(
    ("name", "blow"),
    [
        *[(name, signal.SIGTERM) for name in COMMANDS],
        *[pytest.param(name, signal.SIGKILL, marks=pytest.mark.faults) for name in COMMANDS],
        *[pytest.param(name, signal.SIGHUP, marks=pytest.mark.faults) for name in COMMANDS],
    ],
)
def test_it_takes_what_it_started_along(name: str, blow: signal.Signals, tmp_path: Path) -> None:
    begun, images = tmp_path / "begun", tmp_path / "images.npz"
    (tmp_path / "bin").mkdir()
    for program in ("medveil-sim", "python"):
        script = tmp_path / "bin" / program
        script.write_text(f"#!/bin/sh\necho $$ >> {begun}\nsleep 600\n")
        script.chmod(0o755)
    rng = np.random.default_rng(0)
    np.savez(images, images=rng.integers(0, 256, (12, 16, 16), dtype=np.uint8), labels=np.arange(12) % 2)
    module, given = COMMANDS[name]
    words = [{"OUT": str(tmp_path / "out"), "IMAGES": str(images)}.get(word, word) for word in given]

    def with_scripts() -> int:
        """A command of ours whose children are a script, in the place of runs that train."""
        python = str(tmp_path / "bin" / "python")
        importlib.import_module(module).sys = SimpleNamespace(executable=python, stdout=sys.stdout)  # type: ignore[attr-defined]
        return main(words)

    command = Command(with_scripts, tmp_path)
    family = Family(command.pid)
    wanted, until, asleep = (1 if name == "bench" else 2), time.monotonic() + 60, list[str]()
    while len(asleep) < wanted and time.monotonic() < until:
        assert command.poll() is None, command.communicate(0)
        time.sleep(0.05)
        asleep = [line for line in family.look() if " 600" in line]
    assert len(asleep) == wanted, family.look()
    command.send_signal(blow)
    _, said = command.communicate(timeout=30)
    assert command.returncode == CODES[blow], said
    assert not family.wait_gone(10)
    assert "Traceback" not in said
    assert "failed" not in said, "what ends with its command did not fail"
    assert ("go on with the same command" in said) == (name != "bench" and blow != signal.SIGKILL)
    assert len(begun.read_text().split()) == wanted, "one began after the end"


@pytest.mark.parametrize("goal", ["demo", "demo-flower"])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_make_takes_what_it_started_along(goal: str, blow: signal.Signals, tmp_path: Path) -> None:
    """`make` itself is ended, and can say nothing to anybody; its command is a script, in the place of a demo."""
    binaries = tmp_path / "venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(sys.executable)
    (binaries / "medveil-sim").write_text("#!/bin/sh\nsleep 600 & setsid sleep 600 & wait\n")
    (binaries / "medveil-sim").chmod(0o755)
    for stamp in (".installed", ".installed-flower"):
        (tmp_path / "venv" / stamp).touch()
    words = ["make", goal, f"VENV={tmp_path / 'venv'}", f"OUT={tmp_path / 'out'}"]
    command = subprocess.Popen(words, cwd=CHECKOUT, start_new_session=True, stderr=subprocess.DEVNULL)
    family, until = Family(command.pid), time.monotonic() + 60
    while sum("sleep 600" in line for line in family.look()) < 2 and time.monotonic() < until:
        assert command.poll() is None
        time.sleep(0.05)
    # A terminal that closes tells all that it holds; who ends a process by its id tells that one alone.
    (os.killpg if blow == signal.SIGHUP else os.kill)(command.pid, blow)
    try:
        command.wait(30)
    finally:
        command.kill()
    assert sum("sleep 600" in line for line in family.look()) == 2
    assert not family.wait_gone(10)
