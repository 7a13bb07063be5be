"""brute-force: how many keys there are, how many there really are, and a search that ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from crypto.base import Geometry, ImageCipher, StemPermutation
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.derivation import SECRET_BYTES
from crypto.keys import SiteKey
from simulations.attacks.solvers.blocks import Pixels, cut, row_classes, signed_permutation
from simulations.attacks.solvers.matching import UNKNOWN, unique_matches
from simulations.attacks.solvers.schemes import log2_arrangements
from simulations.attacks.study.attack import Attack, Chance, Knowledge, Metric, Scores, Target
from simulations.attacks.study.cases import Case, Hidden, Pairs, Seen
from simulations.attacks.study.controls import IntegerSeeded, seeded_orders
from simulations.attacks.study.setting import Setting

_LOOK = 1024
"""Keys tried between two looks at the clock."""
_QUICK = 4
"""Blocks whose place is checked before a whole image is."""

Opener = Callable[[Hidden], Pixels]
"""Decrypts under a key that fits."""


@dataclass(frozen=True)
class Found:
    """How many keys were tried, in how many seconds, and the targets under the one that fits the pair, if any."""

    trials: int
    seconds: float
    images: Pixels | None


class BruteForce(Attack):
    """Try integers as keys, in order, against one known pair.

    Parameters
    ----------
    space
        Integers a person's key is drawn from in the control.
    seconds
        Longest search for one key on any target; in the control it should suffice for `space`.
    """

    name = "brute-force"
    knowledge = frozenset({Knowledge.CIPHERTEXTS, Knowledge.PAIRS})
    text = (
        "The number of permutations (nominal bits) is not the number of keys: what can be typed or drawn as a key is "
        "(effective bits; a secret of 32 random bytes has 256). The control is block-pixel as a script would write it, "
        "with NumPy's generator seeded by an integer below 2^20: every integer is tried against one known pair until "
        "one fits, and the time of a trial is measured. The target's secrets are tried in the same order through its "
        "own derivation, for as long as the search is given. Neither number bounds other attacks: known-plaintext "
        "never looks at a key."
    )
    papers = ("Kerckhoffs 1883; NIST SP 800-57 part 1 (security strength)",)
    main = "key_found"
    margin = 0.5
    weight = 60.0

    def __init__(self, *, space: int = 2**20, seconds: float = 60.0, secrets_seconds: float = 5.0) -> None:
        self.space, self.seconds, self.secrets_seconds = space, seconds, secrets_seconds
        self.control = type(IntegerSeeded.__name__, (IntegerSeeded,), {"space": space})

    def quick(self) -> Self:
        """In a space of a second."""
        made = type(self)(space=2**12, seconds=min(self.seconds, 5.0), secrets_seconds=min(self.secrets_seconds, 1.0))
        made.weight = 2.0
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Whether the key was found, how many there are, and how long a trial takes."""
        return (
            Metric("key_found", "keys found within the time given"),
            Metric("nominal_bits", "arrangements the scheme can make", "bits", "lower", Chance.NONE),
            Metric("effective_bits", "keys there are", "bits", "lower", Chance.NONE),
            Metric("trials", "keys tried", "keys", "none", Chance.NONE),
            Metric("trial_seconds", "time of a trial", "s", "lower", Chance.NONE),
            Metric("all_log10_seconds", "time to try all keys there are", "log10 s", "lower", Chance.NONE),
            Metric("all_32_bit_hours", "time to try 2^32 keys at this rate", "h", "lower", Chance.NONE),
        )

    @property
    def no_wrong_key(self) -> str | None:
        """A key that fits another key's pair is that other key."""
        return "a search against another key's pair finds that other key"

    def applies_to(self, target: Target) -> str | None:
        """To everything with a key."""
        return "the scheme none has no key to search for" if target.scheme == "none" else None

    def case(self, setting: Setting, key: int) -> Case:
        """One known pair."""
        return setting.case(key, known=1)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Found:
        """Search, and open the ciphertexts if a key fits."""
        if seen.config.scheme == IntegerSeeded.scheme:
            tried, limit = numpy_seeds(seen.pairs, seen.geometry, self.space), self.seconds
        else:
            tried, limit = small_secrets(seen.pairs, seen.config, seen.geometry), self.secrets_seconds
        began = time.perf_counter()
        trials, opener = _searched(tried, until=began + limit)
        seconds = time.perf_counter() - began
        return Found(trials, seconds, None if opener is None else opener(seen.ciphertexts))

    def score(self, found: Found, case: Case) -> Scores:
        """Whether the targets were opened, and what the search cost."""
        opened = found.images is not None and np.array_equal(found.images, case.targets.pixels)
        nominal = log2_arrangements(case.config.scheme, case.geometry, negate=case.config.negate)
        effective = min(_key_bits(case), math.inf if nominal is None else nominal)
        trial = found.seconds / found.trials
        return {
            "key_found": float(opened),
            "nominal_bits": math.nan if nominal is None else nominal,
            "effective_bits": effective,
            "trials": found.trials,
            "trial_seconds": trial,
            "all_log10_seconds": effective * math.log10(2) + math.log10(trial),
            "all_32_bit_hours": 2**32 * trial / 3600,
        }

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """One key at random."""
        yield {"key_found": 2.0 ** -_key_bits(case)}


def numpy_seeds(pairs: Pairs, shape: Geometry, space: int) -> Iterator[Opener | None]:
    """Try integers as NumPy seeds; the place of a few blocks is looked at before a whole image is."""
    plain, hidden = cut(pairs.plain, shape.block), cut(pairs.hidden.images, shape.block)
    before, after = (np.sort(each, axis=2).transpose(1, 0, 2).reshape(shape.blocks, -1) for each in (plain, hidden))
    order = unique_matches(*row_classes(before, after))
    quick = np.flatnonzero(order != UNKNOWN)[:_QUICK]
    wanted = order[quick]
    state = np.random.RandomState()
    for seed in range(space):
        state.seed(seed)
        if not (state.permutation(shape.blocks)[quick] == wanted).all():
            yield None
            continue
        rho, pi = seeded_orders(seed, shape)
        fits = np.array_equal(plain[:, pi][..., rho], hidden)
        yield _opener(StemPermutation(rho, pi, np.zeros(len(rho), np.bool_)), shape) if fits else None


def small_secrets(pairs: Pairs, config: CipherConfig, shape: Geometry) -> Iterator[Opener | None]:
    """Try 32-byte secrets in the order of the numbers they are, by the scheme's own derivation."""
    plain, hidden = pairs.plain[:1], pairs.hidden
    nonces = None if hidden.nonces is None else hidden.nonces[:1]
    for number in range(2 ** (8 * SECRET_BYTES)):
        cipher = make_cipher(
            config,
            SiteKey(number.to_bytes(SECRET_BYTES, "big"), "guess"),
            channels=shape.channels,
            height=shape.height,
            width=shape.width,
            bits=shape.bits,
        )
        fits = np.array_equal(cipher.encrypt(plain, nonces), hidden.images[:1])
        yield _owner(cipher) if fits else None


def _searched(tried: Iterable[Opener | None], *, until: float) -> tuple[int, Opener | None]:
    trials = 0
    for opener in tried:
        trials += 1
        if opener is not None:
            return trials, opener
        if (trials < _LOOK or trials % _LOOK == 0) and time.perf_counter() > until:
            break
    return trials, None


def _owner(cipher: ImageCipher) -> Opener:
    return lambda found: cipher.decrypt(found.images, found.nonces)


def _opener(key: StemPermutation, shape: Geometry) -> Opener:
    permutation = signed_permutation(key, shape)
    return lambda found: permutation.decrypt(found.images, shape.largest)


def _key_bits(case: Case) -> float:
    if isinstance(case.cipher, IntegerSeeded):
        return math.log2(case.cipher.space)
    return 8.0 * SECRET_BYTES
