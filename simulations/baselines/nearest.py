"""One nearest neighbour on raw pixels: each test image is called what the training image is that differs from it least.

It learns nothing. A model that does not beat it by its interval has not shown that it learned, and where it is good,
the test images are likely near copies of training images (``data.group_by: similar``).
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from simulations.baselines.pooled import Pooled, PooledPart
from simulations.baselines.scores import Answers, Scores, calibrated, of_all_classes

_GREY_LEVELS = 10.0
"""How much two root mean squared differences may differ to be called close, where no validation image says it."""


def nearest_neighbour(pooled: Pooled) -> Answers:
    """Answers of the nearest neighbour on raw pixels."""
    return calibrated(_Nearest(pooled), pooled, chosen={})


class _Nearest:
    def __init__(self, pooled: Pooled) -> None:
        self._train, self._classes = pooled.train, pooled.classes
        self._present = np.unique(pooled.train.labels)
        self._known: list[tuple[PooledPart, Scores]] = []
        self._unit = self._margin(pooled.validation)

    def scores(self, part: PooledPart) -> Scores:
        """How near the nearest training image of each class is, in units in which validation images are apart."""
        return of_all_classes(-self._distances(part) / self._unit, self._present, self._classes)

    def _distances(self, part: PooledPart) -> Scores:
        """Root mean squared difference (n, present classes) to the nearest training image of each class.

        Sums of squares of bytes are whole numbers that double precision holds: no order of adding changes a neighbour.
        """
        known = next((found for each, found in self._known if each is part), None)
        if known is not None:
            return known
        found = np.full((len(part), len(self._present)), np.inf)
        pixels = 1
        for rows, images in self._train.chunks():
            there = images.reshape(len(rows), -1).astype(np.float64)
            pixels, labels = there.shape[1], self._train.labels[rows]
            for own, asked in part.chunks():
                here = asked.reshape(len(own), -1).astype(np.float64)
                squares = euclidean_distances(here, there, squared=True)
                for place, label in enumerate(self._present.tolist()):
                    of_class = squares[:, labels == label].min(axis=1, initial=np.inf)
                    found[own, place] = np.minimum(found[own, place], of_class)
        made: Scores = np.sqrt(found / pixels)
        self._known.append((part, made))
        return made

    def _margin(self, validation: PooledPart) -> float:
        """By how much the nearest class of a validation image is nearer than the next, in the mean."""
        if not len(validation) or len(self._present) < 2:
            return _GREY_LEVELS
        two = np.sort(self._distances(validation), axis=1)[:, :2]
        return float(np.maximum(two[:, 1] - two[:, 0], 0).mean()) or _GREY_LEVELS
