"""covariance: the in-block order from ciphertexts alone, by which positions of a block are alike."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from crypto.base import StemPermutation
from simulations.attacks.solvers import symmetries
from simulations.attacks.solvers.assembly import misfits
from simulations.attacks.solvers.blocks import Indices, Pixels, cut
from simulations.attacks.solvers.layout import Layout, Moments, recover_layout
from simulations.attacks.solvers.schemes import blocks_stay, may_negate, one_order_for_all_blocks
from simulations.attacks.solvers.truth import true_key
from simulations.attacks.study.attack import Attack, Knowledge, Metric, Picture, Scores, Target, by_images, up_to
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting

_GUESSES = 8
"""Random layouts that chance is the mean of."""
_SEAMS = 20
"""Images whose seams decide which way is up."""


@dataclass(frozen=True)
class Found:
    """The layout from each number of images that there were, and the images with their blocks put right."""

    layouts: dict[int, Layout]
    images: Pixels


class Covariance(Attack):
    """Correlations of positions over all blocks under one key, a map of them, and the map put on a grid.

    Parameters
    ----------
    images
        Numbers of ciphertexts under one key, each tried on its own.
    """

    name = "covariance"
    recovers = "facts"
    knowledge = frozenset({Knowledge.CIPHERTEXTS})
    text = (
        "Pixels that were neighbours are alike in every block, wherever the key put them: the correlation of two "
        "positions, over all blocks of the ciphertexts under one key, tells how near their places were. A neighbour "
        "graph, multidimensional scaling and an assignment turn correlations into the layout of a block; channels fall "
        "apart in the graph, and a negated position by the sign of its correlations. Places count as "
        "found when no more than 1 or 2 pixels off in either direction, in the best of the eight orientations, for "
        "chance as for the attack. Which way is up the seams decide where blocks stay in place; where blocks are moved "
        "too, turned pieces make a turned image that fits as well, and the orientation is a guess."
    )
    papers = (
        "Tenenbaum, de Silva, Langford 2000, doi:10.1126/science.290.5500.2319 (Isomap)",
        "arXiv:2211.02369 (restoring pixel-shuffled blocks)",
    )
    margin = 0.2
    control = "none"
    weight = 2.0

    def __init__(self, *, images: Sequence[int] = (1, 10, 100, 1000)) -> None:
        self.images = tuple(sorted(images))
        # Half way: the largest number may be more than a data set has.
        self.shown = self.images[len(self.images) // 2]
        self.main = f"within_1_{self.shown}"
        self.wanted = self.images[-1]

    def within(self, images: int) -> Self:
        """With its numbers up to that."""
        made = copy.copy(self)
        made.images, made.shown = up_to(self.images, images), min(self.shown, images)
        made.main = f"within_1_{made.shown}"
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Shares of positions placed, by the number of images."""
        kinds = (
            ("within_1", "positions placed within 1 pixel"),
            ("within_2", "positions placed within 2 pixels"),
            ("exact", "positions placed exactly"),
            ("flips", "negations found, up to a negative"),
        )
        series = tuple(each for kind in kinds for each in by_images(*kind, at=self.images))
        return (*series, Metric("upright", f"layouts that are upright, from {self.shown} images"))

    def applies_to(self, target: Target) -> str | None:
        """It is written for one in-block order shared by all blocks."""
        if target.scheme == "block-shuffle":
            return "block-shuffle leaves the inside of blocks alone"
        return one_order_for_all_blocks(target.config)

    def case(self, setting: Setting, key: int) -> Case:
        """As many ciphertexts as the largest number asks for, or as many as there are."""
        return setting.case(key, images=self.images[-1], fewest=1)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Found:
        """Add up moments image by image, and make a layout at each number."""
        shape, hidden = seen.geometry, seen.ciphertexts.images
        moments = Moments(shape.block_length, shape.largest)
        layouts: dict[int, Layout] = {}
        done = 0
        for n in self.images:
            if n > len(hidden):
                break
            moments.add(hidden[done:n], shape.block)
            done = n
            layout = recover_layout(moments, shape.channels, negate=may_negate(seen.config), rng=rng)
            layouts[n] = _oriented(layout, seen, rng)
        shown = layouts[max(n for n in layouts if n <= self.shown)]
        return Found(layouts, put_right(hidden[:4], shown, seen))

    def score(self, found: Found, case: Case) -> Scores:
        """Shares of positions, NaN for numbers of images that the data set does not have."""
        made: Scores = {}
        true = true_key(case.cipher)
        for n in self.images:
            layout = found.layouts.get(n)
            shares = None if layout is None or true is None else placed(layout, true, case)
            for name in ("within_1", "within_2", "exact", "flips"):
                made[f"{name}_{n}"] = math.nan if shares is None else shares[name]
            if n == self.shown:
                made["upright"] = math.nan if shares is None else shares["upright"]
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """Random layouts: each in its best orientation, on average."""
        # Any key will do: a random layout is as far from one as from another.
        true = _random(case, rng)
        drawn = [
            placed(_random(case, rng), as_key(true, np.arange(1), case.geometry.block), case) for _ in range(_GUESSES)
        ]
        mean = {name: float(np.mean([each[name] for each in drawn])) for name in drawn[0]}
        mean["upright"] = 1 / symmetries.COUNT
        yield {metric.name: mean[metric.series or metric.name] for metric in self.metrics}

    def pictures(self, found: Found, case: Case) -> list[Picture]:
        """Originals, ciphertexts, and ciphertexts whose blocks are put right inside."""
        return [
            Picture("original", case.targets.pixels[:4]),
            Picture("ciphertext", case.hidden.images[:4]),
            Picture(f"inside of blocks put right, from {self.shown} ciphertexts", found.images),
        ]


def placed(layout: Layout, true: StemPermutation, case: Case) -> Scores:
    """Compare a layout with the true one: shares of positions, and whether it is upright.

    All but `upright` are in the best of the eight orientations.
    """
    edge = case.geometry.block
    wanted = np.stack(np.divmod(true.rho % edge**2, edge))
    shares = []
    for turn in symmetries.places(edge):
        found = np.stack(np.divmod(turn[layout.place], edge))
        off = np.abs(found - wanted).max(axis=0)
        shares.append([float((off <= limit).mean()) for limit in (1, 2, 0)])
    within_1, within_2, exact = np.array(shares).T
    right = float((layout.mask == true.mask).mean())
    return {
        "within_1": within_1.max(),
        "within_2": within_2.max(),
        "exact": exact.max(),
        "flips": max(right, 1 - right) if may_negate(case.config) else math.nan,
        # Layout 0 is the one the attack chose; that of no turn must be the best.
        "upright": float(within_2.argmax() == 0),
    }


def put_right(hidden: Pixels, layout: Layout, seen: Seen) -> Pixels:
    """Put the values of every block in their places and undo negations; blocks stay where they are."""
    shape = seen.geometry
    blocks = cut(hidden, shape.block)
    plain = np.empty_like(blocks)
    plain[..., layout.rho(shape.block)] = np.where(layout.mask, shape.largest - blocks, blocks)
    return shape.join(plain)


def _oriented(layout: Layout, seen: Seen, rng: np.random.Generator) -> Layout:
    """Turn a layout upright: by the seams between blocks where blocks are in place, else at random."""
    turns = symmetries.places(seen.geometry.block)
    turned = [layout._replace(place=turn[layout.place]) for turn in turns]
    if not blocks_stay(seen.config):
        return turned[int(rng.integers(len(turned)))]
    images = [put_right(seen.ciphertexts.images[:_SEAMS], each, seen) for each in turned]
    return turned[int(np.argmin([seams(each, seen.geometry.block, seen.geometry.grid) for each in images]))]


def seams(images: Pixels, block: int, grid: tuple[int, int]) -> float:
    """Misfit of all neighbouring blocks where they lie, summed over images."""
    n, channels = images.shape[:2]
    fits = misfits(cut(images, block).reshape(n, -1, channels, block, block))
    at = np.arange(grid[0] * grid[1]).reshape(grid)
    right, down = fits.right[at[:, :-1], at[:, 1:]], fits.down[at[:-1], at[1:]]
    return float(right.sum() + down.sum())


def _random(case: Case, rng: np.random.Generator) -> Layout:
    shape = case.geometry
    rho: Indices = rng.permutation(shape.block_length)
    mask = rng.random(len(rho)) < (0.5 if may_negate(case.config) else 0.0)
    return Layout(rho // shape.block**2, rho % shape.block**2, mask)


def as_key(layout: Layout, order: Indices, edge: int) -> StemPermutation:
    """A layout and a block order in the form of a block-pixel key."""
    return StemPermutation(layout.rho(edge).astype(np.int64), order.astype(np.int64), layout.mask)
