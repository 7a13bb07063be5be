"""Imports timm without torch's compiler, which nothing here calls.

torchvision's detection operators import ``torch._dynamo`` to ask it one question later, and timm has it decorate a few
methods of one model. It brings sympy and torch's distributed training with it, and takes a third of the time that a
command needs until it starts. Both are given what asks the real one when they are called. Of timm's optimisers one sets
a limit of the compiler and one knows tensors that are spread over machines: both do without, where these are not there.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

from models.torchvision_ops import declare_missing_ops

_COMPILER, _UTILS = "torch._dynamo", "torch._dynamo.utils"
_SPREAD = "torch.distributed.tensor"
OPTIMIZERS = "timm.optim"


def import_timm(module: str = "timm") -> None:
    """Call it before the first import of timm, or of this module of it: also declares what its torchvision lacks."""
    if module in sys.modules:
        return
    try:
        with _compiler_when_called(), _not_there(_SPREAD if module == OPTIMIZERS else None):
            _import(module)
    except ImportError:
        # Another torchvision may need more of the compiler than the two questions.
        _import(module)


def _import(module: str) -> None:
    declare_missing_ops()
    importlib.import_module(module)


@contextlib.contextmanager
def _not_there(module: str | None) -> Iterator[None]:
    """Who tries to import this module meanwhile is told that there is none."""
    if module is None or module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


@contextlib.contextmanager
def _compiler_when_called() -> Iterator[None]:
    """What is imported meanwhile gets the compiler only once it calls it."""
    if _COMPILER in sys.modules:
        yield
        return
    package, utils = ModuleType(_COMPILER), ModuleType(_UTILS)
    vars(package).update(__path__=[], utils=utils)
    vars(utils).update(is_compile_supported=_is_compile_supported)
    disable = torch.compiler.disable
    sys.modules.update({_COMPILER: package, _UTILS: utils})
    torch.compiler.disable = _disable
    try:
        yield
    finally:
        torch.compiler.disable = disable
        for name, given in ((_COMPILER, package), (_UTILS, utils)):
            if sys.modules.get(name) is given:
                del sys.modules[name]


def _is_compile_supported(device: Any) -> bool:
    return bool(importlib.import_module(_UTILS).is_compile_supported(device))


def _disable(fn: Callable | None = None, recursive: bool = True, *, reason: str | None = None) -> Any:
    """As ``torch.compiler.disable``, whose reason only a message of the compiler would give."""
    return importlib.import_module("torch._compile")._disable_dynamo(fn, recursive)
