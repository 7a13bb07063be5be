"""Metrics without one group of images after another: which predictions belong together, and what the others score.

A *weight* is how much a prediction counts. The metrics take a table of weights, (b, n) for b replicates of n
predictions, and give (b,) values, so that hundreds of replicates cost a few matrix products, not hundreds of passes.
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
POOLED = (*METRICS, "sensitivity", "specificity", "f1", "pr_auc")
"""What is measured over the images of all sites together."""
FEWEST = 10
"""Groups that a site needs to be a stratum of its own; also those it needs to be averaged with an interval."""
_MOST_BLOCKS = 400
_CELLS = 2_000_000
"""Entries of a table of weights held at once."""

Mask = npt.NDArray[np.bool_]
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


def sensitivities(labels: Ints, probabilities: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """Weighted share found: of class 1 of two, else the mean over the classes present."""
    return _by_class(labels, probabilities, weights, lambda own, said, w: _ratio(w @ (own & said), w @ own))


def specificities(labels: Ints, probabilities: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """Weighted share of the others that are not taken for a class: of class 1 of two, else the mean over classes."""
    return _by_class(labels, probabilities, weights, lambda own, said, w: _ratio(w @ (~own & ~said), w @ ~own))


def f1_scores(labels: Ints, probabilities: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """Weighted F1: of class 1 of two, else the mean over the classes present; undefined without an image of it."""

    def of_class(own: Mask, said: Mask, w: Floats) -> Floats:
        found = _ratio(2 * (w @ (own & said)), w @ own + w @ said)
        return np.where(w @ own > 0, found, np.nan)

    return _by_class(labels, probabilities, weights, of_class)


def average_precisions(labels: Ints, probabilities: npt.NDArray[np.float32], weights: Floats) -> Floats:
    """Weighted average precision, the area under the steps of the precision-recall curve: classes as of `aurocs`."""
    classes = [1] if probabilities.shape[1] == 2 else np.unique(labels).tolist()
    areas = [_precision(labels == each, probabilities[:, each], weights) for each in classes]
    return _mean_defined(np.stack(areas, axis=1)) if areas else np.full(len(weights), np.nan)


def _by_class(
    labels: Ints,
    probabilities: npt.NDArray[np.float32],
    weights: Floats,
    measure: Callable[[Mask, Mask, Floats], Floats],
) -> Floats:
    said = probabilities.argmax(axis=1)
    classes = [1] if probabilities.shape[1] == 2 else np.unique(labels).tolist()
    found = [measure(labels == each, said == each, weights) for each in classes]
    return _mean_defined(np.stack(found, axis=1)) if found else np.full(len(weights), np.nan)


def _precision(positive: Mask, score: npt.NDArray[np.float32], weights: Floats) -> Floats:
    if not len(score):
        return np.full(len(weights), np.nan)
    order = np.argsort(-score, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(score[order]) != 0), len(score) - 1]
    ordered = weights[:, order]
    right = np.cumsum(ordered * positive[order], axis=1)[:, ends]
    called = np.cumsum(ordered, axis=1)[:, ends]
    precision = np.where(called > 0, np.divide(right, called, out=np.zeros_like(right), where=called > 0), 0)
    gained = np.diff(right, axis=1, prepend=0.0)
    return _ratio((gained * precision).sum(axis=1), right[:, -1])


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
    "sensitivity": sensitivities,
    "specificity": specificities,
    "f1": f1_scores,
    "pr_auc": average_precisions,
}


def means(runs: Runs, metric: str, counts: list[dict[str, Floats]]) -> Floats:
    """(b,) a metric averaged over sites (weighted by images, undefined ones left out), then over runs."""
    return _mean_defined(np.stack([_site_mean(*each, metric) for each in zip(runs, counts, strict=True)], axis=1))


def pooled_means(runs: Runs, metric: str, counts: list[dict[str, Floats]]) -> Floats:
    """(b,) a metric over the images of all sites together, averaged over runs."""
    return _mean_defined(np.stack([_pooled(*each, metric) for each in zip(runs, counts, strict=True)], axis=1))


def _pooled(sites: Sites, counts: dict[str, Floats], metric: str) -> Floats:
    labels = np.concatenate([each.labels for each in sites.values()])
    probabilities = np.concatenate([each.probabilities for each in sites.values()])
    return WEIGHTED[metric](labels, probabilities, np.concatenate([counts[s] for s in sites], axis=1))


def _site_mean(sites: Sites, counts: dict[str, Floats], metric: str) -> Floats:
    values = [WEIGHTED[metric](sites[s].labels, sites[s].probabilities, counts[s]) for s in sites]
    return _mean_defined(np.stack(values, axis=1), np.stack([counts[s].sum(axis=1) for s in sites], axis=1))


class Design(NamedTuple):
    """What the predictions of some runs stand on.

    Attributes
    ----------
    images
        How many images.
    members
        For each run and site, the group each prediction is of, int64 (n,).
    stratum
        int64 (groups,), the stratum of each group: a site, sites that predict the same images, or all small ones.
    """

    images: int
    members: list[dict[str, Ints]]
    stratum: Ints

    @property
    def groups(self) -> int:
        """How many groups."""
        return len(self.stratum)


def design_of(runs: Runs) -> Design:
    """Find the images and the groups behind the predictions of some runs, and what the groups are drawn in."""
    places = [(r, site) for r, sites in enumerate(runs) for site in sites]
    if not places:
        raise DataError("there are no predictions to resample")
    parts, names = [runs[r][site] for r, site in places], [site for _, site in places]
    image, group = image_of_each(parts, names), group_of_each(parts, names)
    lengths = [len(each) for each in parts]
    members: list[dict[str, Ints]] = [{} for _ in runs]
    for (r, site), own in zip(places, np.split(group, np.cumsum(lengths)[:-1]), strict=True):
        members[r][site] = own
    stratum = _joined(group, np.repeat(np.arange(len(places)), lengths))
    return Design(len(np.unique(image)), members, _without_small(stratum))


def _joined(mine: Ints, other: Ints) -> Ints:
    """(number of `mine`,) what connects them: those that share one of `other`, directly or through others."""
    if not len(mine):
        return np.zeros(0, np.int64)
    count = int(mine.max()) + 1
    size = count + int(other.max()) + 1
    touches = sparse.coo_matrix((np.ones(len(mine)), (mine, other + count)), shape=[size] * 2)
    joined: Ints = connected_components(touches, directed=False)[1][:count].astype(np.int64)
    return joined


def _without_small(stratum: Ints) -> Ints:
    """Strata numbered from 0; those of fewer than `FEWEST` groups become one, or part of the smallest other.

    Collapsed strata: Wolter, *Introduction to Variance Estimation* (2007), section 2.5.
    """
    number, sizes = np.unique(stratum, return_inverse=True, return_counts=True)[1:]
    small = sizes < FEWEST
    if small.any() and not small.all() and sizes[small].sum() < FEWEST:
        small |= sizes == sizes[~small].min()
    pooled = np.where(small, -1, np.arange(len(sizes)))
    made: Ints = np.unique(pooled[number], return_inverse=True)[1].astype(np.int64)
    return made


def group_of_each(parts: list[Predictions], names: list[str]) -> Ints:
    """Number the groups behind all predictions; images that any of the parts keeps together are together."""
    image = image_of_each(parts, names)
    group = np.concatenate([each.group_of_each for each in parts])
    ids = np.concatenate([each.ids for each in parts])
    if len(np.unique(ids)) != len(np.unique(image)):
        group = np.concatenate([_within(name, each.group_of_each) for each, name in zip(parts, names, strict=True)])
    unit = _joined(image, np.unique(group, return_inverse=True)[1].astype(np.int64))
    made: Ints = np.unique(unit, return_inverse=True)[1].astype(np.int64)[image]
    return made


def _within(name: str, ids: npt.NDArray[np.str_]) -> npt.NDArray[np.str_]:
    return np.char.add(f"{name}\x1f", ids)


def image_of_each(parts: list[Predictions], names: list[str]) -> Ints:
    """Number the images behind all predictions.

    The same id at two sites is the same image, unless some id carries two labels: then ids are names within a site.
    """
    ids = np.concatenate([each.ids for each in parts])
    labels = np.concatenate([each.labels for each in parts])
    image = np.unique(ids, return_inverse=True)[1].astype(np.int64)
    if len(np.unique(image * (labels.max(initial=0) + 1) + labels)) == image.max(initial=-1) + 1:
        return image
    within = np.concatenate([_within(name, each.ids) for each, name in zip(parts, names, strict=True)])
    return np.unique(within, return_inverse=True)[1].astype(np.int64)


def replicates(design: Design, *, seed: int = 0) -> Iterator[Replicates]:
    """Leave out one block of groups after another, and let the others of its stratum stand in for it.

    A block is a group, or some at random where there are many. Chunk by chunk.
    """
    block, blocks = _blocks(design.stratum, np.random.default_rng(seed))
    of_block = np.zeros(blocks, np.int64)
    of_block[block] = design.stratum
    in_stratum = np.bincount(of_block)
    gain = in_stratum / np.maximum(1, in_stratum - 1)
    chunk = max(1, _CELLS // max(1, sum(len(own) for sites in design.members for own in sites.values())))
    for start in range(0, blocks, chunk):
        out = np.arange(start, min(blocks, start + chunk))
        counts = np.where(of_block[out][:, None] == design.stratum[None, :], gain[design.stratum], 1.0)
        counts[out[:, None] == block[None, :]] = 0.0
        yield Replicates(
            of_block[out], [{site: counts[:, own] for site, own in sites.items()} for sites in design.members]
        )


class Replicates(NamedTuple):
    """Some replicates: the stratum of what each leaves out, and how much each prediction counts in it, (b, n)."""

    stratum: Ints
    counts: list[dict[str, Floats]]


def _blocks(stratum: Ints, rng: np.random.Generator) -> tuple[Ints, int]:
    block, start = np.zeros(len(stratum), np.int64), 0
    for each in np.unique(stratum):
        own = rng.permutation(np.flatnonzero(stratum == each))
        count = min(len(own), max(FEWEST, round(_MOST_BLOCKS * len(own) / len(stratum))))
        block[own] = start + np.arange(len(own)) % count
        start += count
    return block, start
