"""Attacks that end in images: what such attacks share, so that one is a single method."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from simulations.attacks.study import scores
from simulations.attacks.study.attack import Attack, Chance, Metric, Picture, Scores, mean_scores
from simulations.attacks.study.cases import Case
from simulations.attacks.study.scores import Floats, Pixels

SSIM = Metric("ssim", "structural similarity of recovered and original", "SSIM", chance=Chance.IMAGE)
EITHER = Metric("ssim_or_negative", "structural similarity of the image or its negative", "SSIM", chance=Chance.IMAGE)
PSNR = Metric("psnr", "peak signal-to-noise ratio", "dB", chance=Chance.IMAGE)
EDGES = Metric("edges", "outlines of recovered and original", "correlation", chance=Chance.IMAGE)


class ImageAttack(Attack):
    """`recover` gives images like the targets, (n, C, H, W), and all the rest is here.

    `ssim_or_negative` allows a viewer to see through a negative; chance is allowed the same. `edges` does not tell an
    image from its negative.
    """

    main = SSIM.name

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """SSIM, SSIM up to a negative, PSNR and edges."""
        return (SSIM, EITHER, PSNR, EDGES)

    def score(self, found: Any, case: Case) -> Scores:
        """Compare the recovered images with the originals."""
        return mean_scores(image_scores(found, case.targets.pixels, largest=case.geometry.largest))

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """The mean image, and other images of the classes."""
        for images in case.guessed:
            yield mean_scores(image_scores(images, case.targets.pixels, largest=case.geometry.largest))

    def pictures(self, found: Any, case: Case) -> list[Picture]:
        """Original, ciphertext, recovered."""
        return [
            Picture("original", case.targets.pixels[:4]),
            Picture("ciphertext", case.hidden.images[:4]),
            Picture("recovered", found[:4]),
        ]


def image_scores(guess: Pixels, truth: Pixels, *, largest: int) -> dict[str, Floats]:
    """Every image metric of each image, float64 (n,)."""
    ssim = scores.ssim(guess, truth, largest=largest)
    negative = scores.ssim(largest - guess, truth, largest=largest)
    return {
        SSIM.name: ssim,
        EITHER.name: np.maximum(ssim, negative),
        PSNR.name: scores.psnr(guess, truth, largest=largest),
        EDGES.name: scores.edge_correlation(guess, truth),
    }
