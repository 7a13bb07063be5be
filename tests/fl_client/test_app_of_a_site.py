"""The ClientApp: Flower's messages in, Flower's messages out, and no private text on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict, UserConfig

from fl_client.app import app
from fl_client.simulated_host import _simulated_site
from fl_client.start import check_start
from medveil.contract import ARRAYS, CONFIG, METRICS, RUN_KEY, SITE, SITES_KEY
from medveil.errors import FederationError
from medveil.flower import ErrorCode, be_task
from medveil.wire import decode, encode
from simulations.config import ExperimentConfig
from simulations.plan import Plan, make_plan

Tiny = Callable[..., ExperimentConfig]
pytestmark = pytest.mark.usefixtures("fresh_sites")


@pytest.fixture
def plan(tiny: Tiny, tmp_path: Path) -> Plan:
    torch.set_num_threads(1)
    return make_plan(tiny(), tmp_path / "run")


@pytest.fixture(autouse=True)
def identity() -> None:
    """What Flower's runtime settles before an app can make a message."""
    be_task(run_id=1, node_id=1)


def context(config: UserConfig, *, partition: int = 0) -> Context:
    node = {"partition-id": partition, "num-partitions": 2}
    return Context(run_id=1, node_id=2, node_config=dict(node), state=RecordDict(), run_config=config)


def message(kind: str, content: RecordDict) -> Message:
    made = Message(content, message_type=kind, dst_node_id=2, group_id="1")
    made.metadata.__dict__["_message_id"] = "id"
    made.metadata.__dict__["_src_node_id"] = 1
    return made


def tensors(plan: Plan) -> RecordDict:
    site = _simulated_site(plan.run.to_json(), plan.sites.to_json(), 0, 1)
    public = {name: site.bench.public[name].numpy() for name in site.travelling}
    sent = {name: Array(array) for name, array in encode(public, plan.run.wire).items()}
    return RecordDict({ARRAYS: ArrayRecord(sent), CONFIG: ConfigRecord({"server-round": 1})})


def test_query(plan: Plan) -> None:
    reply = app(message(MessageType.QUERY, RecordDict({CONFIG: ConfigRecord()})), context(plan.run_config()))
    row = reply.content.config_records[SITE]
    assert row["site"] == "site-1"
    assert set(row) >= {"classes", "counts", "missing", "n-train", "skipped", "model-hash", "fingerprint", "version"}


@pytest.mark.parametrize(("wire", "kind"), [("fp32", "weights"), ("bf16", "weights"), ("fp32", "delta")])
def test_train(tiny: Tiny, tmp_path: Path, wire: str, kind: str) -> None:
    plan = make_plan(tiny(f"wire={wire}", f"kind={kind}"), tmp_path / "run")
    sent = tensors(plan)
    reply = app(message(MessageType.TRAIN, sent), context(plan.run_config()))
    got = {name: array.numpy() for name, array in reply.content.array_records[ARRAYS].items()}
    base = {name: array.numpy() for name, array in sent.array_records[ARRAYS].items()}
    assert {array.dtype for array in got.values()} == {np.dtype(np.uint16 if wire == "bf16" else np.float32)}
    moved = decode(got, wire)["head.weight"] - (0 if kind == "delta" else decode(base, wire)["head.weight"])
    assert 0 < np.abs(moved).max() < 0.5
    assert reply.content.metric_records[METRICS]["num-examples"] == reply.content.metric_records[METRICS]["train-n"]


def test_evaluate(plan: Plan) -> None:
    reply = app(message(MessageType.EVALUATE, tensors(plan)), context(plan.run_config()))
    assert {"test-accuracy", "validation-loss", "num-examples"} <= set(reply.content.metric_records[METRICS])
    assert not reply.content.array_records


def refused(kind: str, content: RecordDict, config: UserConfig, *, partition: int = 0) -> str:
    reply = app(message(kind, content), context(config, partition=partition))
    assert reply.has_error()
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    reason = reply.error.reason or ""
    assert "\n" not in reason
    return reason


@pytest.mark.parametrize("wire", ["fp32", "bf16"])
def test_a_run_begins_with_its_own_model_and_no_other(tiny: Tiny, tmp_path: Path, wire: str) -> None:
    plan = make_plan(tiny(f"wire={wire}"), tmp_path / "run")

    def planted(round_: int) -> RecordDict:
        sent = tensors(plan)
        given = {name: array.numpy() for name, array in sent.array_records[ARRAYS].items()}
        moved = decode({"head.bias": given["head.bias"]}, wire)["head.bias"]
        moved[0] += np.float32(0.25)
        given["head.bias"] = encode({"head.bias": moved}, wire)["head.bias"]
        arrays = ArrayRecord({name: Array(array) for name, array in given.items()})
        return RecordDict({ARRAYS: arrays, CONFIG: ConfigRecord({"server-round": round_})})

    for kind, round_ in ((MessageType.TRAIN, 1), (MessageType.EVALUATE, 0)):
        reason = refused(kind, planted(round_), plan.run_config())
        assert "is not the model of the run's settings: 'head.bias' differs" in reason
    # Whose updates a later one is made of, a site cannot tell.
    for kind, round_ in ((MessageType.TRAIN, 2), (MessageType.EVALUATE, 1)):
        assert not app(message(kind, planted(round_)), context(plan.run_config())).has_error()


def test_a_model_that_no_training_made_is_a_line_in_the_log(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    reply = app(message(MessageType.TRAIN, tensors(plan)), context(plan.run_config()))
    made = {name: array.numpy() for name, array in reply.content.array_records[ARRAYS].items()}
    for factor, said in ((1, False), (1000, True)):
        name = "blocks.0.mlp.fc1.weight"
        arrays = ArrayRecord({key: Array(array * factor if key == name else array) for key, array in made.items()})
        sent = RecordDict({ARRAYS: arrays, CONFIG: ConfigRecord({"server-round": 2})})
        assert not app(message(MessageType.TRAIN, sent), context(plan.run_config())).has_error()
        assert ("or weights that no training made" in caplog.text) == said


def test_messages_without_what_they_need(plan: Plan) -> None:
    config = plan.run_config()
    assert refused(MessageType.TRAIN, RecordDict(), config).startswith("FederationError: the message has no 'arrays'")
    bare = tensors(plan)
    del bare[CONFIG]
    assert "has no number 'server-round'" in refused(MessageType.TRAIN, bare, config)
    odd = tensors(plan)
    odd.config_records[CONFIG]["server-round"] = True
    assert "no number 'server-round'" in refused(MessageType.TRAIN, odd, config)
    other = tensors(plan)
    other.array_records[ARRAYS]["head.bias"] = Array(np.zeros(2, np.float64))
    assert "is float64, wanted float32" in refused(MessageType.TRAIN, other, config)


def test_settings_that_cannot_serve(plan: Plan) -> None:
    config = plan.run_config()
    query = RecordDict({CONFIG: ConfigRecord()})
    assert "partition 5 of 2" in refused(MessageType.QUERY, query, config, partition=5)
    bad = json.loads(str(config[SITES_KEY]))
    bad["data"]["path"] = "/nowhere.npz"
    said = refused(MessageType.QUERY, query, {**config, SITES_KEY: json.dumps(bad)})
    assert said.startswith("DataError: /nowhere.npz")
    newer = json.loads(str(config[RUN_KEY])) | {"version": 99}
    assert "version 99" in refused(MessageType.QUERY, query, {**config, RUN_KEY: json.dumps(newer)})
    keys = json.loads(str(config[RUN_KEY])) | {"keys": "borrowed"}
    assert "'borrowed' is no key policy" in refused(MessageType.QUERY, query, {**config, RUN_KEY: json.dumps(keys)})


def test_a_real_site_tells_only_the_kind_of_its_error(plan: Plan, caplog: pytest.LogCaptureFixture) -> None:
    config = {key: value for key, value in plan.run_config().items() if key != SITES_KEY}
    said = refused(MessageType.QUERY, RecordDict({CONFIG: ConfigRecord()}), config)
    assert said == "ConfigError: see the log of the site"
    assert "this client has no settings of its own" in caplog.text


def test_a_defect_tells_only_its_kind(
    plan: Plan, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("patient 4711")

    monkeypatch.setattr("fl_client.work.describe", broken)
    said = refused(MessageType.QUERY, RecordDict({CONFIG: ConfigRecord()}), plan.run_config())
    assert said == "ZeroDivisionError: see the log of the site"
    assert "patient 4711" in caplog.text


def test_under_masks_a_model_that_no_clipped_sums_can_have_made_is_refused(plan: Plan) -> None:
    site = _simulated_site(plan.run.to_json(), plan.sites.to_json(), 0, 1)
    given = {name: site.bench.public[name].float().numpy().copy() for name in site.travelling}
    most = 100 * site.run.secagg.clip
    given["head.bias"][0] += np.float32(1.5 * most)
    check_start(site, 1, given)  # Without masks nothing bounds what other sites sent.
    site.run.secagg.on = True
    with pytest.raises(FederationError, match="further from the run's first than 1 round of clipped sums"):
        check_start(site, 1, given)
    check_start(site, 2, given)
    site.run.secagg.clip = 1e30
    given["head.bias"][0] = 1e6
    with pytest.raises(FederationError, match="clipped sums"):
        check_start(site, 2, given)  # Whatever clip a server chooses.
    given["head.bias"][0] = np.nan
    with pytest.raises(FederationError, match="clipped sums"):
        check_start(site, 2, given)
