"""Three real sites and a run that promises a number: kept, told, added up, and refused beyond a site's own limit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from consortium_world import RUN, Hospital, World

from medveil.errors import FederationError
from medveil.secagg.roster import load_roster

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(600)]
PROMISE = {"unit": "example", "epsilon": 4.0, "delta": 1e-3, "clip": 1.0}
NAMES = ["grace", "mercy", "st-anna"]
LIMITS = {"grace": 9.0, "mercy": 9.0, "st-anna": 4.5}
"""Room for a second run, but for one site."""


def private_run(world: World) -> str:
    stem, server = {"init": "adapted", "train": "frozen"}, {**RUN["server"], "max_change": 0}
    return str(world.run_file(privacy=PROMISE, evaluate_first=False, stem=stem, server=server))


def told(site: Hospital, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert site("status", "--json") == 0
    return dict(json.loads(capsys.readouterr().out)["privacy"])


def test_what_a_run_costs_is_told_everywhere_and_adds_up_to_a_site_own_limit(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.set_up("policy.least_sites=3", summing=True)
    for name in NAMES:
        own = [f"limits.epsilon={LIMITS[name]}", "limits.delta=1e-3", "limits.smallest_count=2"]
        world.enroll(name, "limits.least_sites=3", *own)
    path = world.folder / "roster.json"
    assert world("roster", "--out", path) == 0
    assert world("start") == 0
    for site in world.sites.values():
        assert site("approve-roster", load_roster(path).fingerprint, "--roster", path) == 0
        site.start()
        site.wait_ready()

    assert world("run", private_run(world)) == 0
    run = world.run_folder()
    summary = json.loads((run / "summary.json").read_text())
    privacy = summary["privacy"]
    assert {name: privacy[name] for name in PROMISE} == PROMISE
    assert sorted(privacy["sites"]) == NAMES
    assert summary["secagg"]["on"], "noise and masks go together"
    spent = {}
    for name, site in world.sites.items():
        found = told(site, capsys)
        spent[name] = found["epsilon"]
        assert privacy["sites"][name] == pytest.approx(found["epsilon"], abs=0.01)
        assert 0 < found["epsilon"] <= PROMISE["epsilon"]
        assert (found["runs"], found["without"], found["limit"]) == (1, 0, LIMITS[name])
        assert site("status") == 0
        said = f"privacy: 1 run cost each example epsilon {found['epsilon']:.2f} of {LIMITS[name]:g} at delta 0.001"
        assert said in capsys.readouterr().out
        assert site("export", site.folder / "model") == 0
        card = (site.folder / "model" / "MODEL_CARD.md").read_text()
        assert f"is bounded: epsilon {found['epsilon']:.2f}" in card

    capsys.readouterr()
    assert world("run", private_run(world)) == FederationError.exit_code
    said = capsys.readouterr().err
    assert world.run_folder() != run
    assert "st-anna: PolicyError: limits.epsilon: one more round would cost this site's images more than" in said
    assert told(world.sites["st-anna"], capsys)["epsilon"] == spent["st-anna"], "what is refused costs nothing"
    for name in ("grace", "mercy"):
        found = told(world.sites[name], capsys)
        assert found["runs"] == 2
        assert spent[name] < found["epsilon"] <= LIMITS[name]
