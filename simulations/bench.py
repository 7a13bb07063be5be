"""`medveil-sim bench`: speed as ratios, each measured within one run on this machine.

- the cipher beside memcpy, AES-256-GCM and a per-block Python loop (`crypto.bench`);
- a frame of a DICOM file of many frames beside one of a file of few (`crypto.reading.bench`);
- the `inprocess` engine beside a bare PyTorch FedAvg loop that does the same training;
- a round on ciphertext beside a round on plaintext, stores already built;
- a round of training from a sealed store beside one from a mapped file that lies open (`simulations.bench_store`).

The sides of a ratio take turns, of three rounds where an engine trains. The ratio is of each side's fastest round, the
one other work disturbed least; beside it stands the ratio of the median rounds, which comes near the first where the
machine was calm.
"""

from __future__ import annotations

import copy
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import nn

from crypto.bench import bench_cipher
from crypto.reading.bench import bench_frames
from fl_client.batches import generator, shuffled
from fl_client.data.partition import site_parts
from fl_client.data.source import open_source, read_many
from fl_client.optimizers import learning_rate, make_optimizers, set_rate
from fl_client.workbench import pick_device
from medveil import plain
from medveil.config import from_mapping
from medveil.versions import environment
from models.config import ModelConfig
from models.vit import build_vit, normalise
from simulations.bench_store import KEPT, MAPPED, OPENED, store_rounds
from simulations.config import ExperimentConfig
from simulations.engines.inprocess import run_inprocess
from simulations.plan import Plan, make_plan

_SITES, _ROUNDS, _SIZE = 4, 3, 64


def bench(*, device: str = "auto", images: int = 800, turns: int = 6) -> dict[str, Any]:
    """Measure everything; see the module.

    Parameters
    ----------
    device
        Where the rounds train.
    images
        Images over all sites, 64x64, for the rounds.
    turns
        How often each side of a ratio has its turn, of three rounds.

    Returns
    -------
    dict
        Figures by name; names with ``_over_`` are ratios (a time over a time, or a rate over a rate).
    """
    pick_device(device)
    figures: dict[str, Any] = {**bench_cipher(), **bench_frames()}
    with tempfile.TemporaryDirectory(prefix="medveil-bench-") as scratch:
        folder = Path(scratch)
        data = _write_images(folder / "images.npz", images)
        plain: list[float] = []
        hidden: list[float] = []
        bare: list[float] = []
        for turn in range(turns):
            plain += _engine_rounds(_experiment(data, "none", device), folder / f"plain-{turn}")
            bare += _bare_rounds(_plan(data, device, folder / f"bare-{turn}"))
            hidden += _engine_rounds(_experiment(data, "shared", device), folder / f"hidden-{turn}")
        stored = store_rounds(
            make_plan(_experiment(data, "shared", device), folder / "stored"), folder, turns=turns * 3
        )
    figures |= {
        "engine_round_s": min(plain),
        "bare_loop_round_s": min(bare),
        "ciphertext_round_s": min(hidden),
        **_ratio("engine_over_bare_loop", plain, bare),
        **_ratio("ciphertext_over_plaintext", hidden, plain),
        **_ratio("sealed_store_over_mapped", stored[OPENED].wall, stored[MAPPED].wall),
        **_ratio("sealed_store_over_mapped_cpu", stored[OPENED].cpu, stored[MAPPED].cpu),
        **_ratio("sealed_store_in_memory_over_mapped", stored[KEPT].wall, stored[MAPPED].wall),
        **_ratio("sealed_store_in_memory_over_mapped_cpu", stored[KEPT].cpu, stored[MAPPED].cpu),
    }
    return {**figures, "environment": {**environment(), "threads": torch.get_num_threads()}}


def engine_runs(folder: Path, *, device: str, images: int = 800, turns: int = 6) -> list[tuple[str, ExperimentConfig]]:
    """The rounds that `bench` trains, as experiments over images written into a folder; ciphers and stores apart."""
    data = _write_images(folder / "images.npz", images)
    return [
        (f"{keys} {turn + 1}", _experiment(data, keys, device)) for turn in range(turns) for keys in ("none", "shared")
    ]


def print_table(figures: dict[str, Any]) -> None:
    """Print figures as a table."""
    table = Table("figure", "value")
    for name, value in figures.items():
        if isinstance(value, int | float):
            table.add_row(name, f"{value:,.3f}" if value < 1000 else f"{value:,.0f}")
    plain.say_table(plain.console(), table)


def _ratio(name: str, over: list[float], under: list[float]) -> dict[str, float]:
    return {name: min(over) / min(under), f"{name}_median": statistics.median(over) / statistics.median(under)}


def _write_images(path: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, _SIZE, _SIZE), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(count) % 2)
    return path


def _experiment(data: Path, keys: str, device: str) -> ExperimentConfig:
    config = ExperimentConfig(name=f"bench {keys}", rounds=_ROUNDS + 1, sites=_SITES, device=device)
    config.evaluate_first = False
    config.data.source, config.data.path = "npz", str(data)
    config.data.validation = config.data.test = 0.1
    config.cipher.block = 8
    config.keys.policy = keys
    config.model.width, config.model.depth, config.model.heads = 192, 4, 3
    return config


def _plan(data: Path, device: str, out: Path) -> Plan:
    return make_plan(_experiment(data, "none", device), out)


def _engine_rounds(config: ExperimentConfig, out: Path) -> list[float]:
    """Seconds of each round from the second on, from checkpoint to checkpoint: everything a round does is in it."""
    plan = make_plan(config, out)
    run_inprocess(plan)
    files = [out / "checkpoints" / f"round-{round_:04d}.json" for round_ in range(1, _ROUNDS + 2)]
    written = [file.stat().st_mtime_ns for file in files]
    return [(later - earlier) / 1e9 for earlier, later in itertools.pairwise(written)]


def _bare_rounds(plan: Plan) -> list[float]:
    """Seconds of each of the same rounds in a loop of plain PyTorch: images in memory, no engine, no checkpoint."""
    loop = _BareLoop(plan)
    seconds = []
    for round_ in range(1, _ROUNDS + 2):
        started = time.perf_counter()
        loop.round(round_)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


class _BareLoop:
    """FedAvg as one would write it by hand."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.config = plan, plan.experiment.train
        self.device = pick_device(plan.sites.device)
        source, data = open_source(plan.sites.data), plan.sites.data
        shares = [site_parts(source, data, sites=_SITES, index=i, seed=plan.run.seed).train for i in range(_SITES)]
        self.images = [torch.from_numpy(read_many(source, share)) for share in shares]
        self.labels = [torch.tensor([source.items[i].label for i in share]) for share in shares]
        config = from_mapping(ModelConfig, plan.run.model, where="model")
        self.model = build_vit(config, seed=plan.run.seed).to(self.device)
        self.average = copy.deepcopy(self.model.state_dict())

    def round(self, round_: int) -> None:
        """Train every site from the average, and average."""
        total = sum(len(each) for each in self.labels)
        summed = {name: torch.zeros_like(tensor) for name, tensor in self.average.items()}
        for site in range(_SITES):
            self._train(site, round_)
            for name, tensor in self.model.state_dict().items():
                summed[name] += len(self.labels[site]) / total * tensor
        self.average = summed

    def _train(self, site: int, round_: int) -> None:
        images, labels = self.images[site], self.labels[site]
        self.model.load_state_dict(self.average)
        self.model.train()
        optimizers = make_optimizers(self.model, dict(self.model.named_parameters()), self.config)
        steps = -(-len(labels) // self.config.batch_size)
        rng = generator(self.plan.run.seed, "bench", site, round_)
        for step, chosen in enumerate(shuffled(len(labels), self.config.batch_size, rng), (round_ - 1) * steps):
            set_rate(optimizers, learning_rate(step, self.plan.run.rounds * steps, self.config))
            x, y = images[chosen].to(self.device), labels[chosen].to(self.device)
            loss = nn.functional.cross_entropy(self.model(normalise(x)), y)
            self.model.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            for optimizer in optimizers:
                optimizer.step()
