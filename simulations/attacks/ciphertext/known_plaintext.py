"""known-plaintext: from one or a few pairs of a plain and a hidden image to the key, and to every other image."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from crypto.base import Geometry, StemPermutation
from crypto.config import CipherConfig
from simulations.attacks.solvers.blocks import Indices, Pixels, SignedPermutation, cut, row_classes
from simulations.attacks.solvers.own_orders import agreement, block_states, pixel_states
from simulations.attacks.solvers.pairs import Opened, open_with
from simulations.attacks.solvers.schemes import Kind, kind_of, may_negate
from simulations.attacks.solvers.truth import true_key, true_movement, true_order
from simulations.attacks.study import scores
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Picture, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting


@dataclass(frozen=True)
class Found:
    """What one number of pairs gave, and the other images under it."""

    opened: Opened
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
        "black background many equal blocks); the exact shares count only what is right. Schemes that arrange every "
        "block or pixel in its own way, or turn blocks as vectors, are met by their own structure, and other images "
        "show what that was worth."
    )
    papers = (
        "Li et al. 2008, doi:10.1016/j.image.2008.01.003 (permutation-only ciphers against known plaintexts)",
        "Jolfaei, Wu, Muthukkumarasamy 2016, doi:10.1109/TIFS.2015.2489178",
    )
    margin = 0.2
    control = "none"

    def __init__(self, *, pairs: Sequence[int] = (1, 2, 4, 8)) -> None:
        self.pairs = tuple(sorted(pairs))
        # The most: a scheme that holds out against one pair and not against eight does not hold out.
        self.main = f"ssim_of_others_{self.pairs[-1]}"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Shares of the key, and of other images, for each number of pairs."""
        kinds = (
            ("in_block_recovered", "positions in a block recovered, up to equals", "share", Chance.GUESS),
            ("blocks_recovered", "blocks recovered, up to equals", "share", Chance.GUESS),
            ("in_block_exact", "positions in a block exactly right", "share", Chance.GUESS),
            ("blocks_exact", "blocks exactly right", "share", Chance.GUESS),
            ("values_of_others", "values of other images read right", "share", Chance.IMAGE),
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

    def case(self, setting: Setting, key: int) -> Case:
        """As many pairs as the largest number asks for."""
        return setting.case(key, known=self.pairs[-1])

    def recover(self, seen: Seen, rng: np.random.Generator) -> dict[int, Found]:
        """The key and the other images, by the number of pairs used."""
        plain, hidden = seen.pairs.plain, seen.pairs.hidden.images
        made: dict[int, Found] = {}
        for m in self.pairs:
            opened = open_with(plain[:m], hidden[:m], seen.config, seen.geometry, rng=rng)
            made[m] = Found(opened, opened.decrypt(seen.ciphertexts.images))
        return made

    def score(self, found: dict[int, Found], case: Case) -> Scores:
        """Shares against the true key, and how much of the other images is right."""
        true = Truth(case)
        made: Scores = {}
        seen: dict[bytes, Scores] = {}
        for m, each in found.items():
            made |= {f"{name}_{m}": value for name, value in true.shares(each.opened, m).items()}
            # More pairs often change nothing, and SSIM is slow.
            same = each.images.tobytes()
            if same not in seen:
                seen[same] = of_others(each.images, case)
            made |= {f"{name}_{m}": value for name, value in seen[same].items()}
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A random key, in expectation; the mean image and other images of the class."""
        plain = cut(case.known.pixels, case.geometry.block)
        for m in self.pairs:
            yield {f"{name}_{m}": value for name, value in guessed(plain[:m], case.config, case.geometry).items()}
        for images in case.guessed:
            values = of_others(images, case)
            yield {f"{name}_{m}": value for name, value in values.items() for m in self.pairs}

    def pictures(self, found: dict[int, Found], case: Case) -> list[Picture]:
        """Other images: plain, hidden, and decrypted with what the fewest pairs gave."""
        m = self.pairs[0]
        return [
            Picture("original", case.targets.pixels[:4]),
            Picture("ciphertext", case.hidden.images[:4]),
            Picture(f"recovered from {m} known pair{'' if m == 1 else 's'} of other images", found[m].images[:4]),
        ]


def guessed(plain: Pixels, config: CipherConfig, shape: Geometry) -> Scores:
    """Expected shares of a random key of the scheme, where it has such shares."""
    kind, negate = kind_of(config), may_negate(config)
    expected = shares_guessed(plain, largest=shape.largest, negate=negate)
    blocks = {name: value for name, value in expected.items() if name.startswith("blocks")}
    if kind is Kind.ROTATED:
        return blocks
    if kind is Kind.PIXELS:
        return {"in_block_exact": agreement(pixel_states(shape.channels))}
    if kind in {Kind.OWN_ORDERS, Kind.OWN_STATES}:
        states = kind is Kind.OWN_STATES
        inner = agreement(block_states(shape)) if states else expected["in_block_exact"]
        return {"blocks_exact": blocks["blocks_exact"], "in_block_exact": inner}
    return expected


def of_others(images: Pixels, case: Case) -> Scores:
    """How much of the other images is right."""
    truth = case.targets.pixels
    return {
        "values_of_others": float((images == truth).mean()),
        "ssim_of_others": float(scores.ssim(images, truth).mean()),
    }


class Truth:
    """The true key of a case, in whatever form the scheme has one."""

    def __init__(self, case: Case) -> None:
        self.geometry = case.geometry
        self.plain = cut(case.known.pixels, case.geometry.block)
        self.key = true_key(case.cipher)
        self.moved = None if self.key is not None else true_movement(case.cipher, may_negate(case.config))
        self.order = true_order(case.cipher)
        self.blocks_stay = kind_of(case.config) is Kind.PIXELS

    def shares(self, opened: Opened, m: int) -> Scores:
        """Shares of the key that the first `m` pairs gave; NaN for what the scheme does not have."""
        shares = dict.fromkeys(("in_block_recovered", "blocks_recovered", "in_block_exact", "blocks_exact"), math.nan)
        plain = self.plain[:m]
        if self.key is not None and opened.key is not None:
            return shares_recovered(opened.key, self.key, plain, largest=self.geometry.largest)
        if self.moved is not None and opened.moved is not None:
            return shares | self._moved(opened.moved, self.moved)
        if self.order is not None and opened.rotation is not None:
            shares["blocks_recovered"] = scores.share_right_up_to(
                opened.rotation.order, self.order, _block_classes(plain)
            )
            shares["blocks_exact"] = scores.share_right(opened.rotation.order, self.order)
        return shares

    def _moved(self, found: SignedPermutation, true: SignedPermutation) -> Scores:
        shape = self.geometry
        inverse = np.empty(true.source.size, np.intp)
        inverse[shape.block_positions()] = np.arange(inverse.size).reshape(shape.blocks, shape.block_length)
        ours, theirs = (
            np.divmod(inverse[found.source], shape.block_length),
            np.divmod(inverse[true.source], shape.block_length),
        )
        return {
            "blocks_exact": math.nan if self.blocks_stay else float((ours[0] == theirs[0]).mean()),
            "in_block_exact": float(((ours[1] == theirs[1]) & (found.flips == true.flips)).mean()),
        }


def shares_recovered(found: StemPermutation, true: StemPermutation, plain: Pixels, *, largest: int) -> Scores:
    """Shares of a key that are right, exactly and up to what is equal in the pairs.

    Parameters
    ----------
    found, true
        Keys of a scheme that treats all blocks alike.
    plain
        (m, N, L): the plain blocks of the pairs.
    """
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
