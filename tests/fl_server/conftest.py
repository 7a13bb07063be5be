from __future__ import annotations

import functools
import importlib
import io
import json
import math
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fl_server.config import ServerConfig, ServerSettings
from fl_server.federation import Federation
from fl_server.initial import initial_model
from medveil.contract import ARRAYS, CONFIG, METRICS, SITE, RunConfig
from medveil.flower import ErrorCode, NodeInfo, be_task
from medveil.versions import medveil_version
from medveil.wire import Tensors, decode, delta, encode

CLASSES = ["healthy", "ill"]
MODEL = {
    "name": "vit_tiny_patch16_224",
    "image_size": 16,
    "patch": 8,
    "channels": 1,
    "classes": 2,
    "width": 32,
    "depth": 1,
    "heads": 2,
}


@pytest.fixture(autouse=True)
def fresh_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's app changes Flower's grid for its process: give it back as it was."""
    grid = importlib.import_module("flwr.superlink.grid.http_grid")
    monkeypatch.setattr(grid, "inflate_object_from_contents", grid.inflate_object_from_contents)
    monkeypatch.setattr(grid.RuntimeHttpClient, "PullMessages", grid.RuntimeHttpClient.PullMessages)


def make_run(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run": "11111111-2222-3333-4444-555555555555",
        "seed": 3,
        "rounds": 2,
        "classes": CLASSES,
        "image_size": 16,
        "model": MODEL,
        "cipher": {"scheme": "none", "block": 8, "negate": False},
    }
    return RunConfig(**(values | changes))


def make_settings(out: Path, *, sites: int = 7, resume: bool = False, **server: Any) -> ServerSettings:
    quick: dict[str, Any] = {"wait_for_sites": 0.3, "prepare_deadline": 60.0, "round_deadline": 60.0}
    return ServerSettings(out=str(out), sites=sites, resume=resume, server=ServerConfig(**(quick | server)))


@dataclass
class FakeSite:
    """A hospital that does arithmetic instead of training: each round it moves every tensor by its own small step."""

    name: str
    run: RunConfig
    model_hash: str
    examples: int = 20
    row: dict[str, Any] = field(default_factory=dict)
    spoil: Callable[[int, Tensors], Tensors] | None = None
    fails: Callable[[str, int], Exception | None] = lambda kind, round_: None
    silent: Callable[[str, int], bool] = lambda kind, round_: False
    validation: Callable[[int], float] = lambda round_: 1.0 / (1 + round_)
    answers: Callable[[str, int, RecordDict], Any] = lambda kind, round_, content: content
    raw: bool = False
    claims: float | None = None
    received: list[tuple[str, int, Tensors]] = field(default_factory=list)
    configs: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, message: Message) -> RecordDict:
        kind = message.metadata.message_type
        round_ = 0 if kind == "query" else int(message.content[CONFIG]["server-round"])
        return self.answers(kind, round_, self._honest(kind, message))

    def _honest(self, kind: str, message: Message) -> RecordDict:
        if kind == "query":
            self._maybe_fail("query", 0)
            return RecordDict({SITE: ConfigRecord(self.described())})
        config = dict(message.content[CONFIG])
        round_ = int(config["server-round"])
        self.configs.append(config)
        self._maybe_fail(kind, round_)
        arrays = {name: _numbers(array.data) for name, array in message.content[ARRAYS].items()}
        incoming = decode(arrays, self.run.wire)
        self.received.append((kind, round_, incoming))
        return self._train(round_, incoming) if kind == "train" else self._evaluate(round_, config.get("measure"))

    def described(self) -> dict[str, Any]:
        return {
            "site": self.name,
            "classes": list(self.run.classes),
            "counts": [10, self.examples],
            "missing": [],
            "n-train": self.examples,
            "n-validation": 10,
            "n-test": 10,
            "skipped": 0,
            "model-hash": self.model_hash,
            "scheme": "none",
            "block": 8,
            "negate": False,
            "fingerprint": "",
            "version": medveil_version(),
        } | self.row

    def step(self, round_: int) -> np.random.Generator:
        return _step(round_, self.name)

    def _train(self, round_: int, incoming: Tensors) -> RecordDict:
        steps = _steps(round_, self.name, tuple(array.shape for array in incoming.values()))
        trained = {
            name: array * np.float32(0.9) + step for (name, array), step in zip(incoming.items(), steps, strict=True)
        }
        if self.spoil is not None:
            trained = self.spoil(round_, trained)
        if self.run.kind == "delta":
            trained = delta(trained, incoming)
        wired = dict(trained) if self.raw else encode(trained, self.run.wire)
        metrics: dict[str, Any] = {
            "num-examples": self.examples if self.claims is None else self.claims,
            "seconds": 0.01,
            "train-loss": 0.5,
            "train-accuracy": 0.75,
            "train-n": float(self.examples),
        }
        if self.run.evaluate_first:
            metrics |= self.measures("validation", self.validation(round_ - 1))
        arrays = ArrayRecord({name: Array(array) for name, array in wired.items()})
        return RecordDict({ARRAYS: arrays, METRICS: MetricRecord(metrics)})

    def _evaluate(self, round_: int, only: str | None) -> RecordDict:
        metrics = {"num-examples": 10, "seconds": 0.01} | self.measures("validation", self.validation(round_))
        if only is None:
            metrics |= {"test-majority-rate": 0.6} | self.measures("test", 0.25)
        return RecordDict({METRICS: MetricRecord(metrics)})

    @staticmethod
    def measures(phase: str, loss: float) -> dict[str, float]:
        found = {"loss": loss, "accuracy": 0.8, "balanced-accuracy": 0.7, "auroc": math.nan, "n": 10.0}
        return {f"{phase}-{name}": value for name, value in found.items()}

    def _maybe_fail(self, kind: str, round_: int) -> None:
        error = self.fails(kind, round_)
        if error is not None:
            raise error


def _step(round_: int, site: str) -> np.random.Generator:
    return np.random.default_rng([round_, *site.encode()])


@functools.lru_cache(maxsize=64)
def _steps(round_: int, site: str, shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    """Every test's sites make the same steps: they are drawn once."""
    rng = _step(round_, site)
    return [rng.normal(0, 0.01, shape).astype(np.float32) for shape in shapes]


@functools.lru_cache(maxsize=256)
def _numbers(data: bytes) -> np.ndarray:
    """As `flwr.app.Array.numpy`; all sites are sent the same, and read it once."""
    made: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    made.flags.writeable = False
    return made


class SiteError(Exception):
    """What a site app raises; Flower sends its text verbatim."""


class FakeGrid(Grid):
    """A grid whose sites answer one per pull, in an order of their own; silent ones never do."""

    def __init__(self, sites: Iterable[FakeSite], *, backwards: bool = False, first_node: int = 100) -> None:
        self.sites = {first_node + index: site for index, site in enumerate(sites)}
        self.backwards = backwards
        self.offline: set[int] = set()
        self.registered: dict[int, str] = {}
        self._waiting: dict[str, Message] = {}
        self.sent: list[tuple[str, int]] = []

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return [node for node in self.sites if node not in self.offline]

    def get_nodes(self) -> list[NodeInfo]:
        return [NodeInfo(node_id=node, name=self.registered.get(node, "")) for node in self.get_node_ids()]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid.uuid4())
            self._waiting[message.metadata.message_id] = message
            self.sent.append((message.metadata.message_type, message.metadata.dst_node_id))
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        wanted = [each for each in message_ids if each in self._waiting]
        for each in reversed(wanted) if self.backwards else wanted:
            message = self._waiting[each]
            site = self.sites[message.metadata.dst_node_id]
            kind = message.metadata.message_type
            round_ = 0 if kind == "query" else int(message.content[CONFIG]["server-round"])
            if not site.silent(kind, round_):
                del self._waiting[each]
                return [self._answer(site, message)]
        return []

    @staticmethod
    def _answer(site: FakeSite, message: Message) -> Message:
        try:
            return Message(site(message), reply_to=message)
        except SiteError as error:
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)


@pytest.fixture(scope="session", autouse=True)
def _identity() -> None:
    torch.set_num_threads(1)
    be_task(run_id=1, node_id=1)


@pytest.fixture(scope="session")
def model_hash() -> str:
    return initial_model(make_run()).hash


@dataclass
class World:
    """Sites, a grid and a run folder, ready to federate."""

    out: Path
    run: RunConfig
    sites: list[FakeSite]
    grid: FakeGrid

    def federate(self, *, resume: bool = False, watch: Any = None, **server: Any) -> dict[str, Any]:
        settings = make_settings(self.out, sites=len(self.sites), resume=resume, **server)
        return Federation(self.grid, self.run, settings, watch=watch).run()

    def site(self, name: str) -> FakeSite:
        return next(site for site in self.sites if site.name == name)

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.out / "manifest.json").read_text())

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def site_error() -> type[Exception]:
    return SiteError


@pytest.fixture
def make_world(tmp_path: Path, model_hash: str) -> Callable[..., World]:
    def make(sites: int = 7, *, out: str = "run", backwards: bool = False, first_node: int = 100, **run: Any) -> World:
        config = make_run(**run)
        made = [FakeSite(f"site-{index + 1}", config, model_hash, examples=10 * (index + 1)) for index in range(sites)]
        return World(tmp_path / out, config, made, FakeGrid(made, backwards=backwards, first_node=first_node))

    return make
