"""Digests of tensors: what tells one model from another, on any machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def model_hash(model: nn.Module) -> str:
    """SHA-256 of a model's state as 64 hex digits; see `tensors_hash`."""
    return tensors_hash(model.state_dict())


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of named tensors as 64 hex digits: names, types, shapes and little-endian bytes, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        header = json.dumps([name, str(tensor.dtype), list(tensor.shape)])
        digest.update(header.encode("utf-8") + b"\n")
        digest.update(_little_endian(tensor.detach().cpu()))
    return digest.hexdigest()


def _little_endian(tensor: Tensor) -> bytes:
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    array = tensor.contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
