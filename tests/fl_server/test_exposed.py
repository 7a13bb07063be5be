"""What of a server's status is exposed: rounds, losses, sites, refusals."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fl_server.deployment import exposed as room
from fl_server.deployment.exposed import exposed

STATUS: dict[str, Any] = {
    "server": {"process": 7, "answers": True},
    "certificates": {"authority_days_left": 300, "server_days_left": 20},
    "sites": [
        {"site": "anna", "status": "online", "last_seen": "now"},
        {"site": "mercy", "status": "offline", "last_seen": "1970-01-01T00:00:09+00:00"},
        {"site": "grace", "status": "admitted", "last_seen": "never"},
    ],
    "run": {
        "run": "trial-1",
        "status": "running",
        "round": 2,
        "rounds": 5,
        "history": [{"train_loss": 0.9, "validation_loss": 0.8}, {"train_loss": 0.5, "validation_loss": None}],
        "sites": [
            {"site": "anna", "train_loss": None, "validation_loss": None, "left_out": 0},
            {"site": "mercy", "train_loss": 0.4, "validation_loss": 0.3, "left_out": 2},
        ],
        "test": None,
    },
}


def looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, list[tuple[Any, float]]]:
    refused = [{"site": "mercy", "count": 3}, {"site": "mercy", "count": 2}, {"site": "someone", "count": 1}]
    monkeypatch.setattr(room, "status", lambda consortium: {**STATUS, **changes})
    monkeypatch.setattr(room, "refusals", lambda path: refused)
    found = exposed(SimpleNamespace(refusals=tmp_path / "none", state=tmp_path))  # type: ignore[arg-type]
    return {each.name: [(tuple(labels.values()), value) for labels, value in each.samples] for each in found}


def test_a_run_and_its_sites_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(tmp_path, monkeypatch)
    assert found["site_connected"] == [(("anna",), 1), (("mercy",), 0), (("grace",), 0)]
    assert found["site_last_seen_timestamp_seconds"][1:] == [(("mercy",), 9)], "who was never there was never seen"
    assert found["refused_total"] == [(("mercy",), 5), (("someone",), 1)]
    assert (found["run_rounds_done"], found["run_rounds_asked"]) == ([(("trial-1",), 2)], [(("trial-1",), 5)])
    assert found["run_loss"] == [
        (("trial-1", "all", "train"), 0.5),
        (("trial-1", "mercy", "train"), 0.4),
        (("trial-1", "mercy", "validation"), 0.3),
    ], "a loss that a site keeps to itself is exposed to nobody"
    assert found["run_left_out_total"] == [(("trial-1", "anna"), 0), (("trial-1", "mercy"), 2)]
    assert found["disk_free_bytes"][0][1] > 0


def test_a_server_that_is_down_and_has_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = looked(tmp_path, monkeypatch, server={"process": None, "answers": False}, run=None)
    assert found["server_up"] == [((), 0)]
    assert found["refused_total"] == []
    assert not [name for name in found if name.startswith("run")]
