"""Keeps torch's compiler out of a process until something is compiled.

Every optimiser of torch imports ``torch._dynamo`` at its first step to tell it that it need not look, and with it sympy
and some thousand modules: as long as torch itself takes. What stands in its place here says the same, and is
exchanged for the real one as soon as anything else is asked of it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


class Late(ModuleType):
    """Stands for the compiler where it was not imported."""

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Nothing is compiled: there is no graph to break."""

    @staticmethod
    def disable(fn: Callable, recursive: bool = True, *, reason: str | None = None, wrapping: bool = True) -> Callable:
        """Call a function as it is, and as the compiler's own says once that is here."""
        real: list[Callable] = []

        @functools.wraps(fn)
        def called(*args: Any, **kwargs: Any) -> Any:
            if not real:
                compiler = sys.modules[COMPILER]
                if isinstance(compiler, Late):
                    return fn(*args, **kwargs)
                real.append(compiler.disable(fn, recursive, reason=reason, wrapping=wrapping))
            return real[0](*args, **kwargs)

        return called

    def __getattr__(self, name: str) -> Any:
        # Whoever walks over all modules asks for such names; a package is asked for its path before a module of it.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)


def leave_out() -> None:
    """Let the compiler be imported only where it is used; nothing changes where it was imported already."""
    if COMPILER in sys.modules:
        return
    late = Late(COMPILER, Late.__doc__)
    late.__spec__ = importlib.util.find_spec(COMPILER)
    sys.modules[COMPILER] = late
