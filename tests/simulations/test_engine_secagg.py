"""Runs whose updates are summed under masks, in one process: equal to the same without, and whoever is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, Message

from fl_client.app import app as client_app
from fl_client.secagg.member import Member
from fl_client.simulated_host import _simulated_site
from fl_server import checkpoints
from medveil.contract import ARRAYS, CONFIG
from medveil.errors import AggregationError, ConfigError
from medveil.secagg import masks
from medveil.secagg.fixed import FixedPoint
from medveil.wire import Tensors, add_delta, decode, unpack
from simulations.config import ExperimentConfig
from simulations.engines import inprocess
from simulations.plan import make_plan

Tiny = Callable[..., ExperimentConfig]
Lost = Collection[tuple[str, str, int]]
SITES = [f"site-{i + 1}" for i in range(4)]
SUMMED = ("sites=4", "kind=delta", "secagg.on=true", "secagg.colluding=0", "server.min_updates=3", "rounds=2")
pytestmark = pytest.mark.usefixtures("fresh_sites")


@dataclass
class Ran:
    """A run folder, and what passed while it was made."""

    out: Path
    run: str = ""
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    arrays: list[tuple[str, str, tuple[int, ...]]] = field(default_factory=list)
    updates: dict[tuple[int, str], tuple[np.ndarray, Any]] = field(default_factory=dict)

    def tensors(self, round_: int) -> Tensors:
        return checkpoints.load_round(self.out / "checkpoints", round_, run=self.run).tensors

    def lines(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in (self.out / "metrics.jsonl").read_text().splitlines()]
        return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.out / "manifest.json").read_text())

    def summary(self) -> dict[str, Any]:
        return json.loads((self.out / "summary.json").read_text())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Make a run, or go on with it, where the sites named in `lost` do not answer these messages of these rounds."""
    torch.set_num_threads(1)
    masking = Member.mask

    def made(config: ExperimentConfig, out: Path, *, lost: Lost = ()) -> Ran:
        _simulated_site.cache_clear()
        ran = Ran(out)

        def overheard(message: Message, context: Context) -> Message:
            kind, site = message.metadata.message_type, SITES[int(context.node_config["partition-id"])]
            key = (kind, site, int(dict(message.content[CONFIG]).get("server-round", 0)))
            ran.asked.append(key)
            if key in lost:
                raise RuntimeError("it was lost")
            reply = client_app(message, context)
            records = reply.content.array_records if reply.has_content() else {}
            ran.arrays += [(kind, each.dtype, tuple(each.shape)) for each in records.get(ARRAYS, {}).values()]
            return reply

        def masks_(self: Member, task: Any, *given: Any) -> Any:
            ran.updates[task.number, self._name] = (given[2], task)
            return masking(self, task, *given)

        monkeypatch.setattr(inprocess, "client_app", overheard)
        monkeypatch.setattr(Member, "mask", masks_)
        resume = out.exists()
        plan = make_plan(config, out, run=ran.manifest()["run"] if resume else None)
        ran.run = plan.run.run
        inprocess.run_inprocess(plan, resume=resume)
        return ran

    return made


def equal(a: Tensors, b: Tensors) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def rounded(ran: Ran, round_: int, sites: Collection[str], fixed: FixedPoint) -> np.ndarray:
    """The mean of these sites' updates in fixed point, computed beside the protocol."""
    given = [ran.updates[round_, site] for site in sites]
    task = given[0][1]
    words = [fixed.encode(update, task.weight([site])) for site, (update, _) in zip(sites, given, strict=True)]
    total = np.sum(np.stack(words), axis=0, dtype=np.uint32)
    return fixed.decode(total & fixed.mask, task.weight(sites))


def off_by(ran: Ran, round_: int, fixed: FixedPoint) -> tuple[float, float]:
    """How far that is from the mean in double precision, as a part of its length; and how far it should be."""
    task = ran.updates[round_, SITES[0]][1]
    exact = sum(ran.updates[round_, site][0].astype(np.float64) * task.weight([site]) for site in SITES)
    found, length = rounded(ran, round_, SITES, fixed), np.linalg.norm(exact)
    off = float(np.linalg.norm(found - exact) / length)
    return off, float(fixed.rounding(len(found), len(SITES), 1.0) / length)


def mean_of(ran: Ran, round_: int, sites: Collection[str], base: Tensors) -> Tensors:
    """What FedAvg makes of these sites' updates in fixed point, computed beside the protocol."""
    flat = rounded(ran, round_, sites, FixedPoint(4.0, 32, 4))
    return add_delta(base, decode(unpack(flat, {name: each.shape for name, each in base.items()}), "fp32"))


def test_masks_change_nothing_but_what_is_seen(
    tiny: Tiny, tmp_path: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = run(tiny(*SUMMED), tmp_path / "masked")
    plain = run(tiny("sites=4", "kind=delta", "rounds=2"), tmp_path / "plain")
    monkeypatch.setattr(masks, "mask", lambda vector, **keys: None)
    monkeypatch.setattr(masks, "mask_wide", lambda vector, **keys: None)
    bare = run(tiny(*SUMMED), tmp_path / "bare")
    assert masked.lines() == bare.lines()
    for round_ in (1, 2):
        assert equal(masked.tensors(round_), bare.tensors(round_)), "the same, bit for bit, without masks"
        for clip, bits, most in ((1.0, 24, 1e-3), (4.0, 24, 4e-3), (4.0, 32, 1.6e-5)):
            off, wanted = off_by(masked, round_, FixedPoint(clip, bits, 4))
            assert off < most
            assert 0.8 * wanted < off < 2 * wanted, "sites whose numbers are alike round alike, four at most"
    assert equal(masked.tensors(2), mean_of(masked, 2, SITES, masked.tensors(1)))
    for name, tensor in masked.tensors(2).items():
        assert np.abs(tensor - plain.tensors(2)[name]).max() < 1e-5, "fixed point is as good as fp32"
    size = sum(each.size for each in masked.tensors(1).values())
    assert {*masked.arrays} == {("train.mask", "uint8", (4 * size,)), ("train.mask", "uint8", (0,))}
    assert masked.summary()["secagg"] == {"on": True, "bits": 32, "clip": 4.0, "clipped": 0, "updates": 8}
    for measure in ("loss", "accuracy", "balanced_accuracy", "n"):
        assert masked.summary()[measure] == pytest.approx(plain.summary()[measure], rel=1e-3)


def test_a_site_lost_at_any_step_costs_the_others_nothing(tiny: Tiny, tmp_path: Path, run: Callable[..., Ran]) -> None:
    lost = [("train.mask", "site-1", 1), ("query.agree", "site-2", 2), ("query.unmask", "site-3", 3)]
    ran = run(tiny(*SUMMED, "rounds=3", "server.keep=best"), tmp_path / "run", lost=lost)
    assert [(each["round"], each["site"]) for each in ran.manifest()["left_out"]] == [(1, "site-1")]
    assert [each["sites"] for each in ran.manifest()["sums"]] == [SITES[1:], SITES, SITES]
    assert equal(ran.tensors(2), mean_of(ran, 2, SITES, ran.tensors(1)))
    assert equal(ran.tensors(3), mean_of(ran, 3, SITES, ran.tensors(2)))
    assert ran.manifest()["status"] == "finished"
    assert not list((tmp_path / "run" / "sums").iterdir())
    assert ran.asked[-4:] == [("query.end", site, 3) for site in SITES], "last of all"
    validated = [line for line in ran.lines() if (line["site"], line["phase"]) == ("all", "validation")]
    kept = ran.summary()["kept"]
    assert kept["by"] == "loss"
    assert str(2**40 + 3) in ran.manifest()["attempts"], "the last round is validated, in a sum of its own"
    assert {line["round"] for line in validated} == {0, 1, 2, 3}
    assert kept["value"] == min(line["loss"] for line in validated if line["round"])


def test_too_few_end_the_run_in_words_and_it_goes_on(tiny: Tiny, tmp_path: Path, run: Callable[..., Ran]) -> None:
    """First too few mask, then too few help to open what was agreed on, which is opened when the run is taken up."""
    out, config = tmp_path / "run", tiny(*SUMMED)
    lost = [("train.mask", "site-1", 1), ("train.mask", "site-4", 1)]
    with pytest.raises(AggregationError, match=r"2 sites are left, and 3 must: .*site-1: .*site-4: .*--resume"):
        run(config, out, lost=lost)
    lost = [("query.unmask", "site-1", 2), ("query.unmask", "site-4", 2)]
    with pytest.raises(AggregationError, match=r"round 2: 2 sites helped, and 3 must: the attempt is lost"):
        run(config, out, lost=lost)
    # One of them stays away: its update is in what was agreed to.
    again = run(config, out, lost=[("query.unmask", "site-1", 2)])
    assert ("train", "site-2", 2) not in again.asked
    assert again.manifest()["attempts"] == {"1": 1, "2": 0, str(2**41 + 2): 0}
    assert not list((out / "sums").iterdir())
    assert [line["round"] for line in again.lines() if (line["phase"], line["site"]) == ("train", "all")] == [1, 2]
    assert again.manifest()["left_out"] == [], "of an attempt that was made anew nothing counts"
    whole = run(config, tmp_path / "whole")
    assert equal(again.tensors(2), whole.tensors(2))


def test_what_sites_told_is_not_lost_with_the_server_that_heard_it(
    tiny: Tiny, tmp_path: Path, run: Callable[..., Ran]
) -> None:
    """The server stops between agreement and opening: of a round, and of the last evaluation."""
    out, config = tmp_path / "run", tiny(*SUMMED, "rounds=1")
    lost = [("train.mask", "site-2", 1)]
    away = [*lost, *(("query.unmask", site, 1) for site in ("site-3", "site-4"))]
    with pytest.raises(AggregationError, match="1 sites helped"):
        run(config, out, lost=away)
    # Round 1 is opened, and nobody measures its model.
    with pytest.raises(AggregationError, match="0 sites made an offer"):
        run(config, out, lost=[("evaluate", site, 1) for site in SITES])
    with pytest.raises(AggregationError, match="1 sites helped"):
        run(config, out, lost=away)
    went_on, whole = run(config, out), run(config, tmp_path / "whole", lost=lost)
    assert not [kind for kind, *_ in went_on.asked if kind in {"train", "evaluate"}]
    assert went_on.lines() == whole.lines()
    assert went_on.manifest()["left_out"] == whole.manifest()["left_out"]
    assert set(went_on.summary()["sites"]) == set(SITES)
    for field_ in ("sites", "rests_on", "thief", "loss", "bytes_up", "bytes_down"):
        assert went_on.summary()[field_] == whole.summary()[field_], field_


def test_a_round_that_was_agreed_on_is_repeated_with_the_same_sites_alone(
    tiny: Tiny, tmp_path: Path, run: Callable[..., Ran]
) -> None:
    out, config = tmp_path / "run", tiny(*SUMMED, "rounds=1")
    with pytest.raises(AggregationError, match="2 sites helped"):
        run(config, out, lost=[("query.unmask", "site-1", 1), ("query.unmask", "site-4", 1)])
    for path in (out / "sums").iterdir():
        path.unlink()
    with pytest.raises(AggregationError, match="0 sites agreed, and 3 must") as refused:
        run(config, out, lost=[("train.mask", "site-2", 1)])
    assert refused.value.reason == "signatures"
    assert run(config, out).manifest()["status"] == "finished"


def test_refused_before_any_image_is_looked_at(tiny: Tiny, tmp_path: Path) -> None:
    for settings, says in (
        (("kind=weights",), "'kind' is not delta"),
        (("sites=2",), "roster: has 2 sites"),
        (("server.strategy=fedmedian",), "server.strategy: is fedmedian"),
        (("federation=local-only",), "server.strategy: is local-only"),
    ):
        with pytest.raises(ConfigError, match=says):
            make_plan(tiny(*SUMMED, "data.path=/nowhere.npz", *settings), tmp_path / "run")


def test_what_each_site_has_for_itself_is_in_no_sum(
    tiny: Tiny, tmp_path: Path, run: Callable[..., Ran], caplog: pytest.LogCaptureFixture
) -> None:
    settings = (*SUMMED, "rounds=1")
    none = run(tiny(*settings), tmp_path / "none")
    ditto = run(tiny(*settings, "train.personal=ditto"), tmp_path / "ditto")
    assert "rounding" not in caplog.text
    coarse = ("secagg.bits=24", "secagg.clip=64")
    norms = run(tiny(*settings, *coarse, "train.personal=norms"), tmp_path / "norms")
    assert "round 1: rounding moved the mean of updates by 0.0" in caplog.text
    for ran in (none, ditto, norms):
        assert ran.summary()["status"] == "finished"
        assert ran.summary()["secagg"]["on"] is True
        size = sum(each.size for each in ran.tensors(1).values())
        # Sums of measures alone have no update in them.
        assert {update.size for update, _ in ran.updates.values()} == {0, size}
    assert equal(ditto.tensors(1), none.tensors(1))
    said = [np.load(ran.out / "sites" / "site-1" / "predictions.npz")["probabilities"] for ran in (none, ditto)]
    assert not np.array_equal(*said), "its own model answers for a site"
    kept = none.tensors(1).keys() - norms.tensors(1).keys()
    assert kept == {name for name in none.tensors(1) if "norm" in name}
