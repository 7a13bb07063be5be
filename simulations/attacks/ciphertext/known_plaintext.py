"""known-plaintext: from one or a few pairs of a plain and a hidden image to the key, and to every other image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crypto.base import StemPermutation
from simulations.attacks import scores
from simulations.attacks.base import Attack, Chance, Knowledge, Metric, Picture, Scores, Target
from simulations.attacks.bench import Bench
from simulations.attacks.blocks import Indices, Pixels, cut, row_classes, signed_permutation
from simulations.attacks.cases import Case, Seen
from simulations.attacks.matching import recover_key
from simulations.attacks.schemes import may_negate, one_order_for_all_blocks, true_key


@dataclass(frozen=True)
class Found:
    """What one number of pairs gave: the key, and the other images under it."""

    key: StemPermutation
    images: Pixels


class KnownPlaintext(Attack):
    """Match blocks, then positions, then flips; what is equal in the pairs is paired at random.

    Parameters
    ----------
    pairs
        Numbers of known pairs, each tried on its own.
    """

    name = "known-plaintext"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.PAIRS})
    text = (
        "The attacker has m images both plain and hidden, all under one key: blocks are matched by the multiset of "
        "their values, positions inside blocks by the column of values they have over all matched blocks, flips by "
        "comparing the two. Other images of the key are then decrypted. Shares count a place as recovered when it is "
        "right or cannot be told from the right one in the pairs (grey stored as RGB has three equal channels, a "
        "black background many equal blocks); the exact shares count only what is right."
    )
    papers = (
        "Li et al. 2008, doi:10.1016/j.image.2008.01.003 (permutation-only ciphers against known plaintexts)",
        "Jolfaei, Wu, Muthukkumarasamy 2016, doi:10.1109/TIFS.2015.2489178",
    )
    margin = 0.2
    control = "none"

    def __init__(self, *, pairs: Sequence[int] = (1, 2, 4, 8)) -> None:
        self.pairs = tuple(sorted(pairs))
        self.main = f"ssim_of_others_{self.pairs[0]}"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Four shares and the SSIM of other images, for each number of pairs."""
        kinds = (
            ("in_block_recovered", "positions in a block recovered, up to equals", "share", Chance.GUESS),
            ("blocks_recovered", "blocks recovered, up to equals", "share", Chance.GUESS),
            ("in_block_exact", "positions in a block exactly right", "share", Chance.GUESS),
            ("blocks_exact", "blocks exactly right", "share", Chance.GUESS),
            ("ssim_of_others", "other images of the key, decrypted", "SSIM", Chance.IMAGE),
        )
        return tuple(
            Metric(
                f"{name}_{m}",
                f"{text}, from {m} known pair{'' if m == 1 else 's'}",
                unit,
                chance=chance,
                series=name,
                at=m,
                along="known pairs",
            )
            for name, text, unit, chance in kinds
            for m in self.pairs
        )

    def applies_to(self, target: Target) -> str | None:
        """It is written for one in-block order shared by all blocks."""
        return one_order_for_all_blocks(target)

    def case(self, bench: Bench, key: int) -> Case:
        """As many pairs as the largest number asks for."""
        return bench.case(key, known=self.pairs[-1])

    def recover(self, seen: Seen, rng: np.random.Generator) -> dict[int, Found]:
        """The key and the other images, by the number of pairs used."""
        shape = seen.geometry
        plain, hidden = cut(seen.pairs.plain, shape.block), cut(seen.pairs.hidden.images, shape.block)
        negate = may_negate(seen.config)
        made: dict[int, Found] = {}
        for m in self.pairs:
            key = recover_key(plain[:m], hidden[:m], largest=shape.largest, negate=negate, rng=rng)
            images = signed_permutation(key, shape).decrypt(seen.ciphertexts.images, shape.largest)
            made[m] = Found(key, images)
        return made

    def score(self, found: dict[int, Found], case: Case) -> Scores:
        """Shares against the true key, and SSIM of the other images."""
        true, shape = true_key(case.cipher), case.geometry
        plain = cut(case.known.pixels, shape.block)
        made: Scores = {}
        for m, each in found.items():
            shares = shares_recovered(each.key, true, plain[:m], largest=shape.largest)
            made |= {f"{name}_{m}": value for name, value in shares.items()}
            made[f"ssim_of_others_{m}"] = float(scores.ssim(each.images, case.targets.pixels).mean())
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A random key, in expectation; the mean image and other images of the class."""
        plain, negate = cut(case.known.pixels, case.geometry.block), may_negate(case.config)
        for m in self.pairs:
            yield {
                f"{name}_{m}": value
                for name, value in shares_guessed(plain[:m], largest=case.geometry.largest, negate=negate).items()
            }
        for images in case.guessed:
            value = float(scores.ssim(images, case.targets.pixels).mean())
            yield {f"ssim_of_others_{m}": value for m in self.pairs}

    def pictures(self, found: dict[int, Found], case: Case) -> list[Picture]:
        """Other images: plain, hidden, and decrypted with what the fewest pairs gave."""
        m = self.pairs[0]
        return [
            Picture("original", case.targets.pixels[:4]),
            Picture("ciphertext", case.hidden.images[:4]),
            Picture(f"recovered from {m} known pair{'' if m == 1 else 's'} of other images", found[m].images[:4]),
        ]


def shares_recovered(found: StemPermutation, true: StemPermutation | None, plain: Pixels, *, largest: int) -> Scores:
    """Shares of the key that are right, exactly and up to what is equal in the pairs.

    Parameters
    ----------
    found, true
        Keys; None for a scheme that has no such key: all shares are NaN.
    plain
        (m, N, L): the plain blocks of the pairs.
    """
    if true is None:
        return dict.fromkeys(("in_block_recovered", "blocks_recovered", "in_block_exact", "blocks_exact"), math.nan)
    ours = np.where(found.mask, largest - plain[..., found.rho], plain[..., found.rho])
    theirs = np.where(true.mask, largest - plain[..., true.rho], plain[..., true.rho])
    blocks = _block_classes(plain)
    return {
        "in_block_recovered": float((ours == theirs).all(axis=(0, 1)).mean()),
        "blocks_recovered": scores.share_right_up_to(found.pi, true.pi, blocks),
        "in_block_exact": float(((found.rho == true.rho) & (found.mask == true.mask)).mean()),
        "blocks_exact": scores.share_right(found.pi, true.pi),
    }


def shares_guessed(plain: Pixels, *, largest: int, negate: bool) -> Scores:
    """Expected `shares_recovered` of a random key; a random flip is right half the time."""
    columns = plain.transpose(2, 0, 1).reshape(plain.shape[2], -1)
    if negate:
        columns = np.where(columns[:, :1] <= largest // 2, largest - columns, columns)
    sign = 0.5 if negate else 1.0
    return {
        "in_block_recovered": sign * scores.random_guess(row_classes(columns)[0]),
        "blocks_recovered": scores.random_guess(_block_classes(plain)),
        "in_block_exact": sign / plain.shape[2],
        "blocks_exact": 1 / plain.shape[1],
    }


def _block_classes(plain: Pixels) -> Indices:
    return row_classes(plain.transpose(1, 0, 2).reshape(plain.shape[1], -1))[0]
