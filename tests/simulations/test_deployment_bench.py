"""What `medveil-sim bench --deployment` says of a run is what the run left behind, whatever its speed."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from medveil.errors import ConfigError
from simulations import cli
from simulations.deployment_bench import bench, fleet
from simulations.deployment_bench.fleet import TINY
from simulations.deployment_bench.masked import measure_masked, measure_simulated
from simulations.deployment_bench.overhead import measure_overhead, read_rounds
from simulations.deployment_bench.traffic import VARIANTS, measure_traffic
from simulations.deployment_bench.work import Work


def _leave(run: Path, lines: list[dict[str, object]], ends: list[float]) -> None:
    (run / "checkpoints").mkdir(parents=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number, end in enumerate(ends, 1):
        file = run / "checkpoints" / f"round-{number:04d}.json"
        file.touch()
        os.utime(file, (end, end))


def test_a_round_costs_what_its_slowest_site_did_not_work(tmp_path: Path) -> None:
    seconds = {1: {"a": 9.0, "b": 1.0}, 2: {"a": 2.0, "b": 3.0}, 3: {"a": 4.0, "b": 1.0}}
    lines: list[dict[str, object]] = []
    for number, sites in seconds.items():
        lines += [{"round": number, "site": site, "phase": "train", "seconds": s} for site, s in sites.items()]
        # Lines that are no site's training do not count.
        lines += [{"round": number, "site": "all", "phase": "train", "seconds": 50.0}]
        lines += [{"round": number - 1, "site": "a", "phase": "validation", "seconds": 70.0}]
    _leave(tmp_path, lines, [100.0, 104.5, 110.0])
    rounds, trained = read_rounds(tmp_path)
    assert [(each.wall, each.worked, each.cost) for each in rounds] == [(4.5, 3.0, 1.5), (5.5, 4.0, 1.5)]
    assert len(trained) == 6


@pytest.mark.usefixtures("fresh_sites")
def test_bytes_are_those_of_the_tensors_that_travel(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rows = {row["variant"]: row for row in measure_traffic(tmp_path, TINY)}
    assert list(rows) == list(VARIANTS)
    width, classes, patch = 24, 2, 8
    head, stem = width * classes + classes, width * patch * patch + width + (32 // patch) ** 2 * width + width
    block = 2 * 2 * width + (width * 3 * width + 3 * width) + (width * width + width) + 8 * width * width + 5 * width
    token, norm = width, 2 * width
    trunk = 2 * block + norm
    for way in ("bytes_down", "bytes_up"):
        # A few hundred bytes of NumPy's header come on top.
        assert 0 <= rows["fp32, all tensors"][way] - 4 * (head + stem + trunk + token) < 300
        assert 0 <= rows["bf16, head"][way] - 2 * head < 300
        assert rows["fp32"][way] / rows["bf16"][way] == pytest.approx(2, rel=0.01)
        assert rows["bf16, head"][way] < rows["bf16, last-2-blocks"][way] <= rows["bf16"][way]


def _assert_masked(found: dict[str, Any], *, sites: int) -> None:
    """Both runs were made, one of them under masks, which are as large as what they hide."""
    bare, masked = found["bare"], found["masked"]
    assert found["sites"] == sites
    assert len(bare["each"]) == len(masked["each"]) > 0
    # A few hundred bytes a site of NumPy's header come on top.
    assert abs(masked["bytes_up"] - bare["bytes_up"]) < 300 * sites
    assert masked["bytes_down"] == bare["bytes_down"] > bare["bytes_up"] / 2
    assert found["bytes_up_over_bare"] == pytest.approx(1, rel=0.02)
    assert found["seconds_more"] == masked["cost_s_least"] - bare["cost_s_least"]


@pytest.mark.usefixtures("fresh_sites")
def test_masks_are_measured_beside_the_same_run_without(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    _assert_masked(measure_simulated(tmp_path, sites=3, work=replace(TINY, rounds=1)), sites=3)
    manifests = {
        name: json.loads((tmp_path / name / "run" / "manifest.json").read_text()) for name in ("bare", "masked")
    }
    assert {name: each["run_config"]["secagg"]["on"] for name, each in manifests.items()} == {
        "bare": False,
        "masked": True,
    }


def test_a_part_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="fleets is no part"):
        bench.bench_deployment(["fleets"])
    assert cli.main(["bench", "--deployment", "--parts", "fleets"]) == 2
    assert "of overhead,bytes,fleet,masked" in capsys.readouterr().err


def test_a_fleet_that_would_not_fit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_available", lambda: 3e9)
    with pytest.raises(Exception, match="at most 5 sites"):
        fleet.measure_fleet(tmp_path, sites=32)
    assert not list(tmp_path.iterdir()), "it began"


@pytest.mark.e2e
@pytest.mark.faults
@pytest.mark.timeout(600)
def test_both_sides_run_their_rounds(tmp_path: Path) -> None:
    work = Work(TINY.model, images=32, size=32, block=8, rounds=1)
    found = measure_overhead(tmp_path, work)
    assert found["plain_flower"]["replies"] == {"train": [2, 2], "evaluate": [2, 2]}
    for side in ("medveil", "plain_flower"):
        (each,) = found[side]["each"]
        assert 0 < each["worked_s"] < each["wall_s"]
    assert found["cost_over_plain_flower"] == pytest.approx(
        found["medveil"]["cost_s_least"] / found["plain_flower"]["cost_s_least"]
    )
    # The stem stays with MedVeil's sites; plain Flower sends all.
    assert found["medveil"]["bytes_up"] < found["plain_flower"]["model_bytes"]


@pytest.mark.e2e
@pytest.mark.faults
@pytest.mark.timeout(600)
def test_real_sites_run_with_and_without_masks(tmp_path: Path) -> None:
    work = Work(TINY.model, images=32, size=32, block=8, rounds=1)
    _assert_masked(measure_masked(tmp_path, work, sites=3), sites=3)


@pytest.mark.e2e
@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_fleet_loses_nothing(tmp_path: Path) -> None:
    found = fleet.measure_fleet(tmp_path, sites=2)
    assert (found["updates"], found["measured"]) == (found["updates_expected"], 2)
    assert (found["left_out"], found["answers_missing"]) == (0, 0)
    assert 10 < found["pss_mb"]["supernode"] < found["pss_mb"]["site"] < 3000


def test_told_to_end_it_ends_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def measured(folder: Path, *, sites: int) -> dict[str, object]:
        seen.append(folder)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it went on")

    monkeypatch.setattr(bench, "measure_fleet", measured)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        bench.bench_deployment(["fleet"])
    assert signal.getsignal(signal.SIGTERM) is before
    assert seen
    assert not seen[0].exists(), "its folder was left"
