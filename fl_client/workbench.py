"""The one model a process works with.

A message brings the travelling tensors, the vault the private ones, and the rest is public: so the sites a process
serves can take turns on one model, and a message costs no model building.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from medveil.training import TrainConfig
from models.autoencoder import build_model
from models.light import lighten
from models.vit import model_hash

if TYPE_CHECKING:
    from models.vits import VisionTransformer


@dataclass(frozen=True)
class Workbench:
    """A model on a device, with the public tensors it was built with; no tensor of it is ever replaced by another."""

    model: VisionTransformer
    public: dict[str, Tensor]
    hash: str
    device: torch.device

    @functools.cached_property
    def dtype(self) -> torch.dtype:
        """Type of its weights: float32, or float64 under ``precision: fp64``."""
        return next(self.model.parameters()).dtype

    @functools.cached_property
    def state(self) -> dict[str, Tensor]:
        """The model's own tensors by name: what changes in them changes in the model."""
        return dict(self.model.state_dict())

    def reset(self) -> VisionTransformer:
        """Put the public tensors back and return the model."""
        with torch.no_grad():
            for name, tensor in self.state.items():
                tensor.copy_(self.public[name])
        return self.model


def workbench(run: RunConfig, device: torch.device) -> Workbench:
    """The process's workbench for a run; built once for each model, task, scope, seed and device."""
    train = from_mapping(TrainConfig, run.train, where="train")
    dtype = torch.float64 if train.precision == "fp64" else torch.float32
    told = {name: getattr(run, name) for name in ("model", "seed", "task", "pretrain", "evaluate", "classes")}
    told["train"] = {"scope": train.scope, "rank": train.rank}
    return _built(json.dumps(told, sort_keys=True), str(device), dtype)


@functools.lru_cache(maxsize=2)
def _built(told_json: str, device: str, dtype: torch.dtype) -> Workbench:
    told: dict[str, Any] = json.loads(told_json)
    model = build_model(RunConfig(**told))
    lighten(model, **told["train"], seed=told["seed"])
    # The hash is of the model as every site and the server build it, before a site chooses its precision.
    digest = model_hash(model)
    placed = torch.device(device)
    model = model.to(placed, dtype)
    public = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    return Workbench(model=model, public=public, hash=digest, device=placed)


def pick_device(named: str) -> torch.device:
    """The device a name stands for; ``auto`` is the first GPU, or the CPU where there is none.

    Raises
    ------
    ConfigError
        There is no such device here.
    """
    if named == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(named)
    except RuntimeError:
        raise ConfigError(f"'{named}' is no device", where="device", cure="cpu, cuda, cuda:N or auto") from None
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"'{named}' is not supported", where="device", cure="cpu, cuda, cuda:N or auto")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"'{named}' is not on this machine", where="device", cure="cpu or auto")
    return device
