"""What a model says of images: calibrated class probabilities, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp
from torch import Tensor, nn

from crypto.base import Reading
from fl_client.data.base import Skipped
from fl_client.export.calibration import Logits, probabilities_of
from fl_client.export.images import Asked, NoImage, Place, Reader
from fl_client.export.ready import Ready
from medveil.files import write_text
from medveil.sheets import sheet
from models.vit import normalise

BATCH = 32
_DECIMALS = 6


class Answers(NamedTuple):
    """Ids and calibrated class probabilities (n, K) of images, where they are, and what could not be read.

    The last are images that were missed, and other files.
    """

    ids: list[str]
    places: list[Place]
    probabilities: Logits
    skipped: list[Skipped]
    no_images: list[Skipped]


def predict_files(
    ready: Ready, images: Path, *, device: torch.device, views: int = 1, level: str | None = None
) -> Answers:
    """Ask a model about every image of a file or folder.

    Plain images are hidden in memory on the way to a model that reads hidden ones, so that it sees what it was trained
    on; hidden ones are read as they are.

    Parameters
    ----------
    views, level
        Views of each image whose probabilities are averaged: itself, and augmented ones (`fl_client.data.asked_views`);
        None: at the level of the model's run.

    Raises
    ------
    DataError
        There is nothing there.
    """
    model = ready.model.to(device)
    ids: list[str] = []
    places: list[Place] = []
    answers = Answers(ids, places, np.zeros((0, len(ready.described.classes))), [], [])
    rows: list[Logits] = [answers.probabilities]
    found = _sorted(Reader(ready, views=views, level=level).read(images), answers)
    while batch := list(islice(found, BATCH)):
        said = [
            logits_of(model, torch.from_numpy(np.stack(view)).to(device), ready.reading).cpu().numpy()
            for view in zip(*(each.views for each in batch), strict=True)
        ]
        rows.append(probabilities_of(mean_of(said), ready.described.temperature))
        ids += [each.id for each in batch]
        places += [each.place for each in batch]
    return answers._replace(probabilities=np.concatenate(rows))


def mean_of(said: Sequence[Logits]) -> Logits:
    """Logits (n, K) whose probabilities are the mean of those of several views; of one view its own."""
    if len(said) == 1:
        return said[0]
    made: Logits = logsumexp(np.stack([log_softmax(logits, axis=1) for logits in said]), axis=0) - np.log(len(said))
    return made


@torch.no_grad()
def logits_of(model: nn.Module, pixels: Tensor, reading: Reading) -> Tensor:
    """Logits float64 (n, K) of pixels uint8 or uint16 (n, C, H, W), as `reading` says they are read."""
    model.eval()
    bits, gain = reading
    made: Tensor = model(normalise(pixels, bits, gain=gain)).double()
    return made


def write_answers(answers: Answers, classes: Sequence[str], out: Path) -> Path:
    """Write the predictions, one row an image, and beside them what could not be read and why.

    Returns
    -------
    Path
        The second file, which is written also where all could be read.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    rows = zip(answers.ids, answers.probabilities.tolist(), strict=True)
    head = ["image", *(f"p({name})" for name in classes), "class"]
    made = [[each, *(f"{p:.{_DECIMALS}f}" for p in said), classes[int(np.argmax(said))]] for each, said in rows]
    beside = out.with_name(f"{out.stem}.unreadable.csv")
    write_missed([*answers.skipped, *answers.no_images], beside)
    write_text(out, sheet([head, *made]), mode=0o600)
    return beside


def write_missed(missed: Iterable[Skipped], out: Path) -> None:
    """Write what was left out and why, one row a file or image (StorageError where the disk refuses)."""
    write_text(out, sheet([["image", "reason"], *sorted(missed)]), mode=0o600)


def _sorted(found: Iterable[Asked | Skipped], answers: Answers) -> Iterator[Asked]:
    """The images; what could not be read goes into the answers."""
    for each in found:
        if isinstance(each, NoImage):
            answers.no_images.append(each)
        elif isinstance(each, Skipped):
            answers.skipped.append(each)
        else:
            yield each
