"""Real hospitals that count their images before anything trains: sums under masks, few patients untold."""

from __future__ import annotations

import json

import pytest
from consortium_world import World

from fl_server.counts import read_statistics
from medveil.secagg.roster import load_roster

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(600)]


def test_hospitals_count_and_tell_only_sums(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up("policy.least_sites=3", summing=True)
    limits = (
        "limits.tasks=[statistics]",
        "limits.least_sites=3",
        "limits.approve_runs=true",
        "limits.smallest_count=5",
    )
    sites = [world.enroll(name, *limits) for name in ("grace", "mercy", "st-anna")]
    path = world.folder / "roster.json"
    assert world("roster", "--out", path) == 0
    for site in sites:
        assert site("approve-roster", load_roster(path).fingerprint, "--roster", path) == 0
    assert world("start") == 0
    for site in sites:
        site.start()
        site.wait_ready()
    file = world.run_file(task="statistics", rounds=1, statistics={"bins": 8})
    assert world("run", file) != 0, "nobody approved it yet"
    assert "approve --run" in capsys.readouterr().err
    for site in sites:
        assert site("approve", "--run", "--yes") == 0
        said = capsys.readouterr().out
        assert "nothing trains, and no model goes round" in said
        assert "sums over sites alone" in said
    assert world("run", file) == 0
    folder = world.run_folder()
    found = read_statistics(folder / "statistics.json")
    classes = found["histograms"]["classes"]
    # 10 patients of each class at each site, with 2 images each.
    assert found["summed"]
    assert found["by_site"] == {}
    assert classes["counts"] == [60, 60]
    assert found["floors"] == dict.fromkeys(("grace", "mercy", "st-anna"), 5)
    assert "before its masks" in found["notes"][0]
    assert (folder / "statistics.html").is_file()
    capsys.readouterr()
    assert world("status", "--json") == 0
    assert json.loads(capsys.readouterr().out)
    for site in sites:
        kinds = [json.loads(line)["details"].get("kind") for line in site.files.audit.path.read_text().splitlines()]
        assert "evaluate" in kinds and "train" not in kinds
        assert site("audit", "verify") == 0
    assert world("audit", "verify") == 0
