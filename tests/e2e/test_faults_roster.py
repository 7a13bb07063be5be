"""Three real sites that approved a roster: they train with whom they can check, and with nobody else."""

from __future__ import annotations

import json

import pytest
from consortium_world import World

from medveil.errors import FederationError
from medveil.secagg.roster import load_roster

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(600)]


@pytest.mark.fault(
    "a site whose signature that it takes part nobody can check",
    "the others refuse the round by `limits.least_sites`; once it approved the same roster, all train",
)
def test_sites_count_each_other_by_their_signatures(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up("policy.least_sites=3")
    sites = [world.enroll(name, "limits.least_sites=3") for name in ("grace", "mercy", "st-anna")]
    path = world.folder / "roster.json"
    assert world("roster", "--out", path) == 0
    digest = load_roster(path).fingerprint
    assert digest in capsys.readouterr().out
    for site in sites[:2]:
        assert site("approve-roster", digest, "--roster", path) == 0
    assert world("start") == 0
    for site in sites:
        site.start()
    file = world.run_file(rounds=1)
    capsys.readouterr()
    assert world("run", file) == FederationError.exit_code
    said = capsys.readouterr()
    assert "limits.least_sites: of the sites of its roster this one could check the signatures of 2" in said.err
    # What is approved while a site serves counts at once.
    assert sites[2]("approve-roster", digest, "--roster", path) == 0
    assert world("run", file) == 0
    manifest = json.loads((world.run_folder() / "manifest.json").read_text())
    assert [row["site"] for row in manifest["sites"]] == ["grace", "mercy", "st-anna"]
    for site in sites:
        assert site("audit", "verify") == 0
