"""histogram-linkage: which of the plaintexts at hand is behind a ciphertext? No key is needed; then the key follows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.spatial.distance import cdist

from simulations.attacks.solvers.blocks import Indices, Pixels, cut, folded
from simulations.attacks.solvers.pairs import open_with
from simulations.attacks.solvers.rotation import plain_vectors, read, sorted_lengths
from simulations.attacks.solvers.schemes import Kind, kind_of, may_negate
from simulations.attacks.study import scores
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Picture, Scores
from simulations.attacks.study.cases import Case, Seen
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """The candidate each ciphertext is linked to, by two signatures; all ciphertexts opened with what follows."""

    by_image: Indices
    by_block: Indices
    images: Pixels


class HistogramLinkage(Attack):
    """Compare what hiding leaves alone: the histogram of an image, and the multiset of each block.

    Parameters
    ----------
    decoys
        Candidates that are behind no ciphertext.
    used
        Links used as known pairs afterwards, the surest ones.
    """

    name = "histogram-linkage"
    recovers = "facts"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.CANDIDATES})
    text = (
        "The attacker has plain images among which the originals of some ciphertexts are, as where a public set or "
        "another hospital's copy was hidden, prepared in the same way, and does not know which is which. Moving "
        "values leaves the histogram of an image alone, and of each block; negating folds it. Nearly every "
        "histogram is unique, so each ciphertext is linked to its original without any key. The surest links then "
        "serve as known pairs, and other ciphertexts of the key, whose originals the attacker never had, are "
        "opened."
    )
    papers = ("Li et al. 2008, doi:10.1016/j.image.2008.01.003 (what follows from a pair)",)
    main = "top1_image"
    margin = 0.2
    fewest = 2
    wanted = 200
    weight = 3.0
    control = "none"

    def __init__(self, *, decoys: int = 900, used: int = 8) -> None:
        self.decoys, self.used = decoys, used

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Links by the histogram of the image and by those of its blocks, and images never among the candidates."""
        return (
            Metric("top1_image", "ciphertexts linked to their original by the image's histogram"),
            Metric("top1_block", "ciphertexts linked to their original by the histograms of blocks"),
            Metric("ssim_of_others", "images that were no candidate, decrypted", "SSIM", chance=Chance.IMAGE),
        )

    def case(self, setting: Setting, key: int) -> Case:
        """As many ciphertexts with a candidate as the setting says and as many without, or half of what may be had."""
        both = setting.capped(2 * setting.images)
        return setting.case(key, images=both, linkable=both // 2, decoys=self.decoys)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Found:
        """Link, then use the surest links as pairs."""
        shape, hidden, candidates = seen.geometry, seen.ciphertexts.images, seen.candidates
        by_image, by_block = _costs(hidden, candidates, seen)
        links = _first(by_block, rng)
        surest = _first_few(by_block.min(axis=1), self.used, rng)
        opened = open_with(candidates[links[surest]], hidden[surest], seen.config, shape, rng=rng)
        return Found(_first(by_image, rng), links, opened.decrypt(hidden))

    def score(self, found: Found, case: Case) -> Scores:
        """Right links among the ciphertexts that have one, and SSIM of those that have none."""
        assert case.linked is not None
        linkable = np.flatnonzero(case.linked >= 0)
        others = np.flatnonzero(case.linked < 0)
        return {
            "top1_image": scores.share_right(found.by_image[linkable], case.linked[linkable]),
            "top1_block": scores.share_right(found.by_block[linkable], case.linked[linkable]),
            "ssim_of_others": float(scores.ssim(found.images[others], case.targets.pixels[others]).mean()),
        }

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A random candidate; the mean image and other images of the class."""
        assert case.candidates is not None
        assert case.linked is not None
        right = 1 / len(case.candidates)
        yield {"top1_image": right, "top1_block": right}
        others = np.flatnonzero(case.linked < 0)
        for images in case.guessed:
            yield {"ssim_of_others": float(scores.ssim(images[others], case.targets.pixels[others]).mean())}

    def pictures(self, found: Found, case: Case) -> list[Picture]:
        """Ciphertexts and the candidates they were linked to; then images that were no candidate."""
        assert case.candidates is not None
        assert case.linked is not None
        others = np.flatnonzero(case.linked < 0)[:4]
        return [
            Picture("ciphertext", case.hidden.images[:4]),
            Picture("linked to, by histogram", case.candidates[found.by_image[:4]]),
            Picture("its original", case.targets.pixels[:4]),
            Picture("original, no candidate", case.targets.pixels[others]),
            Picture("the same, recovered", found.images[others]),
        ]


def _costs(hidden: Pixels, candidates: Pixels, seen: Seen) -> tuple[Floats, Floats]:
    """How unlike each ciphertext and candidate are, by the image and by its blocks: float64 (hidden, candidates)."""
    shape, negate = seen.geometry, may_negate(seen.config)
    if kind_of(seen.config) is Kind.ROTATED:
        distance = cdist(sorted_lengths(hidden, read, shape), sorted_lengths(candidates, plain_vectors, shape))
        return distance, distance
    blocks = [multiset_hashes(each, shape.block, shape.largest, negate=negate) for each in (hidden, candidates)]
    return histogram_distances(hidden, candidates, largest=shape.largest, negate=negate), -jaccard(*blocks)


def histogram_distances(hidden: Pixels, plain: Pixels, *, largest: int, negate: bool) -> Floats:
    """L1 distances of histograms, of ``|2v - maxval|`` where values may be negated: float64 (hidden, plain)."""
    made: Floats = cdist(*(_histograms(each, largest, negate=negate) for each in (hidden, plain)), "cityblock")
    return made


def _histograms(images: Pixels, largest: int, *, negate: bool) -> Floats:
    made = np.empty((len(images), largest + 1))
    for row, image in enumerate(images):
        values = folded(image, largest) if negate else image
        made[row] = np.bincount(values.ravel(), minlength=largest + 1)
    return made


def multiset_hashes(images: Pixels, block: int, largest: int, *, negate: bool) -> npt.NDArray[np.uint64]:
    """A number for each block that depends on its multiset of values only: uint64 (n, N).

    Random 64-bit weights of the values are summed, modulo 2**64: unequal multisets agree once in 2**64.
    """
    weights = np.random.default_rng(0).integers(0, 2**64, largest + 1, dtype=np.uint64)
    if negate:
        # A value and its negative weigh the same.
        weights = weights[np.minimum(np.arange(largest + 1), largest - np.arange(largest + 1))]
    made = [weights[cut(image[None], block)[0]].sum(axis=1, dtype=np.uint64) for image in images]
    return np.stack(made)


def jaccard(first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> Floats:
    """Jaccard index of the sets of numbers in the rows of two tables: float64 (first, second)."""
    numbers = np.unique(np.concatenate([first.ravel(), second.ravel()]), return_inverse=True)[1]
    ones, others = (
        _membership(rows, int(numbers.max()) + 1)
        for rows in (numbers[: first.size].reshape(first.shape), numbers[first.size :].reshape(second.shape))
    )
    shared = (ones @ others.T).toarray().astype(np.float64)
    sizes = np.asarray(ones.sum(axis=1)), np.asarray(others.sum(axis=1)).T
    made: Floats = shared / (sizes[0] + sizes[1] - shared)
    return made


def _membership(rows: Indices, size: int) -> sparse.csr_matrix:
    table = sparse.csr_matrix(
        (np.ones(rows.size, np.int32), rows.ravel(), np.arange(0, rows.size + 1, rows.shape[1])),
        shape=(len(rows), size),
    )
    table.sum_duplicates()
    table.data[:] = 1
    return table


def _first(cost: Floats, rng: np.random.Generator) -> Indices:
    """The cheapest candidate of each row; ties at random."""
    order = rng.permutation(cost.shape[1])
    made: Indices = order[cost[:, order].argmin(axis=1)]
    return made


def _first_few(cost: Floats, n: int, rng: np.random.Generator) -> Indices:
    order = rng.permutation(len(cost))
    made: Indices = order[np.argsort(cost[order], kind="stable")[:n]]
    return made
