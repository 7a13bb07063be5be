"""What is asked of MedVeil and of plain Flower alike, said once: neither side's file needs the other's for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulations.deployment_bench.trial import CLASSES


@dataclass(frozen=True)
class Work:
    """What both sides do.

    Parameters
    ----------
    model
        A timm name, or overrides of one, as a run's file has them.
    images
        Images of each site; 70 % train.
    size, block
        Side of an image and of a patch, in pixels.
    rounds
        Rounds measured; one more comes before them.
    batch_size
        Images a step.
    """

    model: dict[str, Any]
    images: int = 48
    size: int = 224
    block: int = 16
    rounds: int = 4
    batch_size: int = 8
    lr: float = 1e-4

    def run_file(self, **more: Any) -> dict[str, Any]:
        """The run as MedVeil's coordinator writes it."""
        return {
            "name": "bench",
            "rounds": self.rounds + 1,
            "data": {"classes": CLASSES, "image_size": self.size},
            "cipher": {"block": self.block, "negate": True},
            "model": self.model,
            "train": {"batch_size": self.batch_size, "lr": self.lr, "precision": "fp32"},
            **more,
        }
