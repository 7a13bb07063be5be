"""Metrics of resampled images: which predictions belong to one image, how often a resample draws it, what it scores.

A *weight* is how often an image was drawn. The metrics take a table of weights, (b, n) for b resamples of n
predictions, and give (b,) values, so that a thousand resamples cost a few matrix products, not a thousand passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from medveil.errors import DataError
from simulations.predictions import Floats, Ints, Predictions, Runs, Sites

METRICS = ("accuracy", "balanced_accuracy", "auroc")
_CELLS = 2_000_000
"""Entries of a table of weights held at once."""

Metric = Callable[[Ints, npt.NDArray[np.float32], Floats], Floats]
"""(labels (n,), probabilities (n, K), weights (b, n)) -> (b,), NaN where undefined."""


def accuracies(labels: Ints, probabilities: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """Weighted share of images whose most probable class is their label."""
    correct = probabilities.argmax(axis=1) == labels
    return _ratio(weights @ correct, weights.sum(axis=1))


def balanced_accuracies(labels: Ints, probabilities: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """Weighted recall, averaged over the classes a resample has."""
    members = labels[:, None] == np.unique(labels)[None, :]
    correct = (probabilities.argmax(axis=1) == labels)[:, None]
    return _mean_defined(_ratio(weights @ (members & correct), weights @ members))


def aurocs(labels: Ints, probabilities: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """Weighted AUROC: of class 1 of two, else one class against the rest over the classes a resample has."""
    classes = [1] if probabilities.shape[1] == 2 else np.unique(labels).tolist()
    areas = [_area(labels == each, probabilities[:, each], weights) for each in classes]
    return _mean_defined(np.stack(areas, axis=1)) if areas else np.full(len(weights), np.nan)


def _area(positive: npt.NDArray[np.bool_], score: npt.NDArray[np.float32], weights: Floats) -> Floats:
    if not len(score):
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    ties = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * positive[order], ties, axis=1)
    negatives = np.add.reduceat(ordered * ~positive[order], ties, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    return _ratio((positives * below).sum(axis=1), positives.sum(axis=1) * negatives.sum(axis=1))


def _ratio(above: Floats, below: Floats) -> Floats:
    made: Floats = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return made


def _mean_defined(values: Floats, weights: Floats | None = None) -> Floats:
    """Weighted mean over the last axis, NaN entries left out; NaN where all are."""
    defined = np.isfinite(values)
    share = defined * (np.ones_like(values) if weights is None else weights)
    return _ratio((share * np.where(defined, values, 0)).sum(axis=-1), share.sum(axis=-1))


WEIGHTED: dict[str, Metric] = {
    "accuracy": accuracies,
    "balanced_accuracy": balanced_accuracies,
    "auroc": aurocs,
}


def means(runs: Runs, metric: str, counts: list[dict[str, Floats]]) -> Floats:
    """(b,) a metric averaged over sites (weighted by images, undefined ones left out), then over runs."""
    return _mean_defined(np.stack([_site_mean(*each, metric) for each in zip(runs, counts, strict=True)], axis=1))


def _site_mean(sites: Sites, counts: dict[str, Floats], metric: str) -> Floats:
    values = [WEIGHTED[metric](sites[s].labels, sites[s].probabilities, counts[s]) for s in sites]
    return _mean_defined(np.stack(values, axis=1), np.stack([counts[s].sum(axis=1) for s in sites], axis=1))


class Design(NamedTuple):
    """Which image each prediction is of, and which images are drawn together."""

    images: int
    members: list[dict[str, Ints]]  # for each run and site, the image each prediction is of
    group: Ints  # (images,) the group an image is drawn in


def design_of(runs: Runs) -> Design:
    """Find the images behind the predictions of some runs, and the groups they are drawn in."""
    places = [(r, site) for r, sites in enumerate(runs) for site in sites]
    if not places:
        raise DataError("there are no predictions to resample")
    lengths = [len(runs[r][site]) for r, site in places]
    image = image_of_each([runs[r][site] for r, site in places], [site for _, site in places])
    place = np.repeat(np.arange(len(places)), lengths)
    images = int(image.max()) + 1 if len(image) else 0
    touches = sparse.coo_matrix((np.ones(len(image)), (place, image + len(places))), shape=[len(places) + images] * 2)
    group = connected_components(touches, directed=False)[1][len(places) :].astype(np.int64)
    members: list[dict[str, Ints]] = [{} for _ in runs]
    for (r, site), own in zip(places, np.split(image, np.cumsum(lengths)[:-1]), strict=True):
        members[r][site] = own
    return Design(images, members, group)


def image_of_each(parts: list[Predictions], names: list[str]) -> Ints:
    """Number the images behind all predictions.

    The same id at two sites is the same image, unless some id carries two labels: then ids are names within a site.
    """
    ids = np.concatenate([each.ids for each in parts])
    labels = np.concatenate([each.labels for each in parts])
    image = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    if len(np.unique(np.stack([image, labels]), axis=1).T) == len(np.unique(image)):
        return image
    within = np.concatenate([np.char.add(f"{name}\x1f", each.ids) for each, name in zip(parts, names, strict=True)])
    return np.unique(within, return_inverse=True)[1].astype(np.int64)


def resamples(runs: Runs, *, n_boot: int, seed: int) -> Iterator[list[dict[str, Floats]]]:
    """Draw images with replacement within each group; yields, chunk by chunk, how often each prediction counts."""
    design = design_of(runs)
    groups = [np.flatnonzero(design.group == each) for each in np.unique(design.group)]
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS // max(1, sum(len(own) for sites in design.members for own in sites.values())))
    for start in range(0, n_boot, chunk):
        rows = min(chunk, n_boot - start)
        counts = np.zeros((rows, design.images))
        for group in groups:
            drawn = rng.integers(len(group), size=(rows, len(group))) + len(group) * np.arange(rows)[:, None]
            counts[:, group] = np.bincount(drawn.ravel(), minlength=rows * len(group)).reshape(rows, -1)
        yield [{site: counts[:, own] for site, own in sites.items()} for sites in design.members]
