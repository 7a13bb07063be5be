"""aux-statistics: the block order from a public set of the same kind, by moments alone; then everything upright."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from crypto.base import Geometry, StemPermutation
from simulations.attacks.ciphertext.covariance import as_key, seams
from simulations.attacks.solvers import symmetries
from simulations.attacks.solvers.blocks import Flags, Indices, Pixels, cut, signed_permutation
from simulations.attacks.solvers.layout import Layout, Moments, recover_layout
from simulations.attacks.solvers.schemes import may_negate, one_order_for_all_blocks
from simulations.attacks.solvers.truth import true_key
from simulations.attacks.study import scores
from simulations.attacks.study.attack import (
    Attack,
    Chance,
    Knowledge,
    Metric,
    Picture,
    Scores,
    Target,
    by_images,
    up_to,
)
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]

_ROUNDS = 40
_UNARY = 0.1
"""Weight of a block's own moments beside its correlations with all others."""
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_SEAMS = 20
"""Images whose seams turn the blocks upright."""


class BlockMoments(NamedTuple):
    """What a set of images says of each place: (N, m) moments, and (N, N) correlations of means and of spreads."""

    own: Floats
    means: Floats
    spreads: Floats


@dataclass(frozen=True)
class Found:
    """From one number of images: the key as it is believed to be, and some images under it."""

    key: StemPermutation
    images: Pixels


class AuxStatistics(Attack):
    """Match moments of hidden blocks with moments of public images at each place, by assignment.

    Parameters
    ----------
    images
        Numbers of ciphertexts under one key, each tried on its own.
    looked_at
        Images that SSIM is taken over, at most.
    """

    name = "aux-statistics"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.PUBLIC})
    text = (
        "Images of one kind are alike in the same places: a skull is bright where a corner is black, and two places "
        "brighten together. Over the ciphertexts of a key each block has a mean, a spread and correlations with all "
        "other blocks, which hiding only reorders; a public set of the kind has them at known places, and an "
        "assignment matches the two. No seam is looked at for that. The inside of blocks comes from covariance; "
        "seams, polarity and names of channels then follow from the public set, so that nothing is left to a viewer: "
        "SSIM is taken as it comes. Where images have no fixed position, as tissue under a microscope, there is "
        "nothing to match, and the attack fails on its control as well."
    )
    papers = (
        "Naveed, Kamara, Wright 2015, doi:10.1145/2810103.2813651 (inference attacks from auxiliary data)",
        "Vogelstein et al. 2015, doi:10.1371/journal.pone.0121002 (graph matching by successive assignments)",
    )
    margin = 0.2
    weight = 4.0
    control = "none"

    def __init__(self, *, images: Sequence[int] = (10, 100, 1000), looked_at: int = 100) -> None:
        self.images, self.looked_at = tuple(sorted(images)), looked_at
        # Half way: the largest number may be more than a data set has.
        self.shown = self.images[len(self.images) // 2]
        self.main = f"blocks_within_1_{self.shown}"
        self.wanted = self.images[-1]

    def within(self, images: int) -> Self:
        """With its numbers up to that."""
        made = copy.copy(self)
        made.images, made.shown = up_to(self.images, images), min(self.shown, images)
        made.main = f"blocks_within_1_{made.shown}"
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Shares of blocks and of positions in a block, and the images, by the number of ciphertexts."""
        kinds = (
            ("blocks_within_1", "blocks placed within 1 block", "share", Chance.GUESS),
            ("blocks_exact", "blocks placed exactly", "share", Chance.GUESS),
            ("in_block_within_1", "positions in a block within 1 pixel, upright", "share", Chance.GUESS),
            ("ssim", "images as they come", "SSIM", Chance.IMAGE),
        )
        return tuple(each for kind in kinds for each in by_images(*kind, at=self.images))

    def applies_to(self, target: Target) -> str | None:
        """It is written for one in-block order shared by all blocks."""
        return one_order_for_all_blocks(target.config)

    def case(self, setting: Setting, key: int) -> Case:
        """As many ciphertexts as the largest number asks for, or as many as there are."""
        return setting.case(key, images=max(setting.images, self.images[-1]), fewest=setting.images)

    def recover(self, seen: Seen, rng: np.random.Generator) -> dict[int, Found]:
        """Add up moments image by image, and match them at each number."""
        shape, hidden = seen.geometry, seen.ciphertexts.images
        public = block_moments(seen.public.pixels, shape.block)
        tones = seen.public.pixels.mean(axis=(0, 2, 3))
        inside = Moments(shape.block_length, shape.largest)
        made: dict[int, Found] = {}
        done = 0
        for n in self.images:
            if n > len(hidden):
                break
            inside.add(hidden[done:n], shape.block)
            done = n
            layout = recover_layout(inside, shape.channels, negate=may_negate(seen.config), rng=rng)
            layout = named(layout, inside.means + shape.largest / 2, tones, shape, negate=may_negate(seen.config))
            key = _matched(hidden[:n], layout, public, seen, rng)
            made[n] = Found(key, signed_permutation(key, shape).decrypt(hidden[: self.looked_at], shape.largest))
        return made

    def score(self, found: dict[int, Found], case: Case) -> Scores:
        """Compare orders with the true ones as they are, in no other orientation."""
        true = true_key(case.cipher)
        made: Scores = {}
        for n in self.images:
            each = found.get(n)
            shares = None if each is None or true is None else _shares(each.key, true, case.geometry)
            for name in ("blocks_within_1", "blocks_exact", "in_block_within_1"):
                made[f"{name}_{n}"] = math.nan if shares is None else shares[name]
            made[f"ssim_{n}"] = math.nan if each is None else _ssim(each.images, case)
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A random key, on average; the mean image and other images of the class."""
        shape = case.geometry
        drawn = [_shares(_random_key(shape, rng), _random_key(shape, rng), shape) for _ in range(8)]
        yield {f"{name}_{n}": float(np.mean([each[name] for each in drawn])) for name in drawn[0] for n in self.images}
        for images in case.guessed:
            value = _ssim(images[: self.looked_at], case)
            yield {f"ssim_{n}": value for n in self.images}

    def pictures(self, found: dict[int, Found], case: Case) -> list[Picture]:
        """Originals, ciphertexts, and what each number of ciphertexts gives."""
        return [
            Picture("original", case.targets.pixels[:4]),
            Picture("ciphertext", case.hidden.images[:4]),
            *(Picture(f"recovered from {n} ciphertexts and a public set", found[n].images[:4]) for n in found),
        ]


def block_moments(images: Pixels, block: int, *, flips: Flags | None = None, largest: int = 255) -> BlockMoments:
    """Moments of the blocks of images (n, C, H, W) at each place, over all images; `flips` (L,) are undone first."""
    means, spreads = np.empty((2, len(images), (images.shape[2] // block) * (images.shape[3] // block)))
    for row, image in enumerate(images):
        blocks = cut(image[None], block)[0].astype(np.float32)
        if flips is not None:
            blocks[:, flips] = largest - blocks[:, flips]
        means[row], spreads[row] = blocks.mean(axis=1), blocks.std(axis=1)
    own = [means.mean(axis=0), means.std(axis=0), spreads.mean(axis=0), spreads.std(axis=0)]
    own += list(np.quantile(means, _QUANTILES, axis=0))
    return BlockMoments(np.stack(own, axis=1), _correlation(means), _correlation(spreads))


def match(hidden: BlockMoments, public: BlockMoments) -> Indices:
    """The place of each hidden block, intp (N,): first by its own moments, then by what it shares with the others.

    Each round assigns every block to the place where its correlations with all blocks, as they lie, are most like
    those of the public images there; the best round by the sum of all differences is kept.
    """
    scale = np.maximum(public.own.std(axis=0), 1e-9)
    unary = (((hidden.own[:, None] - public.own[None]) / scale) ** 2).sum(axis=2)
    pairs = [(hidden.means, public.means), (hidden.spreads, public.spreads)]
    place = linear_sum_assignment(unary)[1]
    best, least = place, _energy(place, pairs, unary)
    for _ in range(_ROUNDS):
        new = linear_sum_assignment(_UNARY * unary + sum(_costs(*pair, place) for pair in pairs))[1]
        if np.array_equal(new, place):
            break
        place = new
        energy = _energy(place, pairs, unary)
        if energy < least:
            best, least = place, energy
    made: Indices = best
    return made


def named(layout: Layout, means: Floats, tones: Floats, shape: Geometry, *, negate: bool) -> Layout:
    """Name the channels of a layout and choose its polarity by the mean tones of public images, (C,)."""
    upright = np.where(layout.mask, shape.largest - means, means)
    found = np.array([upright[layout.channel == each].mean() for each in range(shape.channels)])
    ways = [
        (float(np.abs((shape.largest - found if negative else found)[list(order)] - tones).sum()), order, negative)
        for order in permutations(range(shape.channels))
        for negative in ((False, True) if negate else (False,))
    ]
    _, order, negative = min(ways, key=lambda each: each[0])
    return layout._replace(channel=np.argsort(order)[layout.channel], mask=layout.mask ^ negative)


def _matched(
    hidden: Pixels, layout: Layout, public: BlockMoments, seen: Seen, rng: np.random.Generator
) -> StemPermutation:
    """Block order by moments, then the orientation of the inside of blocks by the seams of that order."""
    shape = seen.geometry
    shuffled = rng.permutation(shape.blocks)
    moments = block_moments(hidden, shape.block, flips=layout.mask, largest=shape.largest)
    # In an order of our own, so that no tie is decided by where a block stood.
    mine = BlockMoments(
        moments.own[shuffled],
        moments.means[np.ix_(shuffled, shuffled)],
        moments.spreads[np.ix_(shuffled, shuffled)],
    )
    order = np.empty(shape.blocks, np.intp)
    order[shuffled] = match(mine, public)
    keys = [as_key(layout._replace(place=turn[layout.place]), order, shape.block) for turn in _turns(shape)]
    images = [signed_permutation(key, shape).decrypt(hidden[:_SEAMS], shape.largest) for key in keys]
    return keys[int(np.argmin([seams(each, shape.block, shape.grid) for each in images]))]


def _turns(shape: Geometry) -> Indices:
    return symmetries.places(shape.block)


def _costs(hidden: Floats, public: Floats, place: Indices) -> Floats:
    """What it would cost each block to lie at each place while all others stay, (N, N)."""
    wanted = public[:, place]
    other = (np.arange(len(place))[:, None] != place[None]).astype(np.float64)
    cost = hidden**2 @ other.T - 2 * hidden @ (other * wanted).T + (other * wanted**2).sum(axis=1)
    made: Floats = cost - (other * (np.diag(hidden) - wanted) ** 2).T
    return made


def _energy(place: Indices, pairs: list[tuple[Floats, Floats]], unary: Floats) -> float:
    between = sum(float(((hidden - public[np.ix_(place, place)]) ** 2).sum()) for hidden, public in pairs)
    return between + _UNARY * float(unary[np.arange(len(place)), place].sum())


def _correlation(values: Floats) -> Floats:
    centred = values - values.mean(axis=0)
    deviation = centred.std(axis=0)
    scaled = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-6)
    made: Floats = scaled.T @ scaled / len(values)
    return made


def _shares(found: StemPermutation, true: StemPermutation, shape: Geometry) -> Scores:
    return {
        "blocks_within_1": _near(found.pi, true.pi, shape.grid[1]),
        "blocks_exact": scores.share_right(found.pi, true.pi),
        "in_block_within_1": _near(found.rho % shape.block**2, true.rho % shape.block**2, shape.block),
    }


def _near(found: npt.NDArray[np.int64], true: npt.NDArray[np.int64], columns: int) -> float:
    off = np.abs(np.stack(np.divmod(found, columns)) - np.stack(np.divmod(true, columns)))
    return float((off.max(axis=0) <= 1).mean())


def _ssim(images: Pixels, case: Case) -> float:
    return float(scores.ssim(images, case.targets.pixels[: len(images)], largest=case.geometry.largest).mean())


def _random_key(shape: Geometry, rng: np.random.Generator) -> StemPermutation:
    order, mask = rng.permutation(shape.blocks), np.zeros(shape.block_length, np.bool_)
    return StemPermutation(rng.permutation(shape.block_length), order, mask)
