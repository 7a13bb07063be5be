"""From the gradient of a classifier's bias to the labels behind it.

Cross-entropy's gradient by the logits is p - y, probabilities less the label's one-hot row, and that of a batch is the
mean: g = mean(p) - counts / n. For one image the label is the only entry that may be negative (Zhao et al., "iDLG",
arXiv 2001.02610). For more, counts follow as soon as mean(p) is known, and a fresh head's is nearly even (Yin et al.,
arXiv 2104.07586; Wainakh et al., "User-Level Label Leakage from Gradients in Federated Learning", PoPETs 2022).
Label smoothing s moves s/K of each label to every class, and is undone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def label_of_one(gradient: Floats) -> int:
    """The label of a single image: where the gradient (K,) of the bias is least."""
    return int(np.argmin(gradient))


def counts_of(gradient: Floats, images: int, *, probabilities: Floats, smoothing: float = 0.0) -> Indices:
    """How many images of each class made a mean gradient.

    Parameters
    ----------
    gradient
        Of the head's bias, mean over the images, float64 (K,); of any scale where it was learned from an update.
    images
        How many there were.
    probabilities
        What the model answers on the mean of images like these, float64 (K,).
    smoothing
        ``train.label_smoothing``.

    Returns
    -------
    int64 (K,)
        Counts, not below 0, that add up to `images`.
    """
    shares = (probabilities - gradient - smoothing / len(gradient)) / (1 - smoothing)
    return whole(shares, images)


def whole(shares: Floats, images: int) -> Indices:
    """Shares as whole counts that add up: negative ones are none, and the largest remainders round up."""
    positive = np.maximum(shares, 0)
    total = positive.sum()
    exact = positive / total * images if total > 0 else np.full(len(shares), images / len(shares))
    counts = np.floor(exact).astype(np.int64)
    short = images - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
    made: Indices = counts
    return made


def share_told(found: Indices, true: Indices) -> float:
    """Share of images whose class the counts name: what two histograms (K,) of as many images have in common."""
    return float(np.minimum(found, true).sum() / true.sum())


def classes_told(found: Indices, true: Indices) -> float:
    """Share of classes of which it is said rightly whether any image is of them."""
    return float(((found > 0) == (true > 0)).mean())


class Taught:
    """Linear regression from what an update does to the head to the shares of labels behind it.

    An attacker trains as sites do, on public images with labels in proportions of its own choice, and looks at what
    comes of the head's bias. Whatever an optimiser makes of gradients over several steps is learnt with it: the
    idea is that of Chen and Vikalo, "Recovering Labels from Local Updates in Federated Learning" (arXiv 2405.00955).

    Parameters
    ----------
    updates
        What training changed of the head's bias, float64 (m, K).
    shares
        Shares of the labels that each was trained on, float64 (m, K).
    """

    def __init__(self, updates: Floats, shares: Floats) -> None:
        from sklearn.linear_model import RidgeCV  # noqa: PLC0415 - slow to import

        self._scale = max(float(np.abs(updates).max()), 1e-12)
        self._model = RidgeCV(alphas=np.logspace(-6, 2, 17)).fit(updates / self._scale, shares)

    def counts(self, update: Floats, images: int) -> Indices:
        """The counts behind an update (K,) of so many images."""
        return whole(np.asarray(self._model.predict(update[None] / self._scale)[0], dtype=np.float64), images)
