"""The model a run starts from, as the server knows it: public weights, and which of them travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from medveil.config import from_mapping
from medveil.contract import RunConfig
from medveil.training import LIGHT, TrainConfig
from medveil.wire import Tensors, encode, size_in_bytes
from models.autoencoder import build_model
from models.config import ModelConfig
from models.described import described
from models.light import lighten
from models.policy import SIGNED_PERMUTATION, Policy, check_policy
from models.trains import check_training
from models.travel import tensors, trainable, travelling
from models.vit import model_hash


@dataclass(frozen=True)
class Initial:
    """The travelling tensors of the initial model (fp32, sorted by name), the hash of all of it, and its sizes.

    With the sizes stands how many numbers a site trains, and how many bytes of tensors go each way in a round.
    """

    tensors: Tensors
    hash: str
    described: dict[str, Any]
    least_norm: float = 0.0
    """Under a light scope the norm of the whole model, so that a change may be as large as under ``full``."""


def initial_model(run: RunConfig) -> Initial:
    """Build the initial model of a run, the same at the server and every site.

    Raises
    ------
    ConfigError, PolicyError
        The model or the policy cannot be had.
    """
    config = from_mapping(ModelConfig, run.model, where="model")
    train = from_mapping(TrainConfig, run.train, where="train")
    model = build_model(run)
    sizes = described(model, config)
    whole = torch.linalg.vector_norm(torch.stack([each.detach().norm() for each in model.parameters()]))
    least = float(whole) if train.scope in LIGHT else 0.0
    lighten(model, train.scope, train.rank, seed=run.seed)
    policy = Policy(run.keys, run.stem_init, run.stem_train)
    # Which schemes a stem can follow is for the sites to say: they have the cipher, and refuse in the preflight.
    check_policy(policy, scheme=str(run.cipher.get("scheme", "none")), stem_rule=SIGNED_PERMUTATION)
    check_training(model, policy, train, masked=run.masked)
    found = tensors(model, travelling(model, policy, train.scope, personal=train.personal))
    plain = {name: np.array(found[name].detach().cpu().numpy(), dtype=np.float32) for name in sorted(found)}
    own = dict(model.named_parameters())
    sizes["trained"] = sum(own[name].numel() for name in trainable(model, policy, train.scope))
    sizes["bytes_a_round"] = size_in_bytes(encode(plain, run.wire))
    return Initial(plain, model_hash(model), sizes, least)


def device_name() -> str:
    """What this machine computes on, in words."""
    if torch.cuda.is_available():
        return f"cuda ({torch.cuda.get_device_name()})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} {'thread' if threads == 1 else 'threads'})"
