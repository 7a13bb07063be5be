"""jigsaw: the order of blocks from their seams, after the inside of blocks; images without any key."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np

from simulations.attacks.ciphertext.covariance import as_key, put_right
from simulations.attacks.solvers import symmetries
from simulations.attacks.solvers.assembly import assemble, misfits
from simulations.attacks.solvers.blocks import Indices, Pixels, cut, signed_permutation
from simulations.attacks.solvers.layout import Layout, Moments, recover_layout
from simulations.attacks.solvers.schemes import Kind, blocks_are_whole, kind_of, may_negate, no_jigsaw
from simulations.attacks.solvers.truth import true_blocks
from simulations.attacks.solvers.turned_assembly import assemble_turned, laid_out, meetings
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
from simulations.attacks.study.controls import BlockShuffle
from simulations.attacks.study.setting import Setting

_GUESSES = 20
"""Random orders that chance is the mean of."""
_NAMES = ("neighbour", "largest_component", "direct")


@dataclass(frozen=True)
class Found:
    """From one number of images: the hidden block laid at each place, (rows, columns), and the images."""

    laid: Indices
    images: Pixels


class Jigsaw(Attack):
    """Put the inside of blocks right (`covariance`), then lay blocks by how well their edges meet in all images.

    Parameters
    ----------
    images
        Numbers of ciphertexts under one key, each tried on its own.
    looked_at
        Images that SSIM is taken over, at most.
    """

    name = "jigsaw"
    knowledge = frozenset({Knowledge.CIPHERTEXTS})
    text = (
        "The whole way from ciphertexts alone to images. Where the scheme moves pixels inside blocks, their layout is "
        "recovered first, as the attack covariance does. Then blocks are laid like a jigsaw: how badly the edges of "
        "two blocks meet is summed over all images of the key, since the order of blocks is the same in each, and "
        "pairs are joined in the order of their certainty. Where each grey block is turned, mirrored and negated in "
        "its own way (etc), all ways in which two edges can meet are compared, and a pair that is joined says how the "
        "second block lies. Direct: blocks in their own place; neighbour: neighbours that are true ones; all in the "
        "best of the eight orientations, SSIM also of the negative and in grey, as a viewer would see it, and chance "
        "likewise."
    )
    papers = (
        "Gallagher 2012, CVPR (tree-based assembly)",
        "arXiv:2202.00806",
        "arXiv:2211.02369",
        "arXiv:2305.04543 (several images under one key)",
        "J. Imaging 12(2):65, 2026 (grey etc from ciphertexts alone; the edge measure here is our own)",
    )
    margin = 0.2
    weight = 8.0
    control = BlockShuffle

    def __init__(self, *, images: Sequence[int] = (1, 10, 100), looked_at: int = 100) -> None:
        self.images, self.looked_at = tuple(sorted(images)), looked_at
        self.main = f"neighbour_{self.images[-1]}"
        self.wanted = self.images[-1]

    def within(self, images: int) -> Self:
        """With its numbers up to that."""
        made = copy.copy(self)
        made.images = up_to(self.images, images)
        made.main = f"neighbour_{made.images[-1]}"
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Three shares of the block order, and the images."""
        kinds = (
            ("neighbour", "neighbours that are true ones", "share", Chance.GUESS),
            ("largest_component", "blocks in the largest right piece", "share", Chance.GUESS),
            ("direct", "blocks in their own place", "share", Chance.GUESS),
            ("ssim", "images as a viewer sees them", "SSIM", Chance.IMAGE),
        )
        return tuple(each for kind in kinds for each in by_images(*kind, at=self.images))

    def applies_to(self, target: Target) -> str | None:
        """To blocks that are whole, or that all have one in-block order, and to grey ones that are each turned."""
        return no_jigsaw(target.config, target.geometry)

    def case(self, setting: Setting, key: int) -> Case:
        """As many ciphertexts as the largest number asks for."""
        return setting.case(key, images=max(setting.images, self.images[-1]), fewest=setting.images)

    def recover(self, seen: Seen, rng: np.random.Generator) -> dict[int, Found]:
        """Lay the blocks from each number of images there is."""
        hidden = seen.ciphertexts.images
        return {n: self._laid(hidden[:n], hidden[: self.looked_at], seen, rng) for n in self.images if n <= len(hidden)}

    def _laid(self, used: Pixels, opened: Pixels, seen: Seen, rng: np.random.Generator) -> Found:
        shape = seen.geometry
        if kind_of(seen.config) is Kind.OWN_STATES:
            return _turned(used, opened, seen, rng)
        layout = _inside(used, seen, rng)
        # In an order of our own, so that no tie is decided by where a block stood.
        shuffled = rng.permutation(shape.blocks)
        pieces = cut(put_right(used, layout, seen), shape.block)[:, shuffled]
        pieces = pieces.reshape(len(used), shape.blocks, shape.channels, shape.block, shape.block)
        laid = shuffled[assemble(misfits(pieces), shape.grid)]
        key = as_key(layout, np.argsort(laid.ravel()), shape.block)
        return Found(laid, signed_permutation(key, shape).decrypt(opened, shape.largest))

    def score(self, found: dict[int, Found], case: Case) -> Scores:
        """Compare the order with the true one, and the images with the originals."""
        true = true_blocks(case.cipher)
        made: Scores = {}
        for n in self.images:
            each = found.get(n)
            shares = None if each is None or true is None else laid_right(true[each.laid])
            made |= {f"{name}_{n}": math.nan if shares is None else shares[name] for name in _NAMES}
            made[f"ssim_{n}"] = math.nan if each is None else self._seen(each.images, case)
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """Random orders, on average; the mean image and other images of the class."""
        shape = case.geometry
        drawn = [laid_right(rng.permutation(shape.blocks).reshape(shape.grid)) for _ in range(_GUESSES)]
        yield {f"{name}_{n}": float(np.mean([each[name] for each in drawn])) for name in _NAMES for n in self.images}
        for images in case.guessed:
            value = self._seen(images[: self.looked_at], case)
            yield {f"ssim_{n}": value for n in self.images}

    def _seen(self, images: Pixels, case: Case) -> float:
        truth, largest = case.targets.pixels[: len(images)], case.geometry.largest
        return float(symmetries.viewed(partial(scores.ssim, largest=largest), images, truth, largest=largest).mean())

    def pictures(self, found: dict[int, Found], case: Case) -> list[Picture]:
        """Originals, ciphertexts, and what each number of ciphertexts gives."""
        return [
            Picture("original", case.targets.pixels[:4]),
            Picture("ciphertext", case.hidden.images[:4]),
            *(Picture(f"recovered from {n} ciphertext{'s' * (n > 1)} alone", found[n].images[:4]) for n in found),
        ]


def _turned(used: Pixels, opened: Pixels, seen: Seen, rng: np.random.Generator) -> Found:
    """Lay blocks that are each turned, mirrored and negated."""
    shape = seen.geometry
    shuffled = rng.permutation(shape.blocks)

    def pieces(images: Pixels) -> Pixels:
        made = cut(images, shape.block)[:, shuffled]
        return made.reshape(len(images), shape.blocks, shape.channels, shape.block, shape.block)

    laid = assemble_turned(meetings(pieces(used), shape.largest), shape.grid)
    opened = laid_out(pieces(opened), laid, shape.largest)
    return Found(shuffled[laid.blocks], shape.join(opened.reshape(len(opened), shape.blocks, -1)))


def laid_right(layout: Indices) -> Scores:
    """Scores of a layout, (rows, columns) of true places, each in its best orientation."""
    places = np.arange(layout.size)
    rate = {
        "neighbour": scores.neighbour_accuracy,
        "largest_component": scores.largest_component,
        "direct": lambda each: scores.share_right(each.ravel(), places),
    }
    return {name: symmetries.in_any_orientation(rate[name], layout) for name in _NAMES}


def _inside(used: Pixels, seen: Seen, rng: np.random.Generator) -> Layout:
    shape = seen.geometry
    if blocks_are_whole(seen.config):
        places = np.arange(shape.block_length)
        return Layout(places // shape.block**2, places % shape.block**2, np.zeros(len(places), np.bool_))
    moments = Moments(shape.block_length, shape.largest)
    moments.add(used, shape.block)
    return recover_layout(moments, shape.channels, negate=may_negate(seen.config), rng=rng)
