"""Keeps torch's compiler out of a process that trains, until something is compiled.

Every optimiser of torch imports ``torch._dynamo`` at its first step to tell it that it need not look, and so does
`torch.func.grad`, and with it sympy and some thousand modules: as long as torch itself takes. While a model is trained,
what stands in its place here says the same; it makes way for the real one as soon as anything else is asked of it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

COMPILER = "torch._dynamo"


class Late(ModuleType):
    """Stands for the compiler where it was not imported."""

    compiled_autograd = SimpleNamespace(_disable=contextlib.nullcontext)
    """What `torch.func.grad` turns off around its derivatives: nothing has turned it on."""

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Nothing is compiled: there is no graph to break."""

    @staticmethod
    def disable(fn: Callable, recursive: bool = True, *, reason: str | None = None, wrapping: bool = True) -> Callable:
        """Call a function as it is, and as the compiler's own says once that is here."""
        real: list[Callable] = []

        @functools.wraps(fn)
        def called(*args: Any, **kwargs: Any) -> Any:
            compiler = sys.modules.get(COMPILER)
            if not real and (compiler is None or isinstance(compiler, Late)):
                return fn(*args, **kwargs)
            if not real:
                real.append(importlib.import_module(COMPILER).disable(fn, recursive, reason=reason, wrapping=wrapping))
            return real[0](*args, **kwargs)

        return called

    def __getattr__(self, name: str) -> Any:
        # Whoever walks over all modules asks for such names; a package is asked for its path before a module of it.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        _make_way(self)
        return getattr(importlib.import_module(COMPILER), name)


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Train meanwhile without it; nothing changes where it was imported already. Also decorates a function."""
    if COMPILER in sys.modules:
        yield
        return
    late = Late(COMPILER, Late.__doc__)
    sys.modules[COMPILER] = late
    try:
        yield
    finally:
        _make_way(late)


def _make_way(late: Late) -> None:
    if sys.modules.get(COMPILER) is late:
        del sys.modules[COMPILER]
