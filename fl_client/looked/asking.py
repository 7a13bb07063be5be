"""The page of what a model answered: a site's own, with the images as they are and the model's attention over them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from fl_client.export.images import Asked, Place, Reader, stamp_of
from fl_client.export.predicting import Answers
from fl_client.export.ready import Ready
from fl_client.looked.choosing import choose
from fl_client.looked.drawing import Pictures, content
from medveil.errors import ConfigError, DataError
from medveil.files import write_text
from medveil.pages.filled import pages_of, style
from models.rollout import in_plain_order, rollout, why_unread
from models.vit import normalise

_OTHERS = "reads images another party hid, and no key here shows them"


class _Seen(NamedTuple):
    """An image, uint8 (C, S, S), and how much of each patch reached the classifier, float64 (N,), or (0,)."""

    image: npt.NDArray[np.uint8]
    shares: npt.NDArray[np.float64]


def check_page(ready: Ready, page: Path) -> None:
    """Refuse a page that could show nothing, before any image is read (ConfigError)."""
    if ready.described.hidden_source is not None:
        raise ConfigError(f"the model {_OTHERS}", where="--page", cure="leave it out")
    if page.is_dir():
        raise ConfigError("is a folder", where=page, cure="name a file for the page")


def write_page(ready: Ready, answers: Answers, page: Path, *, named: str, device: torch.device) -> int:
    """Write a page of some of the images that were asked about; nobody but this site is told of it.

    An image in a folder named as a class is of that class, and a hit or a miss; of others the answer alone is shown.

    Returns
    -------
    int
        Images on it.

    Raises
    ------
    DataError
        None of the images chosen can be shown: they came hidden, or were replaced meanwhile.
    StorageError
        The disk refuses.
    """
    classes = ready.described.classes
    known = {name: index for index, name in enumerate(classes)}
    labels = np.array([known.get(each.path.parent.name, -1) for each in answers.places], np.int64)
    refused = _why_not(ready)
    seen: dict[int, _Seen] = {}
    for each in choose(labels, answers.probabilities):
        asked = _again(ready, answers.places[each.row])
        if asked is not None and asked.plain is not None:
            shares = np.zeros(0) if refused else shares_of(ready, asked, device)
            seen[each.row] = _Seen(asked.plain, shares)
    if not seen:
        raise DataError("no image that was asked about can be shown", where=page, cure="leave out --page")
    rows = list(seen)
    pictures = Pictures(
        images=np.stack([each.image for each in seen.values()]),
        shares=np.stack([each.shares for each in seen.values()]) if not refused else np.zeros((0, 1)),
        labels=labels[rows],
        probabilities=answers.probabilities[rows],
        places=tuple(answers.ids[row] for row in rows),
        padded=ready.described.padded_size,
        refused=refused,
    )
    filled = pages_of(("fl_client", "looked")).get_template("page.html")
    headline = f"{len(rows)} of {len(answers.ids)} images, by {named}."
    text = filled.render(style=style(), title="Images and answers", headline=headline, found=content(pictures, classes))
    # It shows images as they are.
    write_text(page, text, mode=0o600)
    return len(rows)


def _why_not(ready: Ready) -> str:
    if ready.cipher is not None and ready.cipher.block_order() is None:
        return f"the scheme {ready.cipher.scheme} does not say where it puts a block"
    return why_unread(ready.model) or ""


def _again(ready: Ready, place: Place) -> Asked | None:
    """An image once more; None where its file was replaced since it was answered about."""
    if stamp_of(place.path) != place.stamp:
        return None
    found = (each for each in Reader(ready).read(place.path) if isinstance(each, Asked))
    return next((each for each in found if each.place.frame == place.frame), None)


def shares_of(ready: Ready, asked: Asked, device: torch.device) -> npt.NDArray[np.float64]:
    """How much of each patch of an image reached the classifier, float64 (N,), in the order of the plain image."""
    bits, gain = ready.reading
    pixels = torch.from_numpy(asked.views[0][None]).to(device)
    shares = rollout(ready.model.to(device), normalise(pixels, bits, gain=gain))
    order = None if ready.cipher is None else ready.cipher.block_order()
    made: npt.NDArray[np.float64] = (shares if order is None else in_plain_order(shares, order))[0].numpy()
    return made
