"""statistics: how random ciphertexts look, as papers on image ciphers report it. No attack, and no proof."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from simulations.attacks.diagnostics.randomness import (
    Pixels,
    chi_square,
    entropy,
    ideal_chi_square,
    ideal_entropy,
    ideal_npcr,
    ideal_uaci,
    neighbour_correlation,
    npcr,
    share_within,
    uaci,
)
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Picture, Scores
from simulations.attacks.study.cases import Case, Seen, hide
from simulations.attacks.study.scores import Floats

_CHANGED_NONCES = 2**34
"""Where the nonces of changed images begin."""
_STEPS = {"horizontal": (0, 1), "vertical": (1, 0), "diagonal": (1, 1)}
_PAIRS = {
    "one_pixel": "two images that differ in the lowest bit of one value",
    "two_keys": "one image under two keys",
}
_EXPECTED = 0.95
"""Share of random values within bounds of 5 %."""


class Statistics(Attack):
    """Statistics of ciphertexts beside those of the images and those of random values."""

    name = "statistics"
    kind = "diagnostic"
    knowledge = frozenset({Knowledge.KEY})
    text = (
        "How random ciphertexts look: entropy, correlation of neighbours, flatness of the histogram, and how many "
        "values change (NPCR) and by how much (UACI) when one bit of the image or the whole key changes. The column "
        "control is the images themselves, the column chance what independent uniform values give: 99.6094 % and "
        "33.4635 % for 8 bits, with the critical values of Wu, Noonan and Agaian, which hold for such values only. A "
        "permutation cannot meet them: it keeps the histogram, and one changed pixel stays one changed pixel. And "
        "meeting them proves nothing: aes-ctr meets the test of one pixel by its fresh nonce alone and not at all "
        "under a nonce used twice, and ciphers that meet all of them have been broken. They are shown because papers "
        "show them; nothing here is tuned towards them. 16-bit ciphertexts are counted by their upper byte in "
        "histograms and by all 65,536 levels in NPCR and UACI."
    )
    papers = (
        "Wu, Noonan, Agaian 2011 (critical values of NPCR and UACI)",
        "Li et al. 2018, IEEE Access (each of these measures is questionable)",
    )
    main = "npcr_two_keys"
    margin = 1.0
    control = "none"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Of single ciphertexts, then of pairs."""
        return tuple(Metric(name, text, unit, "none", Chance.IDEAL) for name, text, unit in _declared())

    @property
    def no_wrong_key(self) -> str | None:
        """Two keys are compared as a metric."""
        return "two keys are compared by the metrics of two keys"

    def recover(self, seen: Seen, rng: np.random.Generator) -> int:
        """Recover nothing; choose which pixels `score` changes."""
        return int(rng.integers(2**32))

    def score(self, found: Any, case: Case) -> Scores:
        """All statistics, as means over images."""
        rng = np.random.default_rng(found)
        hidden = case.hidden.images
        flat = chi_square(hidden)
        made: Scores = {
            "entropy": float(entropy(hidden).mean()),
            **{f"correlation_{name}": _along(hidden, *step) for name, step in _STEPS.items()},
            "chi_square": float(flat.mean()),
            "chi_square_within": share_within(flat, ideal_chi_square()),
        }
        changed = one_value_changed(case.targets.pixels, rng)
        made |= _compared("one_pixel", hidden, hide(case.cipher, changed, first=_CHANGED_NONCES).images)
        made["npcr_one_nonce"] = math.nan
        if case.hidden.nonces is not None:
            made["npcr_one_nonce"] = float(npcr(hidden, case.cipher.encrypt(changed, case.hidden.nonces)).mean())
        return made | _compared("two_keys", hidden, hide(case.other, case.targets.pixels).images)

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """What independent uniform values give."""
        hidden = case.hidden.images
        size, largest = hidden[0].size, largest_of(hidden)
        of_pairs = {
            "npcr": ideal_npcr(size, largest=largest).mean,
            "uaci": ideal_uaci(size, largest=largest).mean,
            "npcr_within": _EXPECTED,
            "uaci_within": _EXPECTED,
        }
        yield {
            "entropy": ideal_entropy(size),
            **dict.fromkeys((f"correlation_{name}" for name in _STEPS), 0.0),
            "chi_square": ideal_chi_square().mean,
            "chi_square_within": _EXPECTED,
            "npcr_one_nonce": of_pairs["npcr"],
            **{named(name, kind): value for name, value in of_pairs.items() for kind in _PAIRS},
        }

    def pictures(self, found: Any, case: Case) -> list[Picture]:
        """Images under two keys."""
        return [
            Picture("original", case.targets.pixels[:4]),
            Picture("ciphertext", case.hidden.images[:4]),
            Picture("under another key", hide(case.other, case.targets.pixels[:4]).images),
        ]


def _declared() -> list[tuple[str, str, str]]:
    made = [("entropy", "entropy of the histogram", "bits")]
    made += [(f"correlation_{name}", f"correlation of neighbours, {name}", "correlation") for name in _STEPS]
    made += [
        ("chi_square", "chi-square of the histogram", "chi-square"),
        ("chi_square_within", "ciphertexts whose chi-square is below the critical value of 5 %", "share"),
    ]
    for kind, text in _PAIRS.items():
        made += [
            (named("npcr", kind), f"NPCR: values that differ, {text}", "%"),
            (named("uaci", kind), f"UACI: mean distance of values, {text}", "%"),
            (named("npcr_within", kind), f"pairs whose NPCR is above the critical value of 5 %, {text}", "share"),
            (named("uaci_within", kind), f"pairs whose UACI is inside the interval of 95 %, {text}", "share"),
        ]
    made.append(("npcr_one_nonce", f"NPCR under one nonce used twice, {_PAIRS['one_pixel']}", "%"))
    return made


def named(name: str, kind: str) -> str:
    """Metric of a pair: ``npcr_within`` and ``two_keys`` make ``npcr_two_keys_within``."""
    first, _, rest = name.partition("_")
    return "_".join(each for each in (first, kind, rest) if each)


def one_value_changed(images: Pixels, rng: np.random.Generator) -> Pixels:
    """The images, each with the lowest bit of one random value of one channel inverted."""
    flat = images.reshape(len(images), -1).copy()
    flat[np.arange(len(flat)), rng.integers(flat.shape[1], size=len(flat))] ^= 1
    return flat.reshape(images.shape)


def largest_of(images: Pixels) -> int:
    """The largest value a ciphertext of this type can have."""
    return int(np.iinfo(images.dtype).max)


def _along(images: Pixels, down: int, right: int) -> float:
    found = neighbour_correlation(images, down=down, right=right)
    return float(np.nanmean(found)) if np.isfinite(found).any() else math.nan


def _compared(kind: str, first: Pixels, second: Pixels) -> Scores:
    size, largest = first[0].size, largest_of(first)
    rates: Floats = npcr(first, second)
    changes: Floats = uaci(first, second, largest=largest)
    return {
        named("npcr", kind): float(rates.mean()),
        named("uaci", kind): float(changes.mean()),
        named("npcr_within", kind): share_within(rates, ideal_npcr(size, largest=largest)),
        named("uaci_within", kind): share_within(changes, ideal_uaci(size, largest=largest)),
    }
