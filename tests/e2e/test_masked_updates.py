"""Three real sites whose updates leave masked: the server opens their sum, and reads no single one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from consortium_world import World

from medveil.audit_verify import Verified, verify
from medveil.errors import ConfigError
from medveil.secagg.roster import load_roster

pytestmark = [pytest.mark.e2e, pytest.mark.faults, pytest.mark.timeout(280)]
SUMMED: dict[str, Any] = {"secagg": {"bits": 24}}
"""All else is a consortium's own default."""


def test_hospitals_train_a_model_whose_updates_nobody_reads(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.set_up("policy.least_sites=3", summing=True)
    sites = [world.enroll(name, "limits.least_sites=3") for name in ("grace", "mercy", "st-anna")]
    path = world.folder / "roster.json"
    assert world("start") == 0
    file = world.run_file(**SUMMED)
    capsys.readouterr()
    assert world("run", file) == ConfigError.exit_code
    assert "secagg.on: there is no roster" in capsys.readouterr().err
    assert world("roster", "--out", path) == 0
    digest = load_roster(path).fingerprint
    for site in sites[:2]:
        assert site("approve-roster", digest, "--roster", path) == 0
    for site in sites:
        site.start()
    capsys.readouterr()
    assert world("run", file) == ConfigError.exit_code
    said = capsys.readouterr().err
    assert "st-anna: ConfigError: secagg.on: this site approved no roster; it approves the one that is read out" in said
    assert sites[2]("approve-roster", digest, "--roster", path) == 0
    assert world("run", file) == 0
    run = world.run_folder()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["secagg"] == {"on": True, "bits": 24, "clip": 4.0, "clipped": 0, "updates": 6}
    assert 0 <= summary["accuracy"] <= 1
    assert summary["auroc"] is None
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    own = [line for line in lines if line["site"] != "all"]
    assert {line["site"] for line in own} == {site.name for site in sites}
    assert {line[name] for line in own for name in ("loss", "accuracy", "balanced_accuracy", "auroc")} == {None}
    assert [line["round"] for line in lines if line["phase"] == "validation" and line["loss"] is not None] == [0, 1, 2]
    server = verify(world.consortium.audit.path)
    agreed = details(server, "sum-agreed")
    assert [(each["of"], each["round"]) for each in agreed] == [("train", 1), ("train", 2), ("evaluate", 2)]
    assert all(each["left"] == ["grace", "mercy", "st-anna"] for each in agreed)
    assert {each["kind"] for each in details(server, "answered") if "digest" in each} == {"train.mask"}
    for site in sites:
        assert "updates leave masked, in 24 bits" in site.log
        own = verify(site.files.audit.path)
        assert server.whole
        assert own.whole, own.problems
        signed = [each for each in details(own, "answered") if "signature" in each]
        assert [each["signature"] for each in signed] == [each["signatures"][site.name] for each in agreed]
        assert [each["left"] for each in signed] == [each["left"] for each in agreed]
        assert (site.files.own / "sums" / f"{summary['run']}.sealed").exists()


def details(log: Verified, event: str) -> list[dict[str, Any]]:
    return [each["details"] for each in log.records if each["event"] == event]
