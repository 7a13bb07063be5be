"""A support vector machine with a radial kernel on principal components of the pixels, both scikit-learn's.

Images with longer sides are averaged to `_SIDE` pixels first. Of the penalties `_PENALTIES` the one is taken that is
right about most validation images, the smaller of equals; components and kernel width are fixed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.svm import SVC

from crypto.imaging.preprocess import to_square
from medveil.errors import DataError
from simulations.baselines.pooled import Bytes, Pooled, PooledPart
from simulations.baselines.scores import Answers, Scores, calibrated, of_all_classes

COMPONENTS = 200
_SIDE = 64
_PENALTIES = (1.0, 10.0, 100.0)
_WITHOUT_VALIDATION = 10.0
_MOST_FITTED = 10_000
"""Images that the components are found on: in colour half a gigabyte of pixels."""
_AT_ONCE = 512
Floats = npt.NDArray[np.float32]


def svm(pooled: Pooled) -> Answers:
    """Answers of the machine (DataError where all training images are of one class)."""
    if len(np.unique(pooled.train.labels)) < 2:
        raise DataError("all training images are of one class", where="federation svm")
    components = _components(pooled.train)
    trained = _projected(components, pooled.train)
    machines = [_fitted(trained, pooled.train.labels, penalty) for penalty in _tried(pooled)]
    validation = _projected(components, pooled.validation)
    right = [float((_predicted(each, validation) == pooled.validation.labels).sum()) for each in machines]
    best = machines[int(np.argmax(right))]
    chosen = {"penalty": best.C, "components": int(components.n_components_), "side": _side(pooled.train)}
    return calibrated(_Machine(components, best, pooled.classes), pooled, chosen=chosen)


def _tried(pooled: Pooled) -> tuple[float, ...]:
    return _PENALTIES if len(pooled.validation) else (_WITHOUT_VALIDATION,)


class _Machine:
    def __init__(self, components: PCA, machine: SVC, classes: int) -> None:
        self._components, self._machine, self._classes = components, machine, classes

    def scores(self, part: PooledPart) -> Scores:
        """The decision function of each class; of a class without a training image, never the largest."""
        return of_all_classes(
            _decided(self._machine, _projected(self._components, part)), self._machine.classes_, self._classes
        )


def _fitted(features: Floats, labels: npt.NDArray[np.int64], penalty: float) -> SVC:
    return SVC(C=penalty, kernel="rbf", gamma="scale", cache_size=500).fit(features, labels)


def _decided(machine: SVC, features: Floats) -> Scores:
    """Scores (n, present classes)."""
    if not len(features):
        return np.zeros((0, len(machine.classes_)))
    found = np.asarray(machine.decision_function(features), dtype=np.float64)
    return np.stack([-found, found], axis=1) if found.ndim == 1 else found


def _predicted(machine: SVC, features: Floats) -> npt.NDArray[np.int64]:
    made: npt.NDArray[np.int64] = machine.classes_[_decided(machine, features).argmax(axis=1)]
    return made


def _components(train: PooledPart) -> PCA:
    n = len(train)
    # Evenly over all images by name, the same however they are dealt to sites.
    rows = np.arange(n)
    if n > _MOST_FITTED:
        rows = np.argsort(np.array(train.ids))[np.linspace(0, n - 1, _MOST_FITTED).round().astype(np.int64)]
    features = np.empty((len(rows), _features(train.raw(rows[:1])).shape[1]), np.float32)
    for start in range(0, len(rows), _AT_ONCE):
        features[start : start + _AT_ONCE] = _features(train.raw(rows[start : start + _AT_ONCE]))
    count = max(1, min(COMPONENTS, len(features) - 1, features.shape[1] - 1))
    # In place: the features are most of the memory this takes, and nobody else's.
    return PCA(n_components=count, svd_solver="randomized", random_state=0, copy=False).fit(features)


def _projected(components: PCA, part: PooledPart) -> Floats:
    made = np.zeros((len(part), int(components.n_components_)), dtype=np.float32)
    for rows, images in part.chunks():
        made[rows] = components.transform(_features(images))
    return made


def _side(part: PooledPart) -> int:
    return min(_SIDE, int(part.raw(np.arange(1)).shape[-1]))


def _features(images: Bytes) -> Floats:
    """Pixels (n, values) from 0 to 1 of images uint8 (n, C, S, S)."""
    if images.shape[-1] > _SIDE:
        channels = images.shape[1]
        planes = images[:, 0] if channels == 1 else images.transpose(0, 2, 3, 1)
        images = np.stack([to_square(np.ascontiguousarray(each), size=_SIDE, channels=channels) for each in planes])
    made: Floats = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return made
