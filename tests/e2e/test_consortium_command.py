"""`medveil-sim consortium`, to its end and to an early one: three real sites and a server of each."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from consortium_world import with_mark
from families import Family
from PIL import Image

from medveil.files import make_folder
from simulations.consortium.lines import COORDINATOR, ENDING, LINES

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(3600)]
"""Ten minutes of CPU time each way to the end: on cores that others use as well, several times that."""
SMALL = ["rounds=1", "train.epochs=1", "model.width=24", "model.depth=1"]


class Begin(Protocol):
    def __call__(self, *words: str, aside: int = ...) -> subprocess.Popen[str]: ...


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins one in a folder; where a test fails in its middle, it ends with the test."""
    program = str(Path(sys.executable).with_name("medveil-sim"))
    with contextlib.ExitStack() as stack:

        def begun(*words: str, aside: int = subprocess.STDOUT) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [program, "consortium", "--sites", "3", *SMALL, *words],
                cwd=tmp_path,
                env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
                stdout=subprocess.PIPE,
                stderr=aside,
                text=True,
                start_new_session=True,
            )
            stack.callback(process.kill)
            return process

        yield begun


def test_every_line_is_typed_to_the_end_and_nothing_is_left(tmp_path: Path, begin: Begin) -> None:
    process = begin()
    said, _ = process.communicate()
    assert process.returncode == 0, said
    for line in (*LINES, *ENDING):
        who = COORDINATOR if line.who == COORDINATOR else "site-2"
        assert re.search(re.escape(f"{who}$ {' '.join(line.text.split()[:2])}") + r"\s", said), line
    assert len(re.findall(r"^    site-\d: \d+ of 24 right; always the commonest answer: \d+$", said, re.MULTILINE)) == 3
    assert "round 1" in said
    assert list(tmp_path.iterdir()) == []
    assert with_mark(f"={tmp_path}") == []


def test_given_folders_one_for_each_and_what_is_kept_stands_until_it_is_told(tmp_path: Path, begin: Begin) -> None:
    rng = np.random.default_rng(0)
    for site, label in itertools.product("abc", ("dark", "light")):
        folder = make_folder(tmp_path / "given" / site / label)
        for number in range(36):
            pixels = rng.integers(0, 100, (32, 32), dtype=np.uint8) + (0 if label == "dark" else 100)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    given = [word for site in "abc" for word in ("--data", f"given/{site}")]
    process = begin(*given, "--keep", "--json", "--out", "kept", aside=subprocess.PIPE)
    family = Family(process.pid)
    assert process.stdout is not None and process.stderr is not None
    for line in process.stderr:
        if "it stands until Ctrl-C" in line:
            break
    assert any("superlink" in line for line in family.look())
    process.send_signal(signal.SIGINT)
    said, told = process.communicate()
    assert process.returncode == 0, told
    assert family.wait_gone(120) == []
    found = json.loads(said)
    assert (found["folder"], found["whole"]) == (str(tmp_path / "kept"), True)
    assert [row["of"] for row in found["sites"].values()] == [14, 14, 14]
    assert {row["party"] for row in found["typed"]} == {"coordinator", "site-1", "site-2", "site-3"}
    assert [f"{row['party']}$ {row['command']}" in told for row in found["go_on"]] == [True] * 8
    passphrase = (tmp_path / "kept" / "site-1" / "passphrase").read_text().strip()
    assert passphrase not in said + told
    # What was kept is brought up again by the first of the commands it names.
    party, typed = found["go_on"][0].values()
    assert party == COORDINATOR
    bin_ = str(Path(sys.executable).parent)
    again = {"cwd": tmp_path / "kept" / COORDINATOR, "env": {**os.environ, "PATH": f"{bin_}:{os.environ['PATH']}"}}
    try:
        up = subprocess.run(["/bin/sh", "-c", f"{typed} --json"], capture_output=True, text=True, check=True, **again)
        assert json.loads(up.stdout)["process"] > 0
    finally:
        down = subprocess.run(["medveil-server", "stop", "--json"], capture_output=True, text=True, check=True, **again)
    assert json.loads(down.stdout)["was_running"]


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL], ids=lambda each: each.name)
def test_it_leaves_nothing_where_it_is_ended_early(tmp_path: Path, begin: Begin, blow: signal.Signals) -> None:
    process = begin()
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
