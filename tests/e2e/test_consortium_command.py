"""`medveil-sim consortium`, to its end and to an early one: three real sites and a server of each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from consortium_world import with_mark
from families import Family

from simulations.consortium.lines import COORDINATOR, ENDING, LINES

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(1200)]
SMALL = ["rounds=1", "train.epochs=1", "model.width=24", "model.depth=1"]


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    program = str(Path(sys.executable).with_name("medveil-sim"))
    return subprocess.Popen(
        [program, "consortium", "--sites", "3", *SMALL, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_every_line_is_typed_to_the_end_and_nothing_is_left(tmp_path: Path) -> None:
    process = begin(tmp_path)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    for line in (*LINES, *ENDING):
        who = COORDINATOR if line.who == COORDINATOR else "site-2"
        assert re.search(re.escape(f"{who}$ {' '.join(line.text.split()[:2])}") + r"\s", said), line
    assert len(re.findall(r"^    site-\d: \d+ of 24 right; always the commonest answer: \d+$", said, re.MULTILINE)) == 3
    assert "round 1" in said
    assert list(tmp_path.iterdir()) == []
    assert with_mark(f"={tmp_path}") == []


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL], ids=lambda each: each.name)
def test_it_leaves_nothing_where_it_is_ended_early(tmp_path: Path, blow: signal.Signals) -> None:
    process = begin(tmp_path)
    family = Family(process.pid)
    assert process.stdout is not None
    for line in process.stdout:
        if "medveil-server run --hash" in line:
            break
    assert any("superlink" in line for line in family.look())
    process.send_signal(blow)
    assert process.wait(120) == (130 if blow == signal.SIGINT else -signal.SIGKILL)
    assert family.wait_gone(120) == []
    end = time.monotonic() + 60
    while list(tmp_path.iterdir()) and time.monotonic() < end:
        time.sleep(0.2)
    assert list(tmp_path.iterdir()) == []
