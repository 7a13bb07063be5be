"""Drop-outs and stragglers of a simulation: as often as said, the same when repeated, and nothing that went wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict

from medveil.errors import ConfigError
from simulations import statistics
from simulations.config import ABSENT, AbsentConfig, ExperimentConfig
from simulations.engines.absent import AbsentGrid
from simulations.resolved import resolved
from simulations.run import read_manifest, run_experiment

AWAY, LATE = ABSENT
SITES = 4


def rounds(absent: AbsentConfig, *, seed: int, count: int, kind: str = "train") -> tuple[list[list[str]], list[int]]:
    """Why each site has no part in each round, empty where it has; and which rounds each site worked in."""
    worked: list[int] = []

    def app(message: Message, _: Context) -> Message:
        worked.append(message.metadata.dst_node_id)
        return Message(RecordDict(), reply_to=message)

    nodes: list[dict[str, Any]] = [{"partition-id": index} for index in range(SITES)]
    grid = AbsentGrid(app, nodes, {}, absent=absent, seed=seed)  # type: ignore[arg-type]
    found = []
    for round_ in range(1, count + 1):
        messages = [
            grid.create_message(RecordDict({"config": ConfigRecord({"server-round": round_})}), kind, node, "")
            for node in grid.get_node_ids()
        ]
        replies = grid.send_and_receive(messages)
        found.append([reply.error.reason if reply.has_error() else "" for reply in replies])
    return found, worked


def test_sites_are_absent_as_often_as_said_and_the_same_ones_again() -> None:
    absent = AbsentConfig(away=0.2, late=0.1)
    found, worked = rounds(absent, seed=3, count=500)
    flat = [why for each in found for why in each]
    assert flat.count(AWAY) / 2000 == pytest.approx(0.2, abs=0.03)
    assert flat.count(LATE) / 2000 == pytest.approx(0.1, abs=0.02)
    # Who is late worked for nothing, who is away did not.
    assert len(worked) == 2000 - flat.count(AWAY)
    assert rounds(absent, seed=3, count=20)[0] == found[:20]
    assert rounds(absent, seed=4, count=20)[0] != found[:20]
    assert len({tuple(each) for each in found}) > 10


def test_one_stays_and_measuring_misses_nobody() -> None:
    found, _ = rounds(AbsentConfig(away=0.6, late=0.39), seed=0, count=60)
    assert max(each.count("") for each in found) >= 1
    assert min(each.count("") for each in found) == 1
    assert rounds(AbsentConfig(away=0.9), seed=0, count=5, kind="evaluate")[0] == [[""] * SITES] * 5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["absent.away=0.6", "absent.late=0.4"], "together below 1"),
        (["absent.away=-0.1"], "chances of 0 or more"),
        (["absent.away=0.1", "engine=flower"], "engine=inprocess"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tiny: Callable[..., ExperimentConfig], tmp_path: Path, settings: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        resolved(tiny(*settings), tmp_path)


def test_a_run_with_drop_outs_is_whole_and_tells_of_them(
    tiny: Callable[..., ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(statistics, "add_intervals", lambda _: None)
    config = tiny("rounds=4", "model.depth=1", "absent.away=0.3", "absent.late=0.2", "data.partition.min_per_site=4")
    done = run_experiment(config, tmp_path / "RUN", progress=False, report=lambda run: run)
    told = read_manifest(tmp_path / "RUN")["left_out"]
    assert {each["reason"] for each in told} <= {*ABSENT}
    assert told
    assert not done.partial
    assert done.summary["status"] == "finished"
