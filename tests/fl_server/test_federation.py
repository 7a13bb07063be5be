from __future__ import annotations

from fl_server import checkpoints


def test_fedavg_end_to_end(make_world):
    world = make_world(4)
    summary = world.federate()
    assert summary["status"] == "finished"
    assert world.manifest()["status"] == "finished"
    assert checkpoints.load_newest(world.out / "checkpoints", run=world.run.run).round == 2
