"""Tiny runs through Flower's own simulation, as a user starts them, and what they are compared by."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from simulations.engines.flower import OFFLINE

CHECKOUT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
TINY = {"rounds": 2, "images": 40, "epochs": 1}
TINY_OVERRIDES = [
    "rounds=2",
    "sites=2",
    "threads=1",
    "data.phantoms.sites=2",
    "data.phantoms.images=40",
    "train.epochs=1",
]
DEMO = "simulations/conf/demo.yaml"


def environment(home: Path, **more: str) -> dict[str, str]:
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    # Ray's workers step back for every other test; here they are what is waited for.
    more = {"RAY_worker_niceness": "0", **more}
    return {**os.environ, **OFFLINE, "PATH": path, "HOME": str(home), "OMP_NUM_THREADS": "1", **more}


def medveil_sim(*words: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / "medveil-sim"), *words]
    return subprocess.run(
        command, cwd=CHECKOUT, env=environment(home), capture_output=True, text=True, check=False, timeout=500
    )


def processes(*words: str) -> list[int]:
    """Ids of processes whose command line has all the words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(int(entry.name))
    return found


def assert_same_run(one: Path, other: Path) -> None:
    left, right = (load_file(run / "checkpoints" / "round-0002.safetensors") for run in (one, other))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        np.testing.assert_allclose(right[name], tensor, rtol=1e-4, atol=1e-5, err_msg=name)
    figures = [json.loads((run / "summary.json").read_text()) for run in (one, other)]
    for key in ("loss", "accuracy", "auroc"):
        assert figures[1][key] == pytest.approx(figures[0][key], rel=1e-4), key
