"""Which images each of several sites gets: by their own sites, by a column, or as a kind of partition deals them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fl_client.data.config import SIMILAR, DataConfig, joins_similar, named_group
from fl_client.data.dealing import shares_of
from fl_client.data.items import Item
from fl_client.data.rng import generator
from fl_client.data.splits import Groups, Indices, deal, group_items
from medveil.errors import ConfigError, DataError
from medveil.plain import shown

_LONGEST = 80


def grouped_by(config: DataConfig) -> str | None:
    """What images are grouped by, as ``data.group_by`` or a source's own rule has it; None for nothing."""
    named = named_group(config) or ("PatientID" if config.source in {"dicom", "hidden", "phantoms"} else None)
    named = None if named == "none" else named
    if not joins_similar(config):
        return named
    return SIMILAR if named is None else f"{named}+{SIMILAR}"


def dealt_shares(
    items: Sequence[Item], pool: Indices, data: DataConfig, *, sites: int, seed: int, groups_needed: int
) -> list[Indices]:
    """The images of each site, sorted indices into `items`, by ``data.partition``.

    Parameters
    ----------
    items
        All images of the source.
    pool
        Those that are dealt.
    data
        How.
    sites, seed
        To how many sites, and what draws it.
    groups_needed
        Groups of training images that each site must have at least.

    Raises
    ------
    ConfigError
        The images name another number of sites, or have fewer values of the column.
    DataError
        Some images name no site or no value, a group has several, or there are too few groups.
    """
    config = data.partition
    if config.kind == "site":
        return _own_sites(items, pool, sites=sites)
    if config.kind == "column":
        return _whole_values(items, pool, by=str(config.by), sites=sites)
    if sites == 1:
        return [pool]
    groups = group_items(items, pool)
    rng = generator(seed, "partition", config.kind, sites)
    site_of = deal(groups.strata, shares_of(groups, config, sites, rng), rng=rng)
    needs = _Needs(sites, config.min_per_site, groups_needed, grouped_by(data))
    _give_to_the_poor(site_of, groups, needs, rng=rng)
    return [groups.gather(site_of == index) for index in range(sites)]


def _own_sites(items: Sequence[Item], pool: Indices, *, sites: int) -> list[Indices]:
    names = sorted({items[i].site or "" for i in pool.tolist()})
    if "" in names:
        raise DataError(
            "some images name no site, yet data.partition.kind is site",
            cure="InstitutionName in DICOM, or a column 'site' in the labels; data.partition.kind=iid deals them",
        )
    if len(names) != sites:
        raise ConfigError(
            f"the images name {len(names)} sites ({', '.join(names[:8])}), and {sites} are asked for",
            where="sites",
            cure=f"sites={len(names)}",
        )
    found: dict[str | None, list[int]] = {}
    for i in pool.tolist():
        found.setdefault(items[i].site, []).append(i)
    return [np.array(found[name], dtype=np.int64) for name in names]


def _whole_values(items: Sequence[Item], pool: Indices, *, by: str, sites: int) -> list[Indices]:
    """Values of a column dealt whole, the largest first, each to the site with fewest images by then.

    With as many values as sites each has one: Flower Datasets' NaturalIdPartitioner.
    """
    found: dict[str, list[int]] = {}
    for i in pool.tolist():
        found.setdefault(items[i].site or "", []).append(i)
    named = shown(by, most=_LONGEST)
    if "" in found:
        problem = f"{len(found[''])} images have no {named}, by which data.partition.kind=column deals them"
        raise DataError(problem, cure="fill the column, or deal in another way")
    value: dict[str | None, str | None] = {}
    grouped = [items[i] for i in pool.tolist() if items[i].group is not None]
    torn = next((each for each in grouped if value.setdefault(each.group, each.site) != each.site), None)
    if torn is not None:
        problem = f"group '{shown(torn.group, most=_LONGEST)}' has several values of {named}"
        raise DataError(problem, cure="name a column that all images of a group share, or deal in another way")
    if len(found) < sites:
        problem = f"the images have {len(found)} values of {named}, and {sites} sites are asked for"
        raise ConfigError(problem, where="sites", cure=f"{len(found)} or fewer")
    shares: list[list[int]] = [[] for _ in range(sites)]
    for name in sorted(found, key=lambda each: (-len(found[each]), each)):
        min(shares, key=len).extend(found[name])
    return [np.array(sorted(each), dtype=np.int64) for each in shares]


class _Needs(NamedTuple):
    """What each of `sites` sites must have at least; `by` is what images are grouped by."""

    sites: int
    min_per_site: int
    groups: int
    by: str | None


def _give_to_the_poor(
    site_of: npt.NDArray[np.int64], groups: Groups, wanted: _Needs, *, rng: np.random.Generator
) -> None:
    """Move random groups from the richest site to the poorest until each has what it needs; changes `site_of`."""
    splits = np.array([split or "train" for split in groups.splits])
    ones = np.ones(len(splits), dtype=np.int64)
    needs = [(splits == "train", ones, wanted.groups, "groups of training images")]
    needs += [(splits == name, ones, 1, f"groups of {name} images") for name in sorted(set(splits) - {"train"})]
    needs += [(ones > 0, groups.sizes, wanted.min_per_site, "images (data.partition.min_per_site)")]
    for eligible, weights, least, what in needs:
        while True:
            held = np.bincount(site_of, weights=weights * eligible, minlength=wanted.sites)
            poor, rich = int(np.argmin(held)), int(np.argmax(held))
            if held[poor] >= least:
                break
            movable = eligible & (site_of == rich) & (held[rich] - weights >= least)
            # Giving must not cost the giver what the needs before this one have secured.
            for name in set(splits[movable]):
                kept = wanted.groups if name == "train" else 1
                movable &= (splits != name) | (((site_of == rich) & (splits == name)).sum() > kept)
            if not movable.any():
                problem = (
                    f"{len(splits)} groups of images are too few for {wanted.sites} sites of at least {least} {what}"
                )
                fewer = "fewer sites, a larger data.partition.alpha, or a smaller data.partition.min_per_site"
                raise DataError(problem, cure=groups.cure(wanted.by, fewer))
            site_of[rng.choice(np.flatnonzero(movable))] = poor
