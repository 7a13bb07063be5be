"""Torch tensors at the door of the ciphers, for callers that have imported torch; nothing here imports it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    Tensor: TypeAlias = torch.Tensor
else:
    Tensor: TypeAlias = Any


def as_tensor(images: object) -> Tensor | None:
    """Return `images` if it is a torch tensor, else None."""
    torch = sys.modules.get("torch")
    return images if torch is not None and isinstance(images, torch.Tensor) else None


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor's values on the CPU, sharing memory where it is there already."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def from_numpy(array: NDArray[Any], *, device: Any) -> Tensor:
    """Return an array as a tensor on a device; on the CPU it shares memory."""
    tensor: Tensor = sys.modules["torch"].from_numpy(array).to(device)
    return tensor


def like(array: NDArray[Any], tensor: Tensor) -> Tensor:
    """Return an array as a tensor where `tensor` is."""
    return from_numpy(np.ascontiguousarray(array), device=tensor.device)


def signed(tensor: Tensor) -> Tensor:
    """View a uint16 tensor as int16, which torch can index and XOR; uint8 comes back as it is."""
    torch = sys.modules["torch"]
    return tensor.view(torch.int16) if tensor.dtype == torch.uint16 else tensor
