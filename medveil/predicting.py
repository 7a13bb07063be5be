"""How a model is asked about an image: settings of a run that travel in its contract."""

from __future__ import annotations

from dataclasses import dataclass, field

from medveil.errors import ConfigError
from medveil.training import AUGMENTS

MOST_VIEWS = 64
LEVELS = tuple(name for name in AUGMENTS if name != "none")


@dataclass
class PredictConfig:
    """What a run's last measurement asks of an image, the same at every site."""

    views: int = field(
        default=1,
        metadata={
            "help": "Views of an image whose probabilities are averaged when a run ends: itself, and augmented ones "
            "hidden as it is; 1: the image alone."
        },
    )
    augment: str = field(
        default="light", metadata={"help": "Level of the augmented views: light, medium or strong, as train.augment."}
    )

    def check(self, *, where: str = "predict") -> None:
        """Refuse values out of range (ConfigError)."""
        check_views(self.views, where=where)
        if self.augment not in LEVELS:
            raise ConfigError("'augment' is not known", where=where, cure=f"one of {', '.join(LEVELS)}")


def check_level(level: str, *, where: str) -> None:
    """Refuse a level of augmentation that there is not (ConfigError)."""
    if level not in LEVELS:
        raise ConfigError("names no level of augmentation", where=where, cure=f"one of {', '.join(LEVELS)}")


def check_views(views: int, *, where: str) -> None:
    """Refuse a number of views out of range (ConfigError)."""
    if not 1 <= views <= MOST_VIEWS:
        raise ConfigError("'views' is out of its range", where=where, cure=f"1 to {MOST_VIEWS}")
