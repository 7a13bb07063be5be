"""Where Flower's grids are, and that none but its simulation's counts as simulated."""

from __future__ import annotations

import subprocess
import sys

from flwr.superlink.grid import HttpGrid, InMemoryGrid

from medveil.flower_grids import is_simulated


def test_flowers_grids_are_told_apart() -> None:
    assert InMemoryGrid.__module__.startswith("flwr."), "Flower's simulation grid moved: is_simulated must follow"
    assert is_simulated(InMemoryGrid.__new__(InMemoryGrid))
    assert not is_simulated(HttpGrid.__new__(HttpGrid))


def test_where_flower_has_no_such_grid_nothing_is_simulated() -> None:
    code = (
        "import sys; from medveil.flower_grids import is_simulated; "
        "sys.modules.pop('flwr.superlink.grid', None); print(is_simulated(object()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
