"""What bad hospitals train on: labels of other classes, or a trigger that is set before an image is hidden."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_client.batches import generator
from fl_client.data.rows import HeldRows
from fl_client.data.source import read_many
from fl_client.data.stored import StoredPart, nonces_for
from fl_client.site import Site
from medveil.errors import ConfigError
from simulations.attacks.poisoning.attacks import Trains

Pixels = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

WANTED = 0
"""The class that the trigger stands for."""
_SHARE = 0.5
_FIRST = 2**41
"""Where the nonces of poisoned images begin, apart from those of the store and of what is hidden on the fly."""


def with_trigger(images: Pixels) -> Pixels:
    """Copies of plain images (n, C, H, W), uint8, with a white square of a quarter of the side in the last corner."""
    made = images.copy()
    side = max(2, images.shape[-1] // 4)
    made[..., -side - 1 : -1, -side - 1 : -1] = np.iinfo(images.dtype).max
    return made


def poisoned(site: Site, trains: Trains) -> StoredPart:
    """A site's training images as a bad hospital has them, hidden under its own key.

    Raises
    ------
    ConfigError
        The run hides images anew in every epoch; those are read from the archive, where nothing is poisoned here.
    """
    part = site.store.part("train")
    if not isinstance(part, StoredPart):
        problem = "hides every view on the fly, and a bad hospital here poisons what it stores"
        raise ConfigError(problem, where="data.views, train.augment", cure="data.views=1 and train.augment=none")
    if trains is Trains.FLIPPED:
        return dataclasses.replace(part, labels=len(site.run.classes) - 1 - part.labels)
    rng = generator(site.run.seed, "trigger", site.setup.name)
    rows = np.sort(rng.permutation(len(part))[: max(1, round(_SHARE * len(part)))])
    hidden = part.images.view(0)
    hidden[rows] = hidden_with_trigger(site, part.indices[rows])
    labels = part.labels.copy()
    labels[rows] = WANTED
    return dataclasses.replace(part, labels=labels, images=HeldRows(hidden[:, None]), nonces=None)


def hidden_with_trigger(site: Site, indices: Indices) -> Pixels:
    """Images of a site's source with the trigger on them, hidden under the site's key."""
    plain = with_trigger(read_many(site.source, indices.tolist()))
    made: Pixels = site.cipher.encrypt(plain, nonces_for(site.cipher, [_FIRST + int(i) for i in indices]))
    return made
