"""The basis of a run (`medveil.basis`), made of a source of images and what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crypto.imaging import preprocess
from fl_client.data.base import Source
from fl_client.data.config import DataConfig, joins_similar
from fl_client.data.contents import contents_of
from fl_client.data.copies import copies_in
from fl_client.data.documents import Documents
from fl_client.data.partition import Parts
from fl_client.data.site_shares import grouped_by
from fl_client.data.splits import PARTS
from medveil.basis import Basis, Image, basis_of

DEALING = 1
"""Version of how images are dealt to sites and parts by a seed: a run goes on over parts dealt in the same way only."""


def basis_at_site(
    source: Source,
    parts: Parts,
    config: DataConfig,
    *,
    seed: int,
    sites: int,
    index: int,
    weights: Mapping[str, str],
    kept: Documents | None = None,
) -> Basis:
    """What a run stands on at one site: its own images, each in its part.

    Parameters
    ----------
    source, parts
        The images, and which of them are the site's.
    config
        The site's settings.
    seed, sites, index
        As for `fl_client.data.partition.site_parts`.
    weights
        Digests of the weights, by their names in `medveil.basis`.
    kept
        Where digests of contents are kept from one start to the next.
    """
    part_of = {int(i): name for name in PARTS for i in getattr(parts, name).tolist()}
    contents = contents_of(source, sorted(part_of), kept=kept)
    images = (_image(source, i, contents[i], part) for i, part in part_of.items())
    settings = settings_of(source, config, seed=seed) | {"sites": sites, "site": index}
    return basis_of(images, classes=source.classes, settings=settings, weights=weights)


def basis_of_source(
    source: Source,
    config: DataConfig,
    *,
    seed: int,
    sites: int,
    weights: Mapping[str, str],
    kept: Documents | None = None,
) -> Basis:
    """What a simulation stands on: all images, each in the part and at the site that the data set itself names.

    How images are dealt from there follows from the settings and the seed, and each site writes down its own.
    """
    every = range(len(source))
    contents = contents_of(source, every, kept=kept)
    named = [f"{item.split or ''}|{item.site or ''}" for item in source.items]
    images = (_image(source, i, contents[i], named[i]) for i in every)
    settings = settings_of(source, config, seed=seed) | {"sites": sites}
    return basis_of(images, classes=source.classes, settings=settings, weights=weights)


def settings_of(source: Source, config: DataConfig, *, seed: int) -> dict[str, Any]:
    """What decides split and preparation, by the names settings have."""
    partition = config.partition
    return {
        "seed": seed,
        "data.validation": float(config.validation),
        "data.test": float(config.test),
        "data.split": source.split,
        "data.group_by": grouped_by(config),
        "data.limit": config.limit,
        "data.min_side": config.min_side,
        "data.window": config.window,
        "data.image_size": source.size,
        "data.channels": source.channels,
        "data.views": config.views,
        "data.augment": config.augment,
        "data.flip": config.flip,
        "data.partition.kind": partition.kind,
        "data.partition.alpha": float(partition.alpha),
        "data.partition.test": partition.test,
        "data.partition.min_per_site": partition.min_per_site,
        # Of an older run, and of one that does not ask for it, it decides nothing.
        **({"data.similar": float(config.similar)} if joins_similar(config) else {}),
        **({"data.partition.pooled": partition.pooled} if partition.pooled else {}),
        **({"data.folds": config.folds} if config.folds else {}),
        **({"data.partition.shards": partition.shards} if partition.kind == "shards" else {}),
        **({"data.partition.classes": partition.classes} if partition.kind == "pathological" else {}),
        **({"data.partition.by": partition.by} if partition.by is not None else {}),
        "preparation": preprocess.VERSION,
        "dealing": DEALING,
        # Before, each was dealt by itself; where there are none, nothing changed.
        **({"copies": "dealt together"} if copies_in(source).alike else {}),
    }


def _image(source: Source, index: int, contents: bytes, part: str) -> Image:
    item = source.items[index]
    return Image(item.id, contents, source.classes[item.label], item.group, part)
