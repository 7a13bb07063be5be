"""Where a site's images come from: one interface over a PACS, DICOM folders, image trees, npz files and phantoms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fl_client.data.base import Bytes, Item, Skipped, Source
from fl_client.data.config import DataConfig, check_data_config, joins_similar
from fl_client.data.dicom import DicomSource
from fl_client.data.dicomweb import DicomwebSource
from fl_client.data.documents import Documents
from fl_client.data.formula import FormulaSource
from fl_client.data.hidden import HiddenSource
from fl_client.data.images import ImageSource
from fl_client.data.neighbours import join_similar
from fl_client.data.npz import NpzSource
from fl_client.data.phantoms import PhantomSource
from medveil import plugins

__all__ = ["KINDS", "Item", "Skipped", "Source", "open_source", "read_many"]

_OWN: dict[str, type[Source]] = {
    "phantoms": PhantomSource,
    "dicom": DicomSource,
    "images": ImageSource,
    "npz": NpzSource,
    "hidden": HiddenSource,
    "formula": FormulaSource,
    "dicomweb": DicomwebSource,
}
KINDS: plugins.Registry[type[Source]] = plugins.Registry(plugins.SOURCES, _OWN, Source)
"""Every source by its name in ``data.source``; those of other packages too, where they are asked for."""


def open_source(config: DataConfig, *, kept_in: Sequence[Documents] = ()) -> Source:
    """Open the source a configuration names; phantoms are drawn first if they are not there.

    Parameters
    ----------
    config
        The images.
    kept_in
        Where to keep which images look alike, for the next time; and what a site pulled from its PACS.

    Raises
    ------
    ConfigError
        A setting is invalid.
    DataError
        The folder or file is missing, empty, wrongly labelled, or holds no usable image.
    """
    check_data_config(config, level=None)
    source = KINDS[config.source].opened(config, kept_in)
    if joins_similar(config):
        join_similar(source, config, kept_in=kept_in)
    return source


def read_many(source: Source, indices: Iterable[int]) -> Bytes:
    """Decode several images in the clear: for examples and evaluations, never for training.

    Returns
    -------
    uint8 (n, C, H, W)

    Raises
    ------
    DataError
        One of them cannot be read.
    """
    wanted = [int(index) for index in indices]
    made = np.empty((len(wanted), source.channels, source.size, source.size), dtype=np.uint8)
    for row, index in enumerate(wanted):
        made[row] = source.read(index)
    return made
