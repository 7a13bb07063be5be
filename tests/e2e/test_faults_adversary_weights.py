"""What one malicious site of a real consortium can do to the average, the scores and the run."""

from __future__ import annotations

import json

import numpy as np
import pytest
from consortium_world import World
from faults import OddSite, left_out, manifest, tensors

from medveil.errors import EXIT_PARTIAL

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
A_LIE = 10**15


def three(world: World) -> dict[str, OddSite]:
    """Three sites whose updates are kept, as they should be until told otherwise."""
    world.set_up("policy.least_sites=1")
    names = ("charite", "mercy", "st-anna")
    sites = {name: OddSite(world.enroll(name, "limits.least_sites=1")) for name in names}
    assert world("start") == 0
    for site in sites.values():
        site.start()
    return sites


@pytest.mark.faults
@pytest.mark.fault(
    "a site declares 10^15 images", "weighs no more than server.most_share, in every round, and is named"
)
@pytest.mark.fault("a site sends another model for an update", "left out of that round, named with the reason")
@pytest.mark.fault("a site measures 1e308", "left out of that round, named; nothing of it counts")
@pytest.mark.fault("a site sends a zip, a pickle, a header to be evaluated", "left out of that round, named")
def test_a_site_that_lies_comes_to_its_share_at_most_and_ends_no_run(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    sites = three(world)
    odd = {
        2: ("updates", "replace", "server.max_"),
        3: ("metrics", {"validation-loss": 1e308}, "'validation-loss' is 1e+308"),
        4: ("metrics", {"train-accuracy": [1.0, 2.0]}, "'train-accuracy' is [1.0, 2.0]"),
        5: ("bytes", "a zip", "tensor 'packed'"),
        6: ("bytes", "a shape past every integer", "tensor 'packed'"),
        7: ("bytes", "a bad token", "tensor 'packed'"),
        8: ("bytes", "a literal too deep to parse", "tensor 'packed'"),
    }
    how: dict[str, dict[str, object]] = {"say": {"n-train": A_LIE, "n-test": A_LIE, "n-validation": A_LIE}}
    for round_, (what, value, _) in odd.items():
        how.setdefault(what, {})[str(round_)] = value
    sites["mercy"].be(**how)
    capsys.readouterr()
    assert world("run", world.run_file(rounds=9)) == EXIT_PARTIAL
    said = capsys.readouterr().err
    for round_, (_, _, reason) in odd.items():
        told = [line for line in said.splitlines() if line.startswith(f"left out of round {round_}: mercy: ")]
        assert len(told) == 1, said
        assert reason in told[0]
    assert left_out(world) == [(round_, "mercy") for round_ in odd]
    assert "held to server.most_share: mercy declares 100 % of the training images and weighs 50 %" in said
    assert manifest(world)["status"] == "finished"
    for round_ in (1, 9):
        # Half of the average is mercy's, whatever it declares; the others share the rest by their images.
        updates = {name: site.update(manifest(world)["run"], round_) for name, site in sites.items()}
        others = sum(n for name, (n, _) in updates.items() if name != "mercy")
        shares = {name: 0.5 if name == "mercy" else 0.5 * n / others for name, (n, _) in updates.items()}
        made = tensors(world, round_)
        for name in updates["mercy"][1]:
            mean = sum(shares[site] * update[name].astype(np.float64) for site, (_, update) in updates.items())
            np.testing.assert_allclose(made[f"model/{name}"], mean, rtol=1e-5, atol=1e-6)
    folder = world.run_folder()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        if line["site"] == "all" and line["loss"] is not None:
            assert 0 <= line["loss"] < 30
    modes = {path.stat().st_mode & 0o777 for path in (folder / "checkpoints").iterdir()}
    assert modes == {0o600}
    capsys.readouterr()
    assert world("status") == 0
    assert "held: mercy declares" in capsys.readouterr().out
