from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from fl_server import checkpoints
from fl_server.watch import Watcher
from medveil.errors import ConfigError, FederationError, FormatError, IntegrityError

NAMES = ["fedavg", "fedavgm", "fedadam", "fedyogi", "fedtrimmedavg", "multikrum", "local-only"]


def interrupt(world, kind="train", round_=3, site="site-2"):
    world.site(site).fails = lambda k, r: KeyboardInterrupt() if (k, r) == (kind, round_) else None


def calm(world):
    for site in world.sites:
        site.fails = lambda kind, round_: None


def state(world, round_):
    return checkpoints.load(world.out / "checkpoints" / f"round-{round_:04d}.json")


def without_time(lines):
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def same_bits(one, other):
    return set(one) == set(other) and all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("strategy", NAMES)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(make_world, strategy):
    whole, broken = make_world(5, rounds=4, out="whole"), make_world(5, rounds=4, out="broken")
    server = {"strategy": strategy, "fraction": 1.0, "trim": 0.2, "patience": 9}
    whole.federate(**server)
    interrupt(broken)
    with pytest.raises(KeyboardInterrupt):
        broken.federate(**server)
    assert broken.manifest()["status"] == "interrupted"
    calm(broken)
    # Flower gives the sites other ids after a restart; nothing may hang on them.
    broken.grid.sites = {node + 50: site for node, site in broken.grid.sites.items()}
    summary = broken.federate(resume=True, **server)
    assert summary["status"] == "finished" and broken.manifest()["status"] == "finished"
    for round_ in range(1, 5):
        one, other = state(whole, round_), state(broken, round_)
        assert same_bits(one.tensors, other.tensors) and same_bits(one.state, other.state)
        assert one.scalars["early_stopping"] == other.scalars["early_stopping"]
    assert without_time(whole.lines()) == without_time(broken.lines())
    expected = json.loads((whole.out / "summary.json").read_text())
    assert {**summary, "seconds": 0} == {**expected, "seconds": 0}


def test_strategies_with_a_memory_have_it_in_the_checkpoint(make_world):
    adam, alone = make_world(3, out="adam"), make_world(3, out="alone")
    adam.federate(strategy="fedadam")
    alone.federate(strategy="local-only")
    assert {name.partition("/")[0] for name in state(adam, 2).state} == {"m", "v"}
    assert {name.partition("/")[0] for name in state(alone, 2).state} == {"site-1", "site-2", "site-3"}


def test_sampling_of_sites_resumes_too(make_world):
    whole, broken = make_world(6, rounds=4, out="whole"), make_world(6, rounds=4, out="broken")
    whole.federate(fraction=0.5)

    class Stop(Watcher):
        def phase(self, round_, phase, sites):
            if round_ == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.federate(fraction=0.5, watch=Stop())
    broken.federate(fraction=0.5, resume=True)
    assert same_bits(state(whole, 4).tensors, state(broken, 4).tensors)


def test_a_damaged_newest_checkpoint_costs_one_round(make_world, caplog):
    whole, broken = make_world(4, rounds=4, out="whole"), make_world(4, rounds=4, out="broken")
    whole.federate(strategy="fedadam")
    interrupt(broken, round_=4)
    with pytest.raises(KeyboardInterrupt):
        broken.federate(strategy="fedadam")
    newest = broken.out / "checkpoints" / "round-0003.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8])
    calm(broken)
    broken.federate(strategy="fedadam", resume=True)
    assert "skipping a damaged checkpoint" in caplog.text
    assert same_bits(state(whole, 4).tensors, state(broken, 4).tensors)
    assert without_time(whole.lines()) == without_time(broken.lines())


def test_killed_in_round_1_starts_again(make_world):
    whole, broken = make_world(3, out="whole"), make_world(3, out="broken")
    whole.federate()
    interrupt(broken, round_=1)
    with pytest.raises(KeyboardInterrupt):
        broken.federate()
    # What kill -9 leaves: the manifest says it still runs, and a line is half written.
    manifest = broken.out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"interrupted"', '"running"'))
    with (broken.out / "metrics.jsonl").open("a") as stream:
        stream.write('{"round": 1, "si')
    calm(broken)
    broken.federate(resume=True)
    assert same_bits(state(whole, 2).tensors, state(broken, 2).tensors)
    assert without_time(whole.lines()) == without_time(broken.lines())


def test_killed_in_the_evaluation_only_evaluates_again(make_world):
    world = make_world(3)
    interrupt(world, kind="evaluate", round_=2)
    with pytest.raises(KeyboardInterrupt):
        world.federate()
    calm(world)
    world.grid.sent.clear()
    assert world.federate(resume=True)["status"] == "finished"
    assert {kind for kind, _ in world.grid.sent} == {"query", "evaluate"}


def test_a_finished_run_says_so_and_returns_its_summary(make_world):
    world = make_world(3)
    summary = world.federate()
    world.grid.sent.clear()
    said = []

    class Ears(Watcher):
        def say(self, text):
            said.append(text)

    assert world.federate(resume=True, watch=Ears()) == summary
    assert world.grid.sent == [] and "already finished" in said[0]


def test_what_was_left_out_before_is_still_written_down(make_world, site_error):
    world = make_world(4, rounds=3)
    world.site("site-4").fails = lambda kind, r: site_error("DataError: x") if (kind, r) == ("train", 1) else None
    interrupt(world)
    with pytest.raises(KeyboardInterrupt):
        world.federate()
    calm(world)
    world.federate(resume=True)
    assert [(each["round"], each["site"]) for each in world.manifest()["left_out"]] == [(1, "site-4")]
    assert len(world.manifest()["resumed"]) == 1


def test_nothing_to_resume(make_world):
    with pytest.raises(ConfigError, match="holds no run to resume"):
        make_world(3).federate(resume=True)


def interrupted(make_world):
    world = make_world(3, rounds=3)
    interrupt(world)
    with pytest.raises(KeyboardInterrupt):
        world.federate()
    calm(world)
    return world


def test_other_settings_than_the_runs_are_refused_by_name(make_world):
    world = interrupted(make_world)
    with pytest.raises(ConfigError, match="'strategy' is 'fedadam'; the run was started with 'fedavg'"):
        world.federate(resume=True, strategy="fedadam")
    with pytest.raises(ConfigError, match=r"'fraction' is 0.5; the run was started with 1.0"):
        world.federate(resume=True, fraction=0.5)
    world.run.seed = 8
    with pytest.raises(ConfigError, match="'seed' is 8; the run was started with 3"):
        world.federate(resume=True)


def test_deadlines_may_change(make_world):
    assert interrupted(make_world).federate(resume=True, round_deadline=30.0)["status"] == "finished"


def test_a_site_that_comes_back_with_another_key_is_refused(make_world):
    keyed = {"scheme": "block-pixel", "block": 8}
    world = make_world(3, rounds=3, keys="per-site", stem_init="adapted", stem_train="local", cipher=keyed)
    for site in world.sites:
        site.row = {"scheme": "block-pixel", "fingerprint": f"sim-{site.name}"}
    interrupt(world)
    with pytest.raises(KeyboardInterrupt):
        world.federate()
    calm(world)
    world.site("site-3").row["fingerprint"] = "sim-new"
    with pytest.raises(FederationError, match="site-3: 'fingerprint' is 'sim-new'; wanted 'sim-site-3', with which"):
        world.federate(resume=True)


def test_checkpoints_of_another_run_or_model_are_refused(make_world):
    world = interrupted(make_world)
    folder = world.out / "checkpoints"
    for sidecar in folder.glob("*.json"):
        sidecar.write_text(sidecar.read_text().replace(world.run.run, "another"))
    with pytest.raises(FormatError, match="is of run another"):
        world.federate(resume=True)
    shutil.rmtree(folder)
    other = checkpoints.Checkpoint(world.run.run, 1, {"other": np.zeros(2, np.float32)})
    checkpoints.save(folder, other)
    with pytest.raises(IntegrityError, match="other tensors than the model"):
        world.federate(resume=True)


def test_a_finished_run_may_be_given_more_rounds(make_world):
    long, world = make_world(3, rounds=5, out="long"), make_world(3, rounds=3, out="short")
    long.federate()
    world.federate()
    world.run.rounds = 5
    assert world.federate(resume=True)["rounds"] == 5
    # These sites follow no schedule: what is left is what the longer run has.
    assert same_bits(state(world, 5).tensors, state(long, 5).tensors)
    assert without_time(world.lines()) == without_time(long.lines())
    manifest = world.manifest()
    assert (manifest["status"], manifest["run_config"]["rounds"]) == ("finished", 5)
    assert [(each["from"], each["to"], each["after"]) for each in manifest["lengthened"]] == [(3, 5, 3)]
    assert "scheduled for fewer" in manifest["went_on"]


def test_more_rounds_are_the_only_setting_that_may_change(make_world):
    world = make_world(3, rounds=3)
    world.federate()
    world.run.rounds, world.run.seed = 5, world.run.seed + 1
    with pytest.raises(ConfigError, match="'seed'"):
        world.federate(resume=True)
    assert world.manifest()["status"] == "finished"
    world.run.rounds, world.run.seed = 2, world.run.seed - 1
    assert world.federate(resume=True)["rounds"] == 3


def test_a_run_that_stopped_early_goes_on_with_new_patience(make_world):
    world = make_world(3, rounds=9)
    for site in world.sites:
        site.validation = lambda round_: 0.5 if round_ == 1 else 1.0 + round_
    assert world.federate(patience=2)["rounds"] == 4
    world.run.rounds = 10
    interrupt(world, round_=6)
    with pytest.raises(KeyboardInterrupt):
        world.federate(patience=2, resume=True)
    calm(world)
    # It is not told to go on anew by being taken up again.
    assert world.federate(patience=2, resume=True)["rounds"] == 6
    assert world.manifest()["status"] == "stopped-early"
