"""The work of the plain app: the same ViT, images and steps as MedVeil's side."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from torch import nn

from medveil.config import from_mapping
from models.config import ModelConfig
from models.vit import build_vit, normalise


def make_model(text: str) -> nn.Module:
    """The ViT of a JSON description."""
    torch.set_num_threads(1)
    model: nn.Module = build_vit(from_mapping(ModelConfig, json.loads(text), where="model"), seed=0)
    return model


def load_part(path: str, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, C, H, W), uint8, and labels of one part of a file."""
    with np.load(path) as found:
        images, labels = found[f"{part}_images"], found[f"{part}_labels"]
    return torch.from_numpy(images), torch.from_numpy(labels)


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, batch_size: int, lr: float) -> None:
    """One epoch of AdamW."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    for chosen in torch.randperm(len(labels)).split(batch_size):
        loss = nn.functional.cross_entropy(model(normalise(images[chosen])), labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def evaluate(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, batch_size: int) -> dict[str, Any]:
    """Loss and accuracy."""
    model.eval()
    logits = torch.cat([model(normalise(chosen)) for chosen in images.split(batch_size)])
    right = (logits.argmax(1) == labels).float().mean()
    return {"loss": float(nn.functional.cross_entropy(logits, labels)), "accuracy": float(right)}
