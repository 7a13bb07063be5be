"""Arms side by side: run once, kept afterwards, and a failed one does not take the others along."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import at_once
import pytest

from medveil.claims import claimed
from medveil.errors import ConfigError, StorageError
from simulations.arms import ARMS, as_experiment, find_arm
from simulations.cli import main
from simulations.config import ExperimentConfig

Tiny = Callable[..., ExperimentConfig]
Compare = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compared") / "out"


@pytest.fixture(scope="module")
def compare(out: Path, tiny_settings: list[str]) -> Compare:
    """Compare arms into one folder; each run is a process of its own."""
    empty = out.with_name("empty.yaml")
    empty.write_text("")

    def run(arms: str, *words: str) -> tuple[int, str, str]:
        settings = [*tiny_settings, "rounds=1", f"compare.arms=[{arms}]"]
        said, progress = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(progress):
            code = main(["compare", str(empty), *settings, *words, "--out", str(out)])
        assert "Traceback" not in progress.getvalue() + said.getvalue()
        return code, said.getvalue(), progress.getvalue()

    return run


@pytest.fixture(scope="module")
def compared(compare: Compare) -> tuple[int, str, str]:
    """Two arms, whose runs finish: made in this process, since a failed arm shows how they are started."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulations.side_by_side.run_tied", at_once.run_tied)
        return compare("fedper, per-site-adapted")


def test_two_arms_side_by_side(compared: tuple[int, str, str], out: Path) -> None:
    code, said, progress = compared
    assert code == 0, progress
    assert "fedper seed 0: begins" in progress
    assert f"report: {out}" in said
    for name in ("fedper", "per-site-adapted"):
        assert name in said
        assert json.loads((out / name / "seed-0" / "manifest.json").read_text())["status"] == "finished"
    table = (out / "compare.json").read_text()
    assert "per-site-adapted" in table
    assert "fedper" in table


@pytest.mark.usefixtures("compared", "drawn")
def test_finished_runs_are_kept(compare: Compare, out: Path) -> None:
    before = [(out / name / "seed-0" / "summary.json").stat().st_mtime_ns for name in ("fedper", "per-site-adapted")]
    code, said, progress = compare("fedper, per-site-adapted", "--json")
    assert code == 0
    kept, *others = [line for line in progress.splitlines() if line]
    assert [kept, *others[:1]] == ["fedper seed 0: kept", "per-site-adapted seed 0: kept"]
    # What the runs said of near duplicates, once for all arms and seeds.
    assert len(others) == 2
    assert "test images look like a training image" in others[1]
    assert json.loads(said) == json.loads((out / "compare.json").read_text())
    after = [(out / name / "seed-0" / "summary.json").stat().st_mtime_ns for name in ("fedper", "per-site-adapted")]
    assert after == before


@pytest.mark.usefixtures("compared")
def test_a_failed_arm_leaves_the_others_and_exit_code_6(compare: Compare) -> None:
    # Only an arm with a secret stem is warmed up: the other's settings, and so its run, stay.
    code, said, progress = compare("fedper, shared-secret", "stem.warmup=-1")
    assert code == 6
    assert "fedper seed 0: kept" in progress
    assert "shared-secret seed 0: failed: tiny shared-secret: 'stem.warmup' is below 0" in progress
    assert "fedper" in said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulations.side_by_side.run_tied", at_once.run_tied)
        code, _, progress = compare("shared-secret", "stem.warmup=-1")
    assert code == 6
    (line,) = [line for line in progress.splitlines() if line.startswith("error:")]
    assert "none of 1 runs finished: tiny shared-secret: 'stem.warmup' is below 0" in line


def test_arms_that_are_not_there(compare: Compare) -> None:
    code, _, said = compare("fedpr")
    assert code == 2
    assert said == "error: compare.arms: no arm is called 'fedpr'; did you mean 'fedper'?\n"
    code, _, said = compare("")
    assert code == 2
    assert "names no arms" in said
    with pytest.raises(ConfigError, match="one of plain"):
        find_arm("zzzz")


@pytest.mark.usefixtures("compared")
def test_two_comparisons_do_not_write_into_one_folder(compare: Compare, out: Path) -> None:
    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix not in ("", ".lock")}

    before = written()
    with claimed(out / ".compare", seconds=0, cure=""):
        code, _, progress = compare("fedper, local-only")
    assert code == StorageError.exit_code
    assert f"is in use by another process {os.getpid()}" in progress
    assert written() == before


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_an_arm_is_the_experiment_with_its_policy_and_seed(tiny: Tiny, arm: object) -> None:
    base = tiny("stem.warmup=3")
    before = tiny("stem.warmup=3")
    made = as_experiment(base, arm, 7)  # type: ignore[arg-type]
    assert base == before
    assert made.seed == 7
    assert made.keys.policy == arm.keys  # type: ignore[attr-defined]
    assert made.stem.warmup == (3 if made.stem.init == "secret" else 0)
    assert made.train == replace(base.train, personal=arm.personal or base.train.personal)  # type: ignore[attr-defined]
    base.data.partition.pooled = base.sites if made.federation == "centralised" else 0
    assert made.data == base.data
