"""A server that dies after sites agreed opens the very sum they agreed to, and no file that was changed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from secagg_made import CLIP, HEARD, Going, World

from fl_server.secagg.aggregator import Aggregator
from fl_server.secagg.kept import load, save
from medveil.errors import AggregationError, FederationError, FormatError, IntegrityError, StorageError


@pytest.fixture
def going(tmp_path: Path) -> Going:
    made = Going.begin(World(tmp_path))
    made.agreed(made.masked(made.world.names[:4]))
    return made


def finishing(path: Path, world: World) -> Aggregator:
    return Aggregator.finishing(load(path).agreed, world.roster, clip=CLIP, bits=world.bits)


def test_what_was_agreed_is_opened_after_a_restart(going: Going, tmp_path: Path) -> None:
    path, world = tmp_path / "kept" / "round-0001.json", going.world
    save(path, going.aggregator.kept(), heard=HEARD, lost={"s4": "no reply"})
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}
    assert load(path)[1:] == (HEARD, {"s4": "no reply"})
    for name in world.names:
        world.restart(name)
    going.aggregator = finishing(path, world)
    # One of those that agreed is gone for good.
    found = going.opened(world.names[:3])
    assert found.survivors == tuple(world.names[:4])
    assert (found.residues == world.plain(going.task, world.names[:4])).all()
    assert found.sums == [6.0, -8.0]


def test_nothing_is_kept_before_enough_agreed(tmp_path: Path) -> None:
    made = Going.begin(World(tmp_path))
    made.masked(made.world.names)
    with pytest.raises(AggregationError, match="0 sites agreed, and 3 must"):
        made.aggregator.kept()


def test_files_that_were_changed_or_cut_are_refused(going: Going, tmp_path: Path) -> None:
    path, beside = tmp_path / "kept.json", tmp_path / "kept.safetensors"
    save(path, going.aggregator.kept(), heard=HEARD, lost={"s4": "no reply"})
    whole, numbers = json.loads(path.read_text()), beside.read_bytes()
    beside.write_bytes(numbers[:-1] + bytes([numbers[-1] ^ 1]))
    with pytest.raises(IntegrityError, match=r"kept\.safetensors: is not the sum that was agreed to"):
        load(path)
    beside.unlink()
    with pytest.raises(StorageError):
        load(path)
    beside.write_bytes(numbers)
    left = whole["left"]
    for changes, kind in (
        ({"version": 2}, FormatError),
        ({"content": "zz"}, IntegrityError),
        ({"offers": {}}, IntegrityError),
        ({"sealed": {}}, IntegrityError),
        ({"members": {**whole["members"], "key": ["00"] * 5}}, IntegrityError),
        ({"left": {**left, "site": left["site"][:2]}}, IntegrityError),
        ({"heard": {**HEARD, "metrics": {"s0": {"test-loss": "low"}}}}, IntegrityError),
        ({"lost": {"s4": 1}}, IntegrityError),
    ):
        path.write_text(json.dumps({**whole, **changes}))
        with pytest.raises(kind):
            load(path)
    fewer = {name: column[:3] for name, column in left.items()}
    for changes in ({"left": fewer}, {"round": 2}, {"attempt": 1}, {"content": "00" * 32}, {"run": "another"}):
        path.write_text(json.dumps({**whole, **changes}))
        with pytest.raises(FederationError):
            finishing(path, going.world)
