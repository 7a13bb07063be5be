"""A site that trained one round and was evaluated, without any server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from crypto.keys import SiteKey
from fl_client import work
from fl_client.data.config import DataConfig
from fl_client.deployment.own_keys import OwnKeys
from fl_client.leaving import EVERYTHING, Leaving
from fl_client.site import Site
from fl_client.site_setup import SiteSetup
from medveil.config import to_mapping
from medveil.contract import RunConfig
from medveil.training import TrainConfig
from models.config import ModelConfig

CLASSES = ["none", "mass"]
SIZE, BLOCK = 32, 8


def evaluated(
    folder: Path,
    images: Path,
    held: OwnKeys,
    /,
    *,
    size: int = SIZE,
    width: int = 24,
    depth: int = 2,
    train: dict[str, Any] | None = None,
    keep_model: bool = True,
    smallest: int = EVERYTHING,
    **changes: Any,
) -> Site:
    """Train a site on drawn phantoms; `changes` are of the run, which is per-site and adapted unless told otherwise."""
    padded = -(-size // BLOCK) * BLOCK
    model = ModelConfig(image_size=padded, patch=BLOCK, channels=1, classes=2, width=width, depth=depth, heads=2)
    values: dict[str, Any] = {
        "run": "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab",
        "name": "trial",
        "classes": CLASSES,
        "image_size": size,
        "model": to_mapping(model),
        "train": to_mapping(TrainConfig(batch_size=8, lr=0.003, **(train or {}))),
        "cipher": {"scheme": "block-pixel", "block": BLOCK, "negate": True},
        "keys": "per-site",
        "stem_init": "adapted",
        "stem_train": "local",
    }
    run = RunConfig(**{**values, **changes})
    key = {"none": None, "per-site": held.own.current, "shared": held.shared and held.shared.current}[run.keys]
    data = DataConfig(
        source="dicom", path=str(images), labels="labels.csv", image_size=size, classes=CLASSES, channels=1
    )
    setup = SiteSetup(
        name="st-anna",
        index=0,
        sites=1,
        key=held.own.current,
        cipher_key=key,
        thief_key=SiteKey.generate("thief"),
        data=data,
        folder=folder,
        device=torch.device("cpu"),
        keep_model=keep_model,
        leaving=Leaving(smallest),
    )
    site = Site(run, setup)
    incoming = {name: site.bench.public[name].numpy().copy() for name in site.travelling}
    work.evaluate(site, 1, work.train(site, 1, incoming)[0])
    return site
