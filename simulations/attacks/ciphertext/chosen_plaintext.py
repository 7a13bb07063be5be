"""chosen-plaintext: a few images of the attacker's own, hidden by the owner, give the key exactly."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from crypto.base import Geometry
from simulations.attacks import scores
from simulations.attacks.base import Attack, Chance, Knowledge, Metric, Picture, Scores, Target, mean_scores
from simulations.attacks.blocks import Pixels, SignedPermutation, cut, folded, row_classes, signed_permutation
from simulations.attacks.cases import Case, Oracle, Seen, hide
from simulations.attacks.matching import recover_key
from simulations.attacks.schemes import IN_BLOCKS, may_negate, moved_values

_NOISE_IMAGES = 4
_NOISE_NONCES = 2**34
_MOST = 16
"""Helper images tried at most where blocks are used."""


@dataclass(frozen=True)
class Found:
    """The permutation as the digits give it, as the blocks give it, and the others opened with the cheaper of the two.

    `helpers` and `helpers_any` are numbers of images the owner hid for the attacker.
    """

    any_scheme: SignedPermutation
    helpers_any: int
    best: SignedPermutation
    helpers: int
    images: Pixels


class ChosenPlaintext(Attack):
    """Number every value of an image by digits that survive moving and negating; or use the blocks, and one image."""

    name = "chosen-plaintext"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.CHOSEN})
    text = (
        "The attacker has images of its own choice hidden under the key. Any scheme that moves and negates values, "
        "always in the same way, is read off exactly: each value of the image is numbered, a digit to an image, with "
        "digits below 128 so that negation shows; 224x224x3 takes 3 images. A scheme that treats all blocks alike "
        "takes fewer: one image of noise whose blocks and positions all differ, which the attacker checks before "
        "sending it. Whether the result is exact is measured on noise, where a guess is right for 1 value in 256."
    )
    papers = (
        "Li et al. 2008, doi:10.1016/j.image.2008.01.003",
        "Jolfaei, Wu, Muthukkumarasamy 2016, doi:10.1109/TIFS.2015.2489178",
        "Chang, Case 2020, arXiv:2004.13263",
    )
    main = "ssim_of_others"
    margin = 0.2
    control = "none"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Helper images, values recovered, and the other images, for the scheme's own structure and without it."""
        return (
            Metric("helpers", "images that suffice", "images", "lower", Chance.NONE),
            Metric("values_right", "values of hidden noise read right with them"),
            Metric("helpers_any", "images that suffice for any moving and negating", "images", "lower", Chance.NONE),
            Metric("values_right_any", "values of hidden noise read right with those"),
            Metric("ssim_of_others", "other images of the key, decrypted", "SSIM", chance=Chance.IMAGE),
        )

    def applies_to(self, target: Target) -> str | None:
        """To every scheme that moves or negates values."""
        return moved_values(target)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Found:
        """Ask, and read the answers."""
        shape, negate = seen.geometry, may_negate(seen.config)
        digits = by_digits(seen.oracle, shape, negate=negate)
        helpers = _digits_needed(shape, negate=negate)
        best, fewest = digits, helpers
        if seen.config.scheme in IN_BLOCKS:
            plain = decisive_helpers(shape, negate=negate, rng=rng)
            if plain is not None and len(plain) < helpers:
                best, fewest = by_blocks(seen.oracle, plain, shape, negate=negate, rng=rng), len(plain)
        images = best.decrypt(seen.ciphertexts.images, shape.largest)
        return Found(digits, helpers, best, fewest, images)

    def score(self, found: Found, case: Case) -> Scores:
        """How much of hidden noise, and of the other images, is read right."""
        return {
            "helpers": found.helpers,
            "values_right": _values_right(found.best, case),
            "helpers_any": found.helpers_any,
            "values_right_any": _values_right(found.any_scheme, case),
            **mean_scores({"ssim_of_others": scores.ssim(found.images, case.targets.pixels)}),
        }

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A guessed value; the mean image and other images of the class."""
        right = 1 / (case.geometry.largest + 1)
        yield {"values_right": right, "values_right_any": right}
        for images in case.guessed:
            yield mean_scores({"ssim_of_others": scores.ssim(images, case.targets.pixels)})

    def pictures(self, found: Found, case: Case) -> list[Picture]:
        """Other images: plain, hidden, and opened."""
        helpers = f"{found.helpers} chosen image{'' if found.helpers == 1 else 's'}"
        return [
            Picture("original", case.targets.pixels[:4]),
            Picture("ciphertext", case.hidden.images[:4]),
            Picture(f"recovered with {helpers}", found.images[:4]),
        ]


def by_digits(oracle: Oracle, shape: Geometry, *, negate: bool) -> SignedPermutation:
    """Number all P values of an image and read where each went: exact for every fixed moving and negating of values.

    Image k holds digit k of each number, in a base of half the grey values, so that a negated digit is in the upper
    half; in the base of all grey values where nothing is negated.
    """
    base = _base(shape, negate=negate)
    size = shape.blocks * shape.block_length
    places = np.arange(size)
    count = _digits_needed(shape, negate=negate)
    helpers = np.stack([places // base**k % base for k in range(count)]).astype(np.uint8 if base <= 256 else np.uint16)
    asked = oracle(helpers.reshape(count, shape.channels, *shape.padded))
    answers = asked.images.reshape(count, -1).astype(np.int64)
    flips = (answers[0] >= base) if negate else np.zeros(size, np.bool_)
    read = np.where(flips, shape.largest - answers, answers)
    source = (read * base ** np.arange(count)[:, None]).sum(axis=0)
    # Only an answer that does not follow the rule gives a place outside the image.
    return SignedPermutation((source % size).astype(np.intp), flips)


def decisive_helpers(shape: Geometry, *, negate: bool, rng: np.random.Generator) -> Pixels | None:
    """The fewest noise images (m, C, H, W) whose blocks and positions can all be told apart; None beyond 16.

    The attacker can check this before asking: with multisets of blocks all different and columns of positions all
    different (up to a negative, where values may be negated), `recover_key` has no choice left.
    """
    base = _base(shape, negate=negate)
    for count in range(1, _MOST + 1):
        noise = rng.integers(0, base, (count, shape.channels, *shape.padded))
        blocks = cut(noise.astype(np.uint8 if shape.bits <= 8 else np.uint16), shape.block)
        if _all_differ(blocks, shape.largest, negate=negate):
            return noise.astype(blocks.dtype)
    return None


def by_blocks(
    oracle: Oracle, helpers: Pixels, shape: Geometry, *, negate: bool, rng: np.random.Generator
) -> SignedPermutation:
    """Recover a block-pixel key from hidden helper images."""
    hidden = cut(oracle(helpers).images, shape.block)
    key = recover_key(cut(helpers, shape.block), hidden, largest=shape.largest, negate=negate, rng=rng)
    return signed_permutation(key, shape)


def _all_differ(blocks: Pixels, largest: int, *, negate: bool) -> bool:
    multisets = np.sort(folded(blocks, largest) if negate else blocks, axis=2).transpose(1, 0, 2)
    columns = (folded(blocks, largest) if negate else blocks).transpose(2, 0, 1)
    return all(
        len(np.unique(row_classes(each.reshape(len(each), -1))[0])) == len(each) for each in (multisets, columns)
    )


def _base(shape: Geometry, *, negate: bool) -> int:
    return (shape.largest + 1) // 2 if negate else shape.largest + 1


def _digits_needed(shape: Geometry, *, negate: bool) -> int:
    size = shape.blocks * shape.block_length
    return max(1, math.ceil(math.log(size) / math.log(_base(shape, negate=negate)) - 1e-9))


def _values_right(found: SignedPermutation, case: Case) -> float:
    shape = case.geometry
    noise = np.random.default_rng(0).integers(
        0, shape.largest + 1, (_NOISE_IMAGES, shape.channels, *shape.padded), dtype=case.targets.pixels.dtype
    )
    hidden = hide(case.cipher, noise, first=_NOISE_NONCES)
    return float((found.decrypt(hidden.images, shape.largest) == noise).mean())
