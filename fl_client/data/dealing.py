"""Shares of simulated sites: what fraction of each stratum (official split, class) each of them is to get.

The names are those of Flower Datasets (https://flower.ai/docs/datasets), whose own partitioners deal single rows of a
Hugging Face data set; here groups stay whole, so that `fl_client.data.splits.deal` deals them by these shares.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fl_client.data.config import PartitionConfig
from fl_client.data.splits import Groups
from medveil.errors import ConfigError

_DRAWS = 1000
Shares: TypeAlias = npt.NDArray[np.float64]
"""(S, sites): rows sum to 1."""


def shares_of(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    """The shares of a kind of partition (ConfigError where these classes cannot be dealt so)."""
    made = _KINDS.get(config.kind, _equal)(groups, config, sites, rng)
    return np.asarray(made, np.float64)


def _equal(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    return np.full((groups.strata.shape[1], sites), 1 / sites)


def _dirichlet(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    """Each class's shares over the sites, Dirichlet(alpha), the same in every official split.

    Yurochkin et al. 2019 (arXiv 1905.12022), who redraw until no site is too small; Hsu et al. 2019
    (arXiv 1909.06335) draw per client instead and keep the clients' sizes equal.
    """
    classes = int(groups.labels.max()) + 1
    counts = groups.strata.sum(axis=0)
    for _ in range(_DRAWS):
        per_class = rng.dirichlet(np.full(sites, config.alpha), size=classes)
        shares = per_class[groups.labels]
        if np.isfinite(shares).all() and (counts @ shares).min() >= config.min_per_site:
            break
    # A tiny alpha underflows to 0/0: the limit of the distribution is one site taking the whole class.
    lost = ~np.isfinite(shares).all(axis=1)
    shares[lost] = np.eye(sites)[groups.labels[lost] % sites]
    return np.asarray(shares, np.float64)


def _quantity(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    """Sizes drawn from Dirichlet(alpha), classes alike: the quantity skew of Li et al. 2022 (arXiv 2102.02079)."""
    whole = int(groups.sizes.sum())
    for _ in range(_DRAWS):
        sizes = rng.dirichlet(np.full(sites, config.alpha))
        if np.isfinite(sizes).all() and sizes.min() * whole >= config.min_per_site:
            break
    sizes = sizes if np.isfinite(sizes).all() else np.eye(sites)[0]
    return _by_size(groups, sizes)


def _linear(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    """Sizes as 1, 2, 3 and so on: Flower Datasets' LinearPartitioner."""
    return _by_size(groups, np.arange(1.0, sites + 1))


def _square(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    """Sizes as 1, 4, 9 and so on: Flower Datasets' SquarePartitioner."""
    return _by_size(groups, np.arange(1.0, sites + 1) ** 2)


def _exponential(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    """Sizes as powers of e: Flower Datasets' ExponentialPartitioner."""
    return _by_size(groups, np.exp(np.arange(sites) - sites + 1.0))


def _shards(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    """Images sorted by class and cut into equal shards, some for each site: McMahan et al. 2017 (arXiv 1602.05629).

    Flower Datasets' ShardPartitioner. A shard that lies over the end of a class has images of the next one too.
    """
    counts = groups.strata.sum(axis=0)
    classes = np.unique(groups.labels)
    per_class = np.array([counts[groups.labels == each].sum() for each in classes], np.float64)
    pieces = sites * config.shards
    edges = np.linspace(0, per_class.sum(), pieces + 1)
    ends = np.cumsum(per_class)
    over = np.minimum(ends[:, None], edges[None, 1:]) - np.maximum((ends - per_class)[:, None], edges[None, :-1])
    owner = rng.permutation(np.arange(pieces) % sites)
    owned = np.clip(over, 0, None) @ np.eye(sites)[owner]
    of_class = {int(each): row / row.sum() for each, row in zip(classes, owned, strict=True)}
    return np.stack([of_class[int(label)] for label in groups.labels])


def _pathological(groups: Groups, config: PartitionConfig, sites: int, rng: np.random.Generator) -> Shares:
    """So many classes for each site, each class alike among those that have it.

    Flower Datasets' PathologicalPartitioner. Classes are dealt to the sites in turn: none is left out.
    """
    classes = np.unique(groups.labels)
    if config.classes > len(classes) or sites * config.classes < len(classes):
        problem = f"{config.classes} of {len(classes)} classes at each of {sites} sites cannot be"
        least = -(-len(classes) // sites)
        raise ConfigError(problem, where="data.partition.classes", cure=f"{least} to {len(classes)}")
    order = rng.permutation(len(classes))
    has = np.zeros((len(classes), sites))
    for site in range(sites):
        has[order[(site * config.classes + np.arange(config.classes)) % len(classes)], site] = 1
    rows = has / has.sum(axis=1, keepdims=True)
    return np.asarray(rows[np.searchsorted(classes, groups.labels)], np.float64)


def _by_size(groups: Groups, sizes: npt.NDArray[np.float64]) -> Shares:
    return np.tile(sizes / sizes.sum(), (groups.strata.shape[1], 1))


_KINDS: dict[str, Callable[[Groups, PartitionConfig, int, np.random.Generator], Shares]] = {
    "dirichlet": _dirichlet,
    "quantity": _quantity,
    "linear": _linear,
    "square": _square,
    "exponential": _exponential,
    "shards": _shards,
    "pathological": _pathological,
}
