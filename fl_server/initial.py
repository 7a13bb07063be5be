"""The model a run starts from, as the server knows it: public weights, and which of them travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.wire import Tensors
from models.autoencoder import build_model
from models.config import ModelConfig
from models.described import described
from models.policy import SIGNED_PERMUTATION, Policy, check_policy
from models.travel import tensors, travelling
from models.vit import model_hash


@dataclass(frozen=True)
class Initial:
    """The travelling tensors of the initial model (fp32, sorted by name), the hash of all of it, and its sizes."""

    tensors: Tensors
    hash: str
    described: dict[str, Any]


def initial_model(run: RunConfig) -> Initial:
    """Build the initial model of a run, the same at the server and every site.

    Raises
    ------
    ConfigError, PolicyError
        The model or the policy cannot be had.
    """
    config = from_mapping(ModelConfig, run.model, where="model")
    model = build_model(run)
    policy = Policy(run.keys, run.stem_init, run.stem_train)
    # Which schemes a stem can follow is for the sites to say: they have the cipher, and refuse in the preflight.
    check_policy(policy, scheme=str(run.cipher.get("scheme", "none")), stem_rule=SIGNED_PERMUTATION)
    found = tensors(model, travelling(model, policy, str(run.train.get("scope", "full"))))
    plain = {name: np.array(found[name].detach().cpu().numpy(), dtype=np.float32) for name in sorted(found)}
    return Initial(plain, model_hash(model), described(model, config))


def device_name() -> str:
    """What this machine computes on, in words."""
    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} {'thread' if threads == 1 else 'threads'})"
