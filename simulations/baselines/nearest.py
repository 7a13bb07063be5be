"""One nearest neighbour on raw pixels: each test image is called what the training image is that differs from it least.

It learns nothing. A model that does not beat it by its interval has not shown that it learned, and where it is good,
the test images are likely near copies of training images (``data.group_by: similar``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from simulations.baselines.pooled import Ints, Pooled, PooledPart
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
        # Both in one go: training images that are not stored are decoded whenever they are looked at.
        self._known = self._distances((pooled.validation, pooled.test))
        self._unit = self._margin(pooled.validation)

    def scores(self, part: PooledPart) -> Scores:
        """How near the nearest training image of each class is, in units in which validation images are apart."""
        return of_all_classes(-self._of(part) / self._unit, self._present, self._classes)

    def _of(self, part: PooledPart) -> Scores:
        return next(found for each, found in self._known if each is part)

    def _distances(self, parts: Sequence[PooledPart]) -> list[tuple[PooledPart, Scores]]:
        """Of each part the root mean squared difference (n, present classes) to the nearest training image of a class.

        Sums of squares of bytes are whole numbers that double precision holds: no order of adding changes a neighbour.
        What is held at once is a chunk of training images, a chunk of others, and one number an image and class.
        """
        found = [np.full((len(part), len(self._present)), np.inf) for part in parts]
        pixels = 1
        for rows, images in self._train.chunks():
            there = images.reshape(len(rows), -1).astype(np.float64)
            pixels, labels = there.shape[1], self._train.labels[rows]
            for part, nearest in zip(parts, found, strict=True):
                self._come_nearer(part, nearest, there, labels)
        return [(part, np.sqrt(nearest / pixels)) for part, nearest in zip(parts, found, strict=True)]

    def _come_nearer(self, part: PooledPart, nearest: Scores, there: Scores, labels: Ints) -> None:
        """Take more training images into account; changes `nearest`."""
        for own, asked in part.chunks():
            here = asked.reshape(len(own), -1).astype(np.float64)
            squares = euclidean_distances(here, there, squared=True)
            for place, label in enumerate(self._present.tolist()):
                of_class = squares[:, labels == label].min(axis=1, initial=np.inf)
                nearest[own, place] = np.minimum(nearest[own, place], of_class)

    def _margin(self, validation: PooledPart) -> float:
        """By how much the nearest class of a validation image is nearer than the next, in the mean."""
        if not len(validation) or len(self._present) < 2:
            return _GREY_LEVELS
        two = np.sort(self._of(validation), axis=1)[:, :2]
        return float(np.maximum(two[:, 1] - two[:, 0], 0).mean()) or _GREY_LEVELS
