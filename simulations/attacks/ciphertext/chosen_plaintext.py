"""chosen-plaintext: a few images of the attacker's own, hidden by the owner, give the key exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import pdist

from crypto.base import Geometry
from simulations.attacks.solvers.blocks import Pixels, cut, folded, row_classes
from simulations.attacks.solvers.digits import by_digits, digit_base, digits_needed
from simulations.attacks.solvers.pairs import open_with
from simulations.attacks.solvers.rotation import length_error, plain_vectors, recover_rotation
from simulations.attacks.solvers.schemes import Kind, kind_of, may_negate
from simulations.attacks.study import scores
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Picture, Scores, mean_scores
from simulations.attacks.study.cases import Case, Seen, hide

_NOISE_IMAGES = 4
_NOISE_NONCES = 2**34
_MOST = 16
"""Helper images tried at most where blocks are used."""

Opener = Callable[[Pixels], Pixels]


@dataclass(frozen=True)
class Found:
    """What opens ciphertexts: the fewest helper images the scheme's structure needs, and digits for any structure.

    `by_digits` is None for a scheme that does not move values.
    """

    best: Opener
    helpers: int
    by_digits: Opener | None
    helpers_any: int
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
        "sending it. A scheme that turns blocks takes as many as have L blocks between them, of lengths that tell "
        "blocks apart. Whether the result is exact is measured on noise, where a guess is right for 1 value in 256."
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

    def recover(self, seen: Seen, rng: np.random.Generator) -> Found:
        """Ask, and read the answers."""
        shape, negate, kind = seen.geometry, may_negate(seen.config), kind_of(seen.config)
        hidden = seen.ciphertexts.images
        if kind is Kind.ROTATED:
            helpers = turning_helpers(shape, rng=rng)
            rotation = recover_rotation(helpers, seen.oracle(helpers).images, shape, rng=rng)
            return Found(rotation.decrypt, len(helpers), None, 0, rotation.decrypt(hidden))
        numbered = by_digits(lambda images: seen.oracle(images).images, shape, negate=negate)
        count = digits_needed(shape, negate=negate)
        best, fewest = _opener(numbered.decrypt, shape), count
        if kind is Kind.ALIKE:
            plain = decisive_helpers(shape, negate=negate, rng=rng)
            if plain is not None and len(plain) < count:
                best = open_with(plain, seen.oracle(plain).images, seen.config, shape, rng=rng).decrypt
                fewest = len(plain)
        return Found(best, fewest, _opener(numbered.decrypt, shape), count, best(hidden))

    def score(self, found: Found, case: Case) -> Scores:
        """How much of hidden noise, and of the other images, is read right."""
        by_number = found.by_digits
        return {
            "helpers": found.helpers,
            "values_right": _values_right(found.best, case),
            "helpers_any": math.nan if by_number is None else found.helpers_any,
            "values_right_any": math.nan if by_number is None else _values_right(by_number, case),
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


def decisive_helpers(shape: Geometry, *, negate: bool, rng: np.random.Generator) -> Pixels | None:
    """The fewest noise images (m, C, H, W) whose blocks and positions can all be told apart; None beyond 16.

    The attacker can check this before asking: with multisets of blocks all different and columns of positions all
    different (up to a negative, where values may be negated), `recover_key` has no choice left.
    """
    base = digit_base(shape, negate=negate)
    for count in range(1, _MOST + 1):
        noise = rng.integers(0, base, (count, shape.channels, *shape.padded))
        blocks = cut(noise.astype(np.uint8 if shape.bits <= 8 else np.uint16), shape.block)
        if _all_differ(blocks, shape.largest, negate=negate):
            return noise.astype(blocks.dtype)
    return None


def turning_helpers(shape: Geometry, *, rng: np.random.Generator) -> Pixels:
    """The fewest noise images whose blocks span all directions, and whose lengths tell all blocks apart."""
    count = -(-shape.block_length // shape.blocks)
    while True:
        size = (count, shape.blocks, shape.block_length)
        values = rng.choice([-1.0, 1.0], size) * rng.uniform(0.3, 1.0, size)
        images = shape.join(np.rint((values + 1) / 2 * shape.largest).astype(np.uint8))
        vectors = plain_vectors(images, shape)
        apart = pdist(np.linalg.norm(vectors, axis=2).T).min(initial=np.inf)
        spanned = np.linalg.matrix_rank(vectors.reshape(-1, shape.block_length))
        if spanned == shape.block_length and apart > length_error(shape):
            return images
        count += 1


def _all_differ(blocks: Pixels, largest: int, *, negate: bool) -> bool:
    multisets = np.sort(folded(blocks, largest) if negate else blocks, axis=2).transpose(1, 0, 2)
    columns = (folded(blocks, largest) if negate else blocks).transpose(2, 0, 1)
    return all(
        len(np.unique(row_classes(each.reshape(len(each), -1))[0])) == len(each) for each in (multisets, columns)
    )


def _opener(decrypt: Callable[[Pixels, int], Pixels], shape: Geometry) -> Opener:
    return lambda hidden: decrypt(hidden, shape.largest)


def _values_right(opener: Opener, case: Case) -> float:
    shape = case.geometry
    noise = np.random.default_rng(0).integers(
        0, shape.largest + 1, (_NOISE_IMAGES, shape.channels, *shape.padded), dtype=case.targets.pixels.dtype
    )
    hidden = hide(case.cipher, noise, first=_NOISE_NONCES)
    return float((opener(hidden.images) == noise).mean())
