"""What travels in a round under each scope: ``python -m models.weighed NAME ... --json FILE``.

Models are laid out without storage, as a site lays them out before it agrees to a run. What is counted is a real
round's one array (`medveil.wire.pack`) with its header of NumPy's; a message's signature comes on top.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medveil.cli import guarded
from medveil.errors import EXIT_OK
from medveil.files import write_json
from medveil.plain import tell
from medveil.training import TrainConfig
from medveil.wire import DTYPES, WIRES
from models.config import ModelConfig
from models.light import lighten
from models.policy import resolve_policy
from models.sizes import skeleton
from models.travel import travelling

FORMAT, VERSION = "medveil-bytes", 1
SCOPES = ("full", "last-2-blocks", "last-1-blocks", "bias-norm", "bias", "lora-core", "head")
NAMES = ("vit_tiny_patch16_224", "vit_base_patch16_224")
_CLASSES = 2


def weighed(config: ModelConfig, scope: str, *, rank: int = TrainConfig().rank) -> dict[str, int]:
    """Bytes each way, of a site in a round, by wire format; stems stay at home.

    Raises
    ------
    ConfigError
        There is no such model, or it has nothing for the scope.
    """
    model = lighten(skeleton(config), scope, rank, seed=0)
    shapes = model.state_dict()
    count = sum(shapes[name].numel() for name in travelling(model, resolve_policy("per-site", None, None), scope))
    return {wire: _header(count, wire) + count * DTYPES[wire].itemsize for wire in WIRES}


def rows(names: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    """Every scope of some of timm's models, at their own sizes and two classes."""
    return [
        {"model": name, "scope": scope, **weighed(ModelConfig(name=name, classes=_CLASSES), scope)}
        for name in names
        for scope in SCOPES
    ]


def _header(count: int, wire: str) -> int:
    """Bytes that NumPy writes before the numbers of one array."""
    buffer = io.BytesIO()
    kind = np.lib.format.dtype_to_descr(DTYPES[wire])
    np.lib.format.write_array_header_1_0(buffer, {"descr": kind, "fortran_order": False, "shape": (count,)})
    return buffer.tell()


def main(words: Sequence[str] | None = None) -> int:
    """Print the bytes, a model and scope a line, and write them as JSON where a file is named; the exit code."""
    made = argparse.ArgumentParser(prog="python -m models.weighed", description="What travels in a round, by scope.")
    made.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help="models of timm's")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write them here")
    given = made.parse_args(words)

    def body() -> int:
        found = rows(given.names)
        for row in found:
            tell(f"{row['model']}, {row['scope']}: " + ", ".join(f"{wire} {row[wire]:,} bytes" for wire in WIRES))
        if given.json is not None:
            write_json(given.json, {"format": FORMAT, "version": VERSION, "rank": TrainConfig().rank, "rows": found})
        return EXIT_OK

    return guarded(body)


if __name__ == "__main__":
    sys.exit(main())
