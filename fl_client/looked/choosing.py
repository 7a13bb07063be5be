"""Which images are looked at: a few that a model was right about, and a few that it was wrong about, of each class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

HIT, MISS, ANSWER = "hit", "miss", "answer"
EACH = 2
"""Of each class as many hits, as many misses, and as many answers that nobody labelled."""
MOST_CLASSES = 6


class Chosen(NamedTuple):
    """An image by its row, and what it is: a hit, a miss, or an answer where its class is not known."""

    row: int
    kind: str


def choose(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.floating], *, each: int = EACH) -> list[Chosen]:
    """The surest hits and the surest misses of each class, class by class; of images without a label the surest.

    Parameters
    ----------
    labels
        int64 (n,): class of each image, -1 where it is not known.
    probabilities
        (n, K).
    each
        How many of each kind.

    Returns
    -------
    list of Chosen
        Of the first `MOST_CLASSES` classes alone; an image that nobody labelled counts to the class it is taken for.
    """
    if not len(labels):
        return []
    answered = probabilities.argmax(axis=1)
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")
    made = []
    for label in range(min(probabilities.shape[1], MOST_CLASSES)):
        kinds = {
            HIT: (labels == label) & (answered == label),
            MISS: (labels == label) & (answered != label),
            ANSWER: (labels < 0) & (answered == label),
        }
        for kind, rows in kinds.items():
            made += [Chosen(int(row), kind) for row in surest[rows[surest]][:each]]
    return made
