from __future__ import annotations

import json
import os
import stat

import numpy as np
import pytest

from fl_server import checkpoints
from fl_server.checkpoints import Checkpoint
from medveil.errors import FormatError, IntegrityError, StorageError


def made(round_, run="run-1"):
    rng = np.random.default_rng(round_)
    return Checkpoint(
        run=run,
        round=round_,
        tensors={"head.weight": rng.normal(size=(2, 3)).astype(np.float32), "scale": np.array(1.5, np.float32)},
        state={"m/head.weight": rng.normal(size=(2, 3)).astype(np.float32)},
        scalars={"early_stopping": {"best": None}, "seconds": 1.5},
    )


def equal(one, other):
    same = (one.run, one.round, one.scalars) == (other.run, other.round, other.scalars)
    for a, b in ((one.tensors, other.tensors), (one.state, other.state)):
        same &= set(a) == set(b) and all(
            np.array_equal(a[name], b[name]) and a[name].shape == b[name].shape for name in a
        )
    return same


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    path = checkpoints.save(tmp_path / "checkpoints", made(1))
    assert path.name == "round-0001.safetensors"
    assert equal(checkpoints.load(path), made(1))
    document = json.loads(path.with_suffix(".json").read_text())
    assert document["format"] == "medveil-checkpoint" and document["version"] == 1


def test_the_newest_is_loaded(tmp_path):
    assert checkpoints.load_newest(tmp_path, run="run-1") is None
    assert checkpoints.load_newest(tmp_path / "none", run="run-1") is None
    for round_ in (1, 2, 10, 9):
        checkpoints.save(tmp_path, made(round_))
    assert checkpoints.load_newest(tmp_path, run="run-1").round == 10


def test_rounds_past_9999_stay_in_order(tmp_path):
    for round_ in (9999, 10000):
        checkpoints.save(tmp_path, made(round_))
    assert checkpoints.load_newest(tmp_path, run="run-1").round == 10000


def damage_tensors(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def cut_tensors(path):
    path.write_bytes(path.read_bytes()[:-40])


def cut_sidecar(path):
    sidecar = path.with_suffix(".json")
    sidecar.write_bytes(sidecar.read_bytes()[:-20])


def lose_tensors(path):
    path.unlink()


def empty_sidecar(path):
    path.with_suffix(".json").write_text('{"format": "medveil-checkpoint", "version": 1}')


@pytest.mark.parametrize("harm", [damage_tensors, cut_tensors, cut_sidecar, lose_tensors, empty_sidecar])
def test_a_damaged_newest_is_skipped_and_said_so(tmp_path, harm, caplog):
    checkpoints.save(tmp_path, made(1))
    harm(checkpoints.save(tmp_path, made(2)))
    assert equal(checkpoints.load_newest(tmp_path, run="run-1"), made(1))
    assert "skipping a damaged checkpoint" in caplog.text and "round-0002" in caplog.text
    skipped = []
    checkpoints.load_newest(tmp_path, run="run-1", skipped=skipped)
    assert len(skipped) == 1 and skipped[0].startswith("round-0002 ")


def test_tensors_without_their_sidecar_are_no_checkpoint(tmp_path):
    checkpoints.save(tmp_path, made(1))
    checkpoints.save(tmp_path, made(2)).with_suffix(".json").unlink()
    assert checkpoints.load_newest(tmp_path, run="run-1").round == 1


def test_no_whole_checkpoint_among_several_is_an_error(tmp_path):
    for round_ in (1, 2):
        damage_tensors(checkpoints.save(tmp_path, made(round_)))
    with pytest.raises(IntegrityError, match="none of 2 checkpoints is whole"):
        checkpoints.load_newest(tmp_path, run="run-1")


def test_another_run_and_a_newer_version_are_refused_by_name(tmp_path):
    path = checkpoints.save(tmp_path, made(1))
    with pytest.raises(FormatError, match="is of run run-1; this is run run-2"):
        checkpoints.load_newest(tmp_path, run="run-2")
    sidecar = path.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(FormatError, match="version 2; this MedVeil reads up to 1"):
        checkpoints.load_newest(tmp_path, run="run-1")


def test_old_ones_go_when_only_some_are_kept(tmp_path):
    for round_ in range(1, 6):
        checkpoints.save(tmp_path, made(round_), keep=2)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [
        "round-0004.json",
        "round-0004.safetensors",
        "round-0005.json",
        "round-0005.safetensors",
    ]


def test_leftovers_of_a_killed_writer_are_swept(tmp_path):
    checkpoints.save(tmp_path, made(1))
    (tmp_path / ".round-0002.safetensors.abc.part").write_bytes(b"half")
    checkpoints.load_newest(tmp_path, run="run-1")
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


def test_a_disk_that_refuses_is_named_and_older_checkpoints_stay(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, made(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="no space left on device; free some space"):
        checkpoints.save(tmp_path, made(2))
    monkeypatch.undo()
    assert checkpoints.load_newest(tmp_path, run="run-1").round == 1


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_checkpoints_are_their_owners_alone_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        path = checkpoints.save(tmp_path / "checkpoints", made(1))
    finally:
        os.umask(before)
    assert mode(path.parent) == 0o700
    assert {mode(each) for each in path.parent.iterdir()} == {0o600}


def test_a_folder_that_an_older_version_left_open_is_closed(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir(mode=0o755)
    (folder / "round-0000.safetensors").write_bytes(b"of old")
    checkpoints.save(folder, made(1))
    assert mode(folder) == 0o700


def test_what_a_run_leaves_of_its_model_is_the_owners_alone(make_world):
    world = make_world(2, rounds=1)
    world.federate()
    files = list((world.out / "checkpoints").iterdir())
    assert {mode(each) for each in files} == {0o600} and len(files) == 2
    assert not [each for each in world.out.rglob("*.safetensors") if each not in files]
