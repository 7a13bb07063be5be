"""Flower's grids, told apart: whether a ServerApp asks real sites or simulated ones.

Flower does not say it to an app. Its simulation hands it an `InMemoryGrid`, a SuperLink another; neither name is
promised, so `tests/medveil/test_flower_grids.py` says when they move.
"""

from __future__ import annotations

import sys

from flwr.serverapp import Grid


def is_simulated(grid: Grid) -> bool:
    """Whether a grid is that of Flower's simulation; any other of Flower's counts as one that reaches real sites."""
    # A process of a SuperLink has not imported it: then the grid is none of its kind.
    module = sys.modules.get("flwr.superlink.grid")
    kind = getattr(module, "InMemoryGrid", None)
    return isinstance(kind, type) and isinstance(grid, kind)
