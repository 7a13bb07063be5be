"""Runs that train nothing: a model all parties know is measured at every site, and only measures come back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from safetensors.torch import save_file

from fl_client.app import app as client_app
from fl_client.data.partition import site_parts
from fl_client.simulated_host import _simulated_site
from medveil.contract import ARRAYS, CONFIG, MEASURE, METRICS
from medveil.errors import ConfigError, MedVeilError
from medveil.flower import be_task
from medveil.wire import encode
from models.config import ModelConfig
from models.rollout import rollout
from models.vit import build_vit, normalise
from simulations.config import ExperimentConfig
from simulations.engines import inprocess
from simulations.looked import write_looked
from simulations.plan import Plan, make_plan
from simulations.report.page import write_report

Tiny = Callable[..., ExperimentConfig]
SUMMED = ("kind=delta", "secagg.on=true", "secagg.colluding=0", "server.min_updates=3")
pytestmark = pytest.mark.usefixtures("fresh_sites")


def network(classes: int = 2) -> Any:
    sizes = ModelConfig(image_size=16, patch=4, channels=1, classes=classes, width=24, depth=2, heads=2)
    model = build_vit(sizes, seed=7)
    with torch.no_grad():
        # Fresh heads say nothing of an image: this one has an opinion.
        model.head.weight.mul_(20)
    return model.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("weights") / "known.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network().state_dict().items()}, path)
    return path


@pytest.fixture
def evaluation(tiny: Tiny, weights: Path) -> Tiny:
    def made(*settings: str) -> ExperimentConfig:
        return tiny("task=evaluate", "rounds=1", f"model.pretrained={weights}", *settings)

    return made


def ran(config: ExperimentConfig, out: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Plan, dict[str, Any], list[str]]:
    """Make a run; returns its plan, its summary, and what each reply carried."""
    torch.set_num_threads(1)
    _simulated_site.cache_clear()
    carried: list[str] = []

    def overheard(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        arrays = sorted(reply.content.array_records) if reply.has_content() else ["an error"]
        carried.append(f"{message.metadata.message_type}: {' '.join(arrays)}".strip())
        return reply

    monkeypatch.setattr(inprocess, "client_app", overheard)
    plan = make_plan(config, out)
    inprocess.run_inprocess(plan)
    return plan, json.loads((out / "summary.json").read_text()), carried


def by_hand(npz: Path, chosen: np.ndarray | None = None) -> tuple[float, float, int]:
    """Loss, accuracy and number of images, without a site, a key or a federation."""
    with np.load(npz) as found:
        images, labels = found["images"], found["labels"]
    rows = np.arange(len(labels)) if chosen is None else chosen
    with torch.no_grad():
        logits = network()(normalise(torch.from_numpy(images[rows])[:, None])).double()
    truth = torch.from_numpy(labels[rows]).long()
    loss = float(torch.nn.functional.cross_entropy(logits, truth))
    return loss, float((logits.argmax(1) == truth).double().mean()), len(rows)


@pytest.mark.parametrize(
    "policy",
    [
        ("keys.policy=none",),
        ("keys.policy=per-site",),
        ("keys.policy=shared", "stem.init=adapted", "stem.train=frozen"),
    ],
)
def test_every_labelled_image_is_measured_as_by_hand_and_nothing_else_leaves(
    evaluation: Tiny, tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: tuple[str, ...]
) -> None:
    plan, summary, carried = ran(evaluation(*policy), tmp_path / "run", monkeypatch)
    loss, accuracy, n = by_hand(tiny_npz)
    assert summary["n"] == n == 96
    assert summary["loss"] == pytest.approx(loss, rel=1e-4)
    assert summary["accuracy"] == pytest.approx(accuracy)
    assert 0 < accuracy < 1
    assert carried == ["query:"] * 2 + ["evaluate:"] * 2, "no update, and nobody was asked to train"
    assert (summary["rounds"], summary["status"], summary["measured"]) == (0, "finished", "all")
    assert summary["bytes_up"] == 0
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    assert "nothing was trained" in summary["thief"]["notes"]["wrong_key"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {(each["round"], each["phase"]) for each in lines} == {(0, "test")}
    looked = np.load(write_looked(plan) or "")
    wanted = rollout(network(), normalise(torch.from_numpy(looked["images"])))
    np.testing.assert_allclose(looked["shares"], wanted, atol=1e-6)


def test_a_part_can_be_asked_for(
    evaluation: Tiny, tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, summary, _ = ran(evaluation("evaluate.images=test", "seed=3"), tmp_path / "run", monkeypatch)
    assert plan.source is not None
    parts = [site_parts(plan.source, plan.sites.data, sites=2, index=i, seed=3) for i in range(2)]
    loss, accuracy, n = by_hand(tiny_npz, np.concatenate([each.test for each in parts]))
    assert 0 < n < 48
    assert (summary["n"], summary["measured"]) == (n, "test")
    assert summary["accuracy"] == pytest.approx(accuracy)
    assert summary["loss"] == pytest.approx(loss, rel=1e-4)
    page = write_report(tmp_path / "run").read_text()
    assert "on the test part of each site&#39;s own split, and nothing trained" in page


def test_measures_leave_as_sums_under_masks(
    evaluation: Tiny, tiny_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, summary, carried = ran(evaluation("sites=4", *SUMMED), tmp_path / "run", monkeypatch)
    loss, accuracy, n = by_hand(tiny_npz)
    assert summary["n"] == n
    assert summary["accuracy"] == pytest.approx(accuracy)
    assert summary["loss"] == pytest.approx(loss, rel=1e-4)
    assert carried.count("train.mask: arrays") == 4
    assert not [each for each in carried if each.startswith("train:")]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (("rounds=2",), "'rounds' is not 1, and a model is measured once"),
        (("model.pretrained=false",), "'model.pretrained' is false"),
        (("privacy.unit=example",), "'privacy' is on"),
        (("stem.init=secret", "stem.train=local"), "'stem.init' is secret: that stem stayed"),
        (("keys.policy=shared",), "'stem.init' is public, and nothing trains it"),
        (("stem.warmup=1",), "'stem.warmup' fits a stem"),
        (("train.scope=head",), "'train.scope' is set"),
        (("train.augment=light",), "'train.augment' is set"),
        (("train.minutes=1",), "'train.minutes' is set"),
        (("train.personal=norms",), "'train.personal' is set"),
        (("evaluate.images=train",), "'images' is not known; one of all, test"),
        (("federation=local-only",), "which trains, and task evaluate trains nothing"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    evaluation: Tiny, tmp_path: Path, settings: tuple[str, ...], says: str
) -> None:
    with pytest.raises(MedVeilError) as error:
        make_plan(evaluation(*settings), tmp_path / "run")
    assert says in str(error.value)


@pytest.mark.parametrize("setting", ["server.patience=2", "server.keep=best"])
def test_there_is_no_round_to_choose(
    evaluation: Tiny, tmp_path: Path, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="has one model and no rounds"):
        ran(evaluation(setting), tmp_path / "run", monkeypatch)


def test_a_model_of_other_classes_is_refused(evaluation: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network(3).state_dict().items()}, other)
    with pytest.raises(ConfigError, match="these weights have a head of 3 classes, and 2 are to be told apart"):
        ran(evaluation(f"model.pretrained={other}"), tmp_path / "head", monkeypatch)
    header = {"format": "medveil-model", "version": 5, "domain": "plain", "classes": ["1", "0"]}
    turned = tmp_path / "turned.safetensors"
    save_file(
        {name: tensor.contiguous() for name, tensor in network().state_dict().items()},
        turned,
        metadata={"format": "pt", "medveil": json.dumps(header)},
    )
    with pytest.raises(ConfigError, match=r"names other classes than this run, or in another order; .* 1, 0"):
        ran(evaluation(f"model.pretrained={turned}"), tmp_path / "order", monkeypatch)


def test_a_site_measures_the_agreed_model_once_and_does_nothing_else(evaluation: Tiny, tmp_path: Path) -> None:
    plan = make_plan(evaluation("keys.policy=none"), tmp_path / "run")
    site = _simulated_site(plan.run.to_json(), plan.sites.to_json(), 0, 1)
    public = {name: site.bench.public[name].numpy().copy() for name in site.travelling}
    be_task(run_id=1, node_id=1)

    def answer(kind: str, round_: int, *, planted: float = 0.0, **more: str) -> Message:
        tensors = {**public, "head.bias": public["head.bias"] + np.float32(planted)}
        arrays = ArrayRecord({name: Array(array) for name, array in encode(tensors, "fp32").items()})
        content = RecordDict({ARRAYS: arrays, CONFIG: ConfigRecord({"server-round": round_, **more})})
        message = Message(content, message_type=kind, dst_node_id=2, group_id="1")
        message.metadata.__dict__.update(_message_id="id", _src_node_id=1)
        node = {"partition-id": 0, "num-partitions": 2}
        context = Context(1, 2, node, RecordDict(), plan.run_config())
        return client_app(message, context)

    reply = answer(MessageType.EVALUATE, 0)
    measures = dict(reply.content.metric_records[METRICS])
    assert measures["test-n"] == measures["num-examples"] == 48
    assert not [name for name in measures if name.startswith(("train", "validation", "wrong-key", "public-stem"))]
    assert not reply.content.array_records
    for refused in (
        answer(MessageType.TRAIN, 1),
        answer(MessageType.EVALUATE, 1),
        answer(MessageType.EVALUATE, 1, planted=0.25),
        answer(MessageType.EVALUATE, 0, **{MEASURE: "validation"}),
    ):
        assert refused.has_error()
        assert "measures the one model it began with, once, and trains nothing" in str(refused.error.reason)
    other = answer(MessageType.EVALUATE, 0, planted=0.25)
    assert "is not the model of the run's settings: 'head.bias' differs" in str(other.error.reason)
