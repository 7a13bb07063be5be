"""bounded-leak: what noise on the `orthogonal` scheme would promise, by Fisher information, and what it would cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.base import ImageCipher, Reading
from simulations.attacks.situations.update_attack import as_numbers, as_pixels
from simulations.attacks.study import scores
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Scores, Target
from simulations.attacks.study.cases import Case, Images, Seen

Floats = npt.NDArray[np.float64]
_RIDGE = 10.0
_FIGURES = (
    ("dfil", "diagonal Fisher information leakage, a pixel", "per pixel^2", "none", Chance.NONE),
    ("bound", "PSNR that no unbiased attacker exceeds on average (1 / dFIL)", "dB", "none", Chance.NONE),
    ("plain", "PSNR of turning the ciphertext back", "dB", "higher", Chance.IMAGE),
    ("guided", "PSNR of the best linear guess with public images (biased)", "dB", "higher", Chance.IMAGE),
    ("guided_ssim", "the same, structural similarity", "SSIM", "higher", Chance.IMAGE),
    (
        "accuracy",
        "a linear classifier's accuracy on such images, taught by as noisy ones",
        "share",
        "none",
        Chance.NONE,
    ),
)


class Turned(NamedTuple):
    """Images that a holder of the matrix turns back, by noise: (n, C, H, W), as numbers, and the linear guesses."""

    plain: dict[float, Floats]
    guided: dict[float, Floats]
    accuracy: dict[float, float]


class BoundedLeak(Attack):
    """Add noise to what `orthogonal` makes, and measure both sides of the bargain.

    Parameters
    ----------
    noise
        Deviations, on the scale on which a pixel is from -1 to 1.
    """

    name = "bounded-leak"
    kind = "diagnostic"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.PUBLIC, Knowledge.KEY})
    text = (
        "What a setting of noise for the scheme orthogonal would be worth. A ciphertext would be y = Q z + noise of "
        "deviation s. Its Fisher information about a pixel is 1 / s^2, whatever Q is and whoever knows it, so that no "
        "unbiased attacker has a mean squared error below s^2 (dFIL). A biased one may: with public images it takes "
        "the best linear guess. Both are given Q, which known pairs give them. Beside them stands what is left to "
        "learn: a linear classifier taught by public images that are as noisy. K views of an image, each with noise of "
        "its own, are K times the information."
    )
    papers = ("Maeng et al. 2023, arXiv:2305.04146 (dFIL, and bounds from it)",)
    main = "guided_0"
    margin = 1.0
    control = None
    in_all = False

    def __init__(self, *, noise: Sequence[float] = (0.0, 0.1, 0.3, 1.0, 3.0)) -> None:
        self.noise = tuple(noise)
        self.main = f"guided_{len(self.noise) - 1}"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """At each deviation."""
        return tuple(
            Metric(f"{name}_{place}", f"{text}, noise {noise:g}", unit, way, chance)  # type: ignore[arg-type]
            for name, text, unit, way, chance in _FIGURES
            for place, noise in enumerate(self.noise)
        )

    def applies_to(self, target: Target) -> str | None:
        """To the scheme that noise does not keep from being learned by a stem of its own."""
        if target.config.scheme == "orthogonal":
            return None
        return "it asks what noise on the scheme orthogonal would be worth"

    @property
    def no_wrong_key(self) -> str | None:
        """The bound holds for whoever has the key."""
        return "the bound is for attackers who have the key"

    def recover(self, seen: Seen, rng: np.random.Generator) -> Turned:
        """Turn noisy ciphertexts back, with public images and without."""
        cipher, public = seen.cipher, seen.public
        hidden = as_numbers(seen.ciphertexts.images, cipher.reading)
        known = as_numbers(public.pixels, Reading(seen.geometry.bits))
        prior = _Prior(known)
        made = Turned({}, {}, {})
        for noise in self.noise:
            noisy = hidden + noise * rng.standard_normal(hidden.shape)
            made.plain[noise] = _back(noisy, cipher)
            made.guided[noise] = prior.guess(made.plain[noise], noise)
            made.accuracy[noise] = _accuracy(known, public, noise, rng)
        return made

    def score(self, found: Any, case: Case) -> Scores:
        """Errors beside their bounds."""
        truth, bits = case.targets.pixels, case.geometry.bits
        made: Scores = {}
        for place, noise in enumerate(self.noise):
            guided = as_pixels(found.guided[noise], bits=bits)
            largest = case.geometry.largest
            made |= {
                f"dfil_{place}": noise**-2 if noise else np.nan,
                f"bound_{place}": 10 * np.log10(4 / noise**2) if noise else np.nan,
                f"plain_{place}": float(10 * np.log10(4 / _error(found.plain[noise], truth, bits))),
                f"guided_{place}": float(scores.psnr(guided, truth, largest=largest).mean()),
                f"guided_ssim_{place}": float(scores.ssim(guided, truth, largest=largest).mean()),
                f"accuracy_{place}": found.accuracy[noise],
            }
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """The mean image, and other images of the classes."""
        largest, truth = case.geometry.largest, case.targets.pixels
        for images in case.guessed:
            psnr = float(scores.psnr(images, truth, largest=largest).mean())
            ssim = float(scores.ssim(images, truth, largest=largest).mean())
            yield {
                f"{name}_{place}": value
                for place in range(len(self.noise))
                for name, value in (("plain", psnr), ("guided", psnr), ("guided_ssim", ssim))
            }


class _Prior:
    """The normal distribution of some images (n, C, H, W)."""

    def __init__(self, images: Floats) -> None:
        flat = images.reshape(len(images), -1)
        self._mean = flat.mean(axis=0)
        _, sizes, self._axes = np.linalg.svd(flat - self._mean, full_matrices=False)
        self._variances = sizes**2 / max(1, len(flat) - 1)

    def guess(self, noisy: Floats, noise: float) -> Floats:
        """The expected image behind each noisy one."""
        if not noise:
            return noisy
        shares = self._variances / (self._variances + noise**2)
        along = (noisy.reshape(len(noisy), -1) - self._mean) @ self._axes.T
        made: Floats = (self._mean + (along * shares) @ self._axes).reshape(noisy.shape)
        return made


def _back(hidden: Floats, cipher: ImageCipher) -> Floats:
    """What a holder of matrix and order makes of numbers that a model reads."""
    turn, shape = cipher.stem_rotation(), cipher.geometry
    blocks = shape.cut(hidden) @ turn.matrix
    plain = np.empty_like(blocks)
    plain[:, turn.pi] = blocks
    made: Floats = shape.join(plain)
    return made


def _error(found: Floats, truth: npt.NDArray[Any], bits: int) -> float:
    return float(((found - as_numbers(truth, Reading(bits))) ** 2).mean())


def _accuracy(known: Floats, public: Images, noise: float, rng: np.random.Generator) -> float:
    """Ridge regression onto classes, taught by half of some noisy images and asked about the rest.

    An orthogonal matrix changes neither lengths nor angles, so that it learns of ciphertexts as it does of images.
    """
    noisy = (known + noise * rng.standard_normal(known.shape)).reshape(len(known), -1)
    half = len(noisy) // 2
    classes, labels = np.unique(public.labels, return_inverse=True)
    given, wanted = noisy[:half], np.eye(len(classes))[labels[:half]]
    middle, share = given.mean(axis=0), wanted.mean(axis=0)
    kernel = (given - middle) @ (given - middle).T
    penalty = _RIDGE * np.trace(kernel) / half / 100 + 1e-9
    weights = np.linalg.solve(kernel + penalty * np.eye(half), wanted - share)
    answers = (noisy[half:] - middle) @ (given - middle).T @ weights + share
    return float((answers.argmax(axis=1) == labels[half:]).mean())
