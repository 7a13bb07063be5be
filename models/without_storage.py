"""Models that have shapes and no numbers, to look at."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from models.late_compiler import without_compiler

_FILLING = frozenset(
    {
        Tensor.add_,
        Tensor.clamp_,
        Tensor.div_,
        Tensor.erfinv_,
        Tensor.fill_,
        Tensor.mul_,
        Tensor.normal_,
        Tensor.uniform_,
        Tensor.zero_,
    }
)


@contextlib.contextmanager
def without_storage() -> Iterator[None]:
    """What is built meanwhile takes no memory, and is not filled: torch imports its compiler to pretend either."""
    with without_compiler(), torch.device("meta"), _Unfilled():
        yield


class _Unfilled(TorchFunctionMode):
    """Leaves tensors without storage as they are where numbers would be put into them."""

    def __torch_function__(
        self, func: Callable, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _FILLING or getattr(func, "__module__", None) == init.__name__:
            tensor = args[0] if args else given["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **given)
