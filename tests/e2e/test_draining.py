"""A coordinator upgrades in the middle of a run: the round in flight is finished, and the run goes on afterwards."""

from __future__ import annotations

import pytest
from consortium_world import World, wait

from fl_server.deployment.progress import progress
from fl_server.deployment.runs import find
from fl_server.manifest import read_manifest

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(600)]


def test_a_run_is_drained_between_two_rounds_and_resumed(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up()
    sites = [world.enroll(name) for name in ("mercy", "st-anna")]
    assert world("start") == 0
    for site in sites:
        site.start()
        site.wait_ready()
    assert world("run", world.run_file(rounds=6), "--detach") == 0
    folder = world.run_folder()
    wait("a round", lambda: progress(find(world.consortium, None), world.consortium)["round"] >= 1)
    capsys.readouterr()
    assert world("stop", "--drain") == 0
    assert "stopped between two rounds" in capsys.readouterr().out
    manifest = read_manifest(folder / "manifest.json")
    done = len(list(folder.glob("checkpoints/*.json")))
    assert manifest["status"] == "interrupted"
    assert f"round {done} of 6 is done and kept" in manifest["error"]
    assert 1 <= done < 6
    assert world("start") == 0
    for site in sites:
        site.start() if site.pid("supervisor") is None else site.wait_ready()
    assert world("resume") == 0
    assert read_manifest(folder / "manifest.json")["status"] == "finished"
