"""Images drawn by formula as a source: labelled by their formula, of no patient and under no licence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from fl_client.data.base import Bytes, Item, Source, Stamp
from fl_client.data.config import NO_LABELS, DataConfig, named_group
from fl_client.data.items import UNLABELLED
from medveil.config import to_mapping
from medveil.errors import ConfigError

VERSION = 1
"""Of the drawings: another one draws other images."""
_SIDE = 64
_TOGETHER = 64


class FormulaSource(Source):
    """Drawn images; nothing of them is stored but in a run's own store.

    Where they are read one after the other, as stores are built, many are drawn together.
    """

    drawn = True

    def __init__(self, config: DataConfig) -> None:
        # Drawing needs torch, which who opens other images can do without.
        from fl_client.data.formula_drawing import Drawn  # noqa: PLC0415

        super().__init__(config)
        if config.labels not in (None, NO_LABELS) or named_group(config) not in (None, "none"):
            problem = "are set, and drawn images bring labels of their own and belong to no group"
            raise ConfigError(problem, where="data.labels, data.group_by", cure="null")
        if config.channels not in (None, 1):
            raise ConfigError(f"is {config.channels}", where="data.channels", cure="1: drawn images are grey")
        drawn = self._formula = config.formula
        # There is no place they are at; what is said of them names them so.
        self.path = Path(f"{config.source}-{drawn.kind}")
        names = [f"formula {label:0{len(str(drawn.classes - 1))}d}" for label in range(drawn.classes)]
        self.classes = UNLABELLED if config.labels == NO_LABELS else tuple(config.classes or names)
        if config.labels is None and len(self.classes) != drawn.classes:
            problem = f"names {len(self.classes)} classes, and {drawn.classes} are drawn"
            raise ConfigError(problem, where="data.classes", cure="null, or data.formula.classes")
        self._at = [Drawn(label, number) for label in range(drawn.classes) for number in range(drawn.per_class)]
        self._held: dict[int, Bytes] = {}
        self._last = -2
        labelled = config.labels is None
        items = [Item(f"{each.label}/{each.number}", each.label if labelled else 0) for each in self._at]
        self._finish(items, default_size=_SIDE)

    def _keep(self, kept: Sequence[int]) -> None:
        self._at = [self._at[i] for i in kept]

    def _first_channels(self) -> int:
        return 1

    def _decode(self, index: int) -> Bytes:
        if index not in self._held:
            from fl_client.data.formula_drawing import draw  # noqa: PLC0415

            # Who reads one after the other wants the next ones too; who draws lots does not.
            more = _TOGETHER if index == self._last + 1 else 1
            rows = range(index, min(index + more, len(self._at)))
            made = draw(self._formula.kind, [self._at[i] for i in rows], size=self.size, seed=self._formula.seed)
            self._held = dict(zip(rows, made, strict=True))
        self._last = index
        return self._held[index]

    def contents(self, index: int) -> bytes:
        """SHA-256 of what an image is drawn from: two machines round pixels differently, and draw one image."""
        told = [VERSION, to_mapping(self._formula), self.size, *self._at[index]]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).digest()

    def _stamp(self, index: int) -> Stamp:
        return Stamp(VERSION, self._formula.seed)
