"""A site's own images, as a run wants them."""

from __future__ import annotations

from dataclasses import replace

from fl_client.data.config import NO_LABELS, DataConfig
from medveil.contract import RunConfig
from medveil.errors import ConfigError


def data_for(run: RunConfig, data: DataConfig) -> DataConfig:
    """The site's images as the run wants them (ConfigError where the site insists on something else)."""
    if run.counted is not None:
        # Of a size nothing is said: images are counted as they are.
        return replace(data, classes=list(run.classes)) if run.classes and data.labels != NO_LABELS else data
    # Where pixels are learned, what a site calls its classes is its own; without labels the source says what is wrong.
    classes = data.classes if run.masked is not None or data.labels == NO_LABELS else list(run.classes)
    for name, wanted in (("classes", classes), ("channels", run.channels), ("image_size", run.image_size)):
        own = getattr(data, name)
        if own is not None and own != wanted:
            raise ConfigError("this site's own setting differs from the run's", where=name)
    return replace(
        data,
        classes=classes,
        channels=run.channels,
        image_size=run.image_size,
        min_side=max(data.min_side, int(run.model["patch"])),
    )
