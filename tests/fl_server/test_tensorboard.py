"""TensorBoard files say what metrics.jsonl says: read back by TensorBoard's own reader."""

from __future__ import annotations

import logging

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from fl_server import tensorboard
from fl_server.metrics import MEASURES
from medveil.errors import ConfigError

SCALARS = {*MEASURES, "n", "seconds", "bytes_up", "bytes_down"}


def read(world):
    """What a viewer shows: by run, scalar and step."""
    shown = EventMultiplexer(purge_orphaned_data=True).AddRunsFromDirectory(str(world.out / tensorboard.FOLDER))
    shown.Reload()
    points = [
        ((*run.split("/"), tag, event.step), event.value)
        for run, kinds in shown.Runs().items()
        for tag in kinds["scalars"]
        for event in shown.Scalars(run, tag)
    ]
    found = dict(points)
    assert len(found) == len(points), "a round is shown twice"
    return found


def expected(world):
    return {
        (line["site"], line["phase"], name, line["round"]): pytest.approx(line[name], rel=1e-6)
        for line in world.lines()
        for name in SCALARS
        if line[name] is not None
    }


def test_a_viewer_shows_every_number_of_every_line_and_no_other(make_world):
    world = make_world(3, rounds=3)
    world.federate(tensorboard=True)
    shown = read(world)
    assert shown == expected(world)
    assert {key[:2] for key in shown} >= {("site-1", "train"), ("all", "train"), ("all", "validation"), ("all", "test")}


def test_after_a_resume_a_viewer_shows_each_round_once(make_world):
    world = make_world(3, rounds=4)
    # Two sites of round 3 have answered when the run ends: a resumed one trains round 3 anew.
    world.site("site-3").fails = lambda kind, round_: KeyboardInterrupt() if (kind, round_) == ("train", 3) else None
    with pytest.raises(KeyboardInterrupt):
        world.federate(tensorboard=True)
    before = read(world)
    assert ("site-1", "train", "loss", 3) in before
    world.site("site-3").fails = lambda kind, round_: None
    # It measures differently now, so that what was written before would show.
    world.site("site-1").validation = lambda round_: 0.125
    world.federate(tensorboard=True, resume=True)
    shown = read(world)
    assert shown == expected(world)


def test_without_being_asked_nothing_is_written(make_world):
    world = make_world(2, rounds=1)
    world.federate()
    assert not (world.out / tensorboard.FOLDER).exists()


def test_a_disk_that_refuses_the_files_does_not_stop_the_run(make_world, caplog):
    world = make_world(2, rounds=2)
    world.out.mkdir()
    (world.out / tensorboard.FOLDER).write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, logger="medveil.server"):
        assert world.federate(tensorboard=True)["status"] == "finished"
    assert [record.getMessage() for record in caplog.records].count(
        "no more TensorBoard files are written: Not a directory"
    ) == 1


def test_where_it_is_not_installed_nothing_is_started(make_world, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    world = make_world(2, rounds=1)
    with pytest.raises(ConfigError, match=r"TensorBoard is not installed.*pip install 'medveil\[tensorboard\]'"):
        world.federate(tensorboard=True)
    assert not world.grid.sent and not world.out.exists()
