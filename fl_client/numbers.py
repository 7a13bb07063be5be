"""Batches as the numbers a model reads, where it is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fl_client.batches import Batches
from models.vit import normalised


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast where asked for, or where it pays (`auto`: GPUs with bf16 units); otherwise a no-op."""
    pays = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == "bf16" or (precision == "auto" and pays)
    )


def to_device(array: npt.NDArray[np.generic], device: torch.device) -> Tensor:
    """A numpy array as a tensor on `device`; to a GPU from pinned memory, without waiting."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def numbers_of(
    part: Batches, chosen: npt.NDArray[np.int64], epoch: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """A batch of a part as the model reads it."""
    bits, gain = part.reading
    return normalised(to_device(part.batch(chosen, epoch), device), bits, dtype, gain=gain)


def place_of(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where a model is, and of which type its numbers are."""
    parameter = next(model.parameters())
    return parameter.device, parameter.dtype
