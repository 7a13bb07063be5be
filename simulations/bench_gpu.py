"""What a device makes of a Vision Transformer: ``medveil-sim bench --gpu``.

Images a second, trained on and asked about, as a site does both, and the share of the roofline (Williams et al.,
CACM 2009) that it comes to: its multiplications, counted by torch, over those of large products of matrices of the same
type, timed on the same device just before. Images lie in the machine's memory, as a site's do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.flop_counter import FlopCounterMode

from crypto.base import PLAIN, Reading
from fl_client.batches import generator
from fl_client.config import TrainConfig
from fl_client.numbers import autocast
from fl_client.training import RoundPlan, attention_apart, predict, train_round
from medveil.errors import ConfigError
from models.config import ModelConfig
from models.vit import build_vit

_TURNS = 3


@dataclass(frozen=True)
class _Images:
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    reading: Reading = PLAIN

    def batch(self, indices: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.uint8]:
        """Images of these indices."""
        return self.images[indices]


def check_gpu() -> None:
    """Refuse a machine that torch sees no CUDA GPU of (ConfigError)."""
    if not torch.cuda.is_available():
        raise ConfigError("there is no GPU here", where="bench --gpu", cure="'medveil-sim bench' measures this CPU")


def bench_device(
    device: torch.device, *, batch: int = 256, batches: int = 20, edge: int = 8192, model: ModelConfig | None = None
) -> dict[str, Any]:
    """Measure one device.

    Parameters
    ----------
    device
        Where the model is.
    batch, batches
        Images a step, and steps a round.
    edge
        Of the square matrices whose product is the roof.
    model
        None: ViT-B/16 of 224 pixels, drawn.

    Returns
    -------
    dict
        ``train_images_per_s`` and ``predict_images_per_s``, each of the fastest of three rounds; ``roof_flops_per_s``
        and the shares of it, ``train_over_roof`` and ``predict_over_roof``; and ``device``, ``dtype``.
    """
    sizes = model or ModelConfig(name="vit_base_patch16_224", channels=3, classes=2)
    made = build_vit(sizes, seed=0).to(device)
    config = TrainConfig(batch_size=batch)
    rng = np.random.default_rng(0)
    shape = (batch * batches, sizes.channels, *made.patch_embed.img_size)
    part = _Images(rng.integers(0, 256, shape, dtype=np.uint8), np.arange(shape[0]) % 2)
    names = [name for name, _ in made.named_parameters()]

    def trained() -> None:
        plan = RoundPlan(round=1, rounds=1, seed=0, rng=generator(0, "bench"))
        train_round(made, part, config, plan, trainable=names)

    # On a CPU torch does not count inside the fused kernel of attention.
    with autocast(device, config.precision), torch.no_grad(), attention_apart(made, "bf16"):
        one = torch.zeros((1, *shape[1:]), device=device)
        dtype = torch.mm(torch.ones(1, 1, device=device), torch.ones(1, 1, device=device)).dtype
        with FlopCounterMode(display=False) as counted:
            made.eval()(one)
    roof = 2 * edge**3 / _fastest(_product(device, dtype, edge), device)
    train = shape[0] / _fastest(trained, device)
    asked = shape[0] / _fastest(lambda: predict(made, part, config, batch_size=batch), device)
    once = counted.get_total_flops()
    return {
        "train_images_per_s": train,
        "predict_images_per_s": asked,
        "roof_flops_per_s": roof,
        # Backward multiplies twice for each product of the way forward.
        "train_over_roof": train * 3 * once / roof,
        "predict_over_roof": asked * once / roof,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": str(dtype).removeprefix("torch."),
    }


def _product(device: torch.device, dtype: torch.dtype, edge: int) -> Callable[[], object]:
    matrix = torch.ones((edge, edge), device=device, dtype=dtype)
    return lambda: matrix @ matrix


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of some turns, after one that warms up."""
    work()
    took = []
    for _ in range(_TURNS):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        took.append(time.perf_counter() - began)
    return min(took)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
