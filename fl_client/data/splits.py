"""Dealing images into parts: stratified by class, groups kept whole, the same for the same seed everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fl_client.data.config import SIMILAR
from fl_client.data.items import Item
from fl_client.data.rng import generator
from medveil.errors import DataError
from medveil.plain import shown

Indices = npt.NDArray[np.int64]
PARTS = ("train", "validation", "test")
_LONGEST = 80


@dataclass(frozen=True)
class Groups:
    """Images that stay together.

    Attributes
    ----------
    members : list of int64 (m,)
        Indices of the images of each group.
    strata : int64 (G, S)
        How many images of each stratum (official split, class) a group has.
    labels : int64 (S,)
        Class of each stratum.
    splits : list of str or None, length G
        Official split of each group.
    """

    members: list[Indices]
    strata: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    splits: list[str | None]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Images per group, int64 (G,)."""
        return np.asarray(self.strata.sum(axis=1))

    def cure(self, by: str | None, otherwise: str) -> str:
        """What to do where there are too few groups.

        Parameters
        ----------
        by
            What the images are grouped by, None for nothing: an anonymised data set has one placeholder for all.
        otherwise
            What helps where the groups are right.
        """
        if by is None or len(self.members) == self.sizes.sum():
            return otherwise
        if by.endswith(SIMILAR):
            told = f"{self.sizes.sum()} images are {len(self.members)} groups of such that look alike"
            return f"{told}: raise data.similar, or {otherwise}"
        told = f"{self.sizes.sum()} images bear {len(self.members)} different {shown(by, most=_LONGEST)}"
        right = "set data.group_by to what does, or to none"
        return f"{told}: if that does not tell patients apart, {right}; if it does, {otherwise}"

    def gather(self, chosen: npt.NDArray[np.bool_]) -> Indices:
        """Sorted indices of the images of the chosen groups."""
        picked = [self.members[g] for g in np.flatnonzero(chosen)]
        return np.sort(np.concatenate(picked)) if picked else np.empty(0, dtype=np.int64)


class Split(NamedTuple):
    """A site's three parts: sorted int64 indices of a source's images."""

    train: Indices
    validation: Indices
    test: Indices


def group_items(items: Sequence[Item], indices: Indices, *, within_site: bool = False) -> Groups:
    """Collect images into groups; an image without one is a group of its own.

    Parameters
    ----------
    within_site
        Whether a group name means the same patient only within one hospital.

    Raises
    ------
    DataError
        A group stands in two official splits.
    """
    found: dict[tuple[str | None, str | int], list[int]] = {}
    for i in indices.tolist():
        site = items[i].site if within_site else None
        group = items[i].group
        found.setdefault((site, i if group is None else group), []).append(i)
    strata = sorted({(items[i].split or "", items[i].label) for i in indices.tolist()})
    column = {stratum: s for s, stratum in enumerate(strata)}
    counts = np.zeros((len(found), len(strata)), dtype=np.int64)
    splits: list[str | None] = []
    for g, members in enumerate(found.values()):
        for i in members:
            counts[g, column[items[i].split or "", items[i].label]] += 1
        official = {items[i].split for i in members}
        if len(official) > 1:
            name = shown(items[members[0]].group, most=_LONGEST)
            cure = "'data.split=drawn' deals the images anew, groups whole"
            raise DataError(f"group '{name}' stands in more than one official split", cure=cure)
        splits.append(official.pop())
    members_of = [np.array(members, dtype=np.int64) for members in found.values()]
    return Groups(members_of, counts, np.array([label for _, label in strata], dtype=np.int64), splits)


def deal(
    strata: npt.NDArray[np.int64], shares: npt.NDArray[np.float64], *, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Deal groups to parts so that every part nears its share of every stratum.

    Groups go, largest first and otherwise in random order, where they lessen the summed squared distance to the targets
    most. (scikit-learn's StratifiedGroupKFold does this for equal parts only.)

    Parameters
    ----------
    strata : int64 (G, S)
        Images of each stratum in each group.
    shares : float64 (S, P)
        Fraction of each stratum each part should get; rows sum to 1. A part whose column is zero gets nothing.

    Returns
    -------
    int64 (G,)
        The part of each group.
    """
    missing = shares * strata.sum(axis=0)[:, None]
    barred = np.where(shares.sum(axis=0) > 0, 0.0, -np.inf)
    order = rng.permutation(len(strata))
    order = order[np.argsort(-strata.sum(axis=1)[order], kind="stable")]
    # Ties are broken by what a part lacks altogether, then by chance: else the first part would get every rounding.
    chance = rng.random((len(strata), shares.shape[1])) * 1e-9
    part_of = np.empty(len(strata), dtype=np.int64)
    total = missing.sum(axis=0)
    for g in order.tolist():
        gain = strata[g] @ missing + 1e-6 * total + chance[g] + barred
        part = int(np.argmax(gain))
        part_of[g] = part
        missing[:, part] -= strata[g]
        total[part] -= strata[g].sum()
    return part_of


def limited(items: Sequence[Item], limit: int | None) -> list[int]:
    """Choose at most `limit` images, groups whole, each class and official split in its proportion.

    Raises
    ------
    DataError
        Even the smallest group is larger than `limit`.
    """
    if limit is None or limit >= len(items):
        return list(range(len(items)))
    groups = group_items(items, np.arange(len(items)))
    share = limit / len(items)
    shares = np.tile([share, 1 - share], (groups.strata.shape[1], 1))
    taken = deal(groups.strata, shares, rng=generator(0, "limit")) == 0
    sizes = groups.sizes
    while sizes[taken].sum() > limit:
        taken[np.flatnonzero(taken)[np.argmin(sizes[taken])]] = False
    if not taken.any():
        raise DataError(f"data.limit {limit} is smaller than the smallest group ({sizes.min()} images)")
    return [int(i) for i in groups.gather(taken)]


def split_items(
    items: Sequence[Item],
    indices: Indices,
    *,
    validation: float,
    test: float,
    rng: np.random.Generator,
    where: str,
    by: str | None = None,
) -> Split:
    """Split one site's images; those with an official split keep it, and only what no official part covers is drawn.

    Parameters
    ----------
    indices
        The site's images.
    validation, test
        Fractions of the site's images; 0 where an official part exists or none is wanted.
    where
        The site, for errors.
    by
        What the images are grouped by, for errors.

    Raises
    ------
    DataError
        There are fewer groups than parts to draw.
    """
    # By group alone: a patient whose files spell the institution in two ways is still one patient.
    groups = group_items(items, indices)
    pool = np.array([split in (None, "train") for split in groups.splits])
    fractions = np.array([1 - validation - test, validation, test])
    shares = np.tile(fractions, (groups.strata.shape[1], 1))
    part_of = np.array([PARTS.index(split or "train") for split in groups.splits], dtype=np.int64)
    part_of[pool] = deal(groups.strata[pool], shares, rng=rng)
    wanted = np.flatnonzero(fractions > 0).tolist()
    if pool.sum() < len(wanted):
        count = int(pool.sum())
        problem = f"{count} group{'' if count == 1 else 's'} of images cannot be split into {len(wanted)} parts"
        cure = groups.cure(by, "give more images, or set data.validation or data.test to 0")
        raise DataError(problem, where=where, cure=cure)
    _fill_empty(part_of, groups.sizes, pool, wanted=wanted)
    return Split(*(groups.gather(part_of == part) for part in range(len(PARTS))))


def _fill_empty(
    part_of: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    pool: npt.NDArray[np.bool_],
    *,
    wanted: Sequence[int],
) -> None:
    """Give each wanted part that got nothing the smallest group of the part with most groups; changes `part_of`."""
    for part in wanted:
        if (pool & (part_of == part)).any():
            continue
        held = [int((pool & (part_of == other)).sum()) for other in range(len(PARTS))]
        giving = np.flatnonzero(pool & (part_of == int(np.argmax(held))))
        part_of[giving[np.argmin(sizes[giving])]] = part
