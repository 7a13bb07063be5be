"""Which images a site holds, and how it splits them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from fl_client.data.base import Item, Source
from fl_client.data.config import SIMILAR, DataConfig, joins_similar, named_group
from fl_client.data.copies import Copies, copies_in
from fl_client.data.dealing import shares_of
from fl_client.data.documents import Documents
from fl_client.data.rng import generator
from fl_client.data.splits import Groups, Indices, deal, group_items, split_items
from medveil.config import to_mapping
from medveil.errors import ConfigError, DataError
from medveil.evaluating import ALL
from medveil.plain import shown

_LONGEST = 80


@dataclass(frozen=True)
class Parts:
    """One site's images: sorted int64 indices into ``Source.items``.

    Attributes
    ----------
    train, validation, test : int64 (n,)
        Disjoint; a group is in one of them only.
    missing_classes : tuple of str
        Classes without a training image here: worth a warning, not an error.
    copies : tuple of int
        Validation and test images left out, as copies of them are or may be trained on.
    """

    train: Indices
    validation: Indices
    test: Indices
    missing_classes: tuple[str, ...] = ()
    copies: tuple[int, ...] = ()


def site_parts(
    source: Source, config: DataConfig, *, sites: int, index: int, seed: int, kept: Documents | None = None
) -> Parts:
    """Deal a source to `sites` sites and split the share of site `index`.

    Every site that calls this with the same arguments gets disjoint shares that together are the whole source; with
    ``data.partition.test: common`` the test part is held out first and is the same at every site. A real hospital calls
    it with ``sites=1, index=0``. Where ``data.split_seed`` is set it takes the place of `seed`.

    With ``data.partition.pooled`` one place has what so many sites would train, validate and test on.

    Copies of one picture are dealt as one group. Where the images bring their own sites or parts, a validation or test
    image is left out of which a copy is or may be trained on, here or at another site.

    Parameters
    ----------
    kept
        Where digests of contents are kept from one start to the next.

    Raises
    ------
    ConfigError
        `index` is not below `sites`, or the files name another number of sites.
    DataError
        There are too few images or groups for this many sites or parts.
    """
    if not 0 <= index < sites:
        raise ConfigError(f"site {index} of {sites} does not exist")
    if config.partition.pooled:
        return _pooled(source, config, sites=sites, seed=seed, kept=kept)
    copies = copies_in(source, kept=kept)
    try:
        return _site_parts(source, copies, config, sites=sites, index=index, seed=seed)
    except DataError as error:
        if not copies.alike:
            raise
        told = f"{sum(map(len, copies.alike))} images are copies of {len(copies.alike)} pictures, and stay together"
        raise DataError(error.problem, where=error.where, cure=f"{told}; else {error.cure}") from error


def measured_parts(
    source: Source,
    config: DataConfig,
    *,
    sites: int,
    index: int,
    seed: int,
    images: str,
    kept: Documents | None = None,
) -> Parts:
    """What a site measures where nothing trains, as its test part; it has no other.

    Parameters
    ----------
    images
        `medveil.evaluating.ALL`: its whole share, which then need not be enough for a split; or `TEST`, the test part
        of it, drawn as `site_parts` draws it.

    Other parameters and errors as `site_parts`.
    """
    dealt = {"sites": sites, "index": index, "seed": seed}
    whole = sites == 1 and not config.partition.pooled and config.partition.kind not in {"site", "column"}
    if images == ALL and whole:
        chosen, copies = np.arange(len(source.items), dtype=np.int64), tuple[int, ...]()
    else:
        parts = site_parts(source, config, **dealt, kept=kept)
        found = [parts.test, *([parts.train, parts.validation, parts.copies] if images == ALL else [])]
        chosen = np.unique(np.concatenate([np.asarray(each, dtype=np.int64) for each in found]))
        copies = () if images == ALL else parts.copies
    present = {source.items[i].label for i in chosen.tolist()}
    missing = tuple(name for label, name in enumerate(source.classes) if label not in present)
    none = np.zeros(0, dtype=np.int64)
    return Parts(none, none, chosen, missing, copies)


def _pooled(source: Source, config: DataConfig, *, sites: int, seed: int, kept: Documents | None) -> Parts:
    """What the sites of a federation hold, part by part, in one place: nothing is split anew."""
    if sites != 1:
        problem, cure = f"puts all images in one place, and there are {sites} sites", "sites=1, or 0"
        raise ConfigError(problem, where="data.partition.pooled", cure=cure)
    count = config.partition.pooled
    apart = replace(config, partition=replace(config.partition, pooled=0))
    parts = [site_parts(source, apart, sites=count, index=i, seed=seed, kept=kept) for i in range(count)]
    train, validation, test = (
        np.unique(np.concatenate([getattr(each, name) for each in parts])) for name in ("train", "validation", "test")
    )
    present = {source.items[i].label for i in train.tolist()}
    missing = tuple(name for label, name in enumerate(source.classes) if label not in present)
    copies = sorted({i for each in parts for i in each.copies} - {*validation.tolist(), *test.tolist()})
    return Parts(train, validation, test, missing, tuple(copies))


def _site_parts(source: Source, copies: Copies, config: DataConfig, *, sites: int, index: int, seed: int) -> Parts:
    items, fold = copies.items, seed
    seed = _split_seed(config, seed)
    dealt = _dealt_once(source, items, config, sites=sites, seed=seed)
    common, validation, share = dealt.common, dealt.validation, dealt.shares[index]
    if config.folds:
        common = _fold(items, share, config, index=index, seed=seed, fold=fold % config.folds)
        share = np.setdiff1d(share, common)
    made = split_items(
        items,
        share,
        # The common test was taken off first: what is left owes the validation part its fraction of the whole.
        validation=validation if common is None else validation / max(1e-9, 1 - _taken(common, dealt, items, index)),
        test=dealt.test,
        rng=generator(seed, "split", index),
        where=f"site {index}",
        by=grouped_by(config),
    )
    present = {items[i].label for i in made.train.tolist()}
    missing = tuple(name for label, name in enumerate(source.classes) if label not in present)
    judged = made.validation, made.test if common is None else common
    own = np.union1d(dealt.shares[index], judged[1])
    known = [copies.trained_on(each, train=made.train, own=own) for each in judged]
    left = [np.setdiff1d(each, out) for each, out in zip(judged, known, strict=True)]
    return Parts(made.train, left[0], left[1], missing, tuple(np.concatenate(known).tolist()))


def _split_seed(config: DataConfig, seed: int) -> int:
    """What draws shares and parts: under folds the same for all seeds, so that each image is in one fold."""
    if config.split_seed is not None:
        return config.split_seed
    return 0 if config.folds else seed


def _fold(items: Sequence[Item], share: Indices, config: DataConfig, *, index: int, seed: int, fold: int) -> Indices:
    """The images of a site that a fold tests: groups whole, classes alike, every group in one fold."""
    groups = group_items(items, share)
    if any(split is not None for split in groups.splits):
        raise ConfigError("is set, and the images bring parts", where="data.folds", cure="data.split=drawn, or 0")
    if len(groups.members) < config.folds:
        problem = f"{len(groups.members)} groups of images cannot be {config.folds} folds"
        raise DataError(problem, where=f"site {index}", cure="fewer folds, or more images")
    shares = np.full((groups.strata.shape[1], config.folds), 1 / config.folds)
    part_of = deal(groups.strata, shares, rng=generator(seed, "folds", index))
    return groups.gather(part_of == fold)


def _taken(tested: Indices, dealt: _Dealt, items: Sequence[Item], index: int) -> float:
    """The share of what a validation fraction is of that was taken off for the test before."""
    return len(tested) / (len(items) if dealt.common is not None else len(dealt.shares[index]))


class _Dealt(NamedTuple):
    """A source dealt to its sites: the test images of all, each site's others, and the fractions to draw of these."""

    common: Indices | None
    shares: list[Indices]
    validation: float
    test: float


_kept: WeakKeyDictionary[Source, dict[str, _Dealt]] = WeakKeyDictionary()


def _dealt_once(source: Source, items: Sequence[Item], config: DataConfig, *, sites: int, seed: int) -> _Dealt:
    """Deal an open source, once for all of its sites: dealing looks at every image."""
    key = json.dumps([to_mapping(config), sites, seed], sort_keys=True)
    held = _kept.setdefault(source, {})
    if key not in held:
        held[key] = _deal(items, config, sites=sites, seed=seed)
    return held[key]


def _deal(items: Sequence[Item], config: DataConfig, *, sites: int, seed: int) -> _Dealt:
    official = {item.split for item in items}
    everything = np.arange(len(items))
    common = _common_test(items, everything, config, official, seed) if config.partition.test == "common" else None
    pool = everything if common is None else np.setdiff1d(everything, common)
    test = 0.0 if common is not None or config.folds or "test" in official else config.test
    validation = 0.0 if "validation" in official else config.validation
    parts_to_draw = max(config.folds, 1 + (test > 0) + (validation > 0))
    shares = _shares(items, pool, config, sites=sites, seed=seed, groups_needed=parts_to_draw)
    return _Dealt(common, shares, validation, test)


def grouped_by(config: DataConfig) -> str | None:
    """What images are grouped by, as ``data.group_by`` or a source's own rule has it; None for nothing."""
    named = named_group(config) or ("PatientID" if config.source in {"dicom", "hidden", "phantoms"} else None)
    named = None if named == "none" else named
    if not joins_similar(config):
        return named
    return SIMILAR if named is None else f"{named}+{SIMILAR}"


def _common_test(
    items: Sequence[Item], everything: Indices, config: DataConfig, official: set[str | None], seed: int
) -> Indices:
    if "test" in official:
        return np.array([i for i in everything.tolist() if items[i].split == "test"], dtype=np.int64)
    if not config.test > 0:
        raise ConfigError("is 0, yet data.partition.test is common", where="data.test", cure="a fraction above 0")
    groups = group_items(items, everything)
    # Official validation images are no test images: only what is free for training may be held out.
    pool = np.array([split in (None, "train") for split in groups.splits])
    shares = np.tile([1 - config.test, config.test], (groups.strata.shape[1], 1))
    chosen = np.zeros(len(pool), dtype=bool)
    chosen[pool] = deal(groups.strata[pool], shares, rng=generator(seed, "common test")) == 1
    if not chosen.any():
        cure = groups.cure(grouped_by(config), "raise data.test")
        raise DataError("too few groups of images to hold out a common test", cure=cure)
    return groups.gather(chosen)


def _shares(
    items: Sequence[Item], pool: Indices, data: DataConfig, *, sites: int, seed: int, groups_needed: int
) -> list[Indices]:
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
