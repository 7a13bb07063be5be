"""What is attacked under one key, and the part of it that an attacker sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crypto.base import Geometry, ImageCipher, Nonces
from crypto.config import CipherConfig

Pixels = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

_PAIR_NONCES = 2**32
_ORACLE_NONCES = 2**33
_LABELLED_NONCES = 2**35
"""Where the nonces of pairs, chosen plaintexts and labelled images begin: no two ciphertexts of a key share one."""


class Knowledge(StrEnum):
    """Everything an attacker may be assumed to have; a closed list, roughly from little to much."""

    CIPHERTEXTS = "ciphertexts"
    PUBLIC = "auxiliary public images"
    LABELLED = "labelled ciphertexts"
    CANDIDATES = "candidate plaintexts"
    PAIRS = "known pairs"
    CHOSEN = "chosen plaintexts"
    UPDATES = "updates"
    WEIGHTS = "updates + public weights"
    KEY = "key"


class Images(NamedTuple):
    """Plain images (n, C, H, W) and their classes, int64 (n,)."""

    pixels: Pixels
    labels: Indices


class Hidden(NamedTuple):
    """Ciphertexts (n, C, H, W), and the nonces stored beside them where the scheme has any."""

    images: Pixels
    nonces: Nonces | None


class Pairs(NamedTuple):
    """Plain images (m, C, H, W) and the ciphertexts of the same."""

    plain: Pixels
    hidden: Hidden


class Labelled(NamedTuple):
    """Ciphertexts whose classes, int64 (n,), and sites, int64 (n,) or None where there are none, are known."""

    hidden: Hidden
    labels: Indices
    sites: Indices | None


Oracle = Callable[[Pixels], Hidden]
"""Hides images of the attacker's choice."""


class Seen:
    """What an attacker sees: the public settings, and what the attack's knowledge names.

    Nothing else is in the object, so an attack cannot use it by mistake: asking for what was not given is a
    `LookupError`, a defect of the attack.

    Attributes
    ----------
    config : CipherConfig
        Scheme and settings; public.
    geometry : Geometry
        Shape of images and blocks; public.
    number : int
        Which of the measurement's keys it is, for attacks that spend more on the first ones.
    """

    def __init__(
        self, config: CipherConfig, geometry: Geometry, given: Mapping[Knowledge, Any], *, number: int = 0
    ) -> None:
        self.config, self.geometry, self.number = config, geometry, number
        self._given = dict(given)

    @property
    def ciphertexts(self) -> Hidden:
        """Hidden images of one key."""
        return self._get(Knowledge.CIPHERTEXTS)  # type: ignore[no-any-return]

    @property
    def public(self) -> Images:
        """Images of the same kind and other patients (disjoint from what is attacked, by group where there are any)."""
        return self._get(Knowledge.PUBLIC)  # type: ignore[no-any-return]

    @property
    def candidates(self) -> Pixels:
        """Plain images (n, C, H, W) among which the originals of some ciphertexts are, in random order."""
        return self._get(Knowledge.CANDIDATES)  # type: ignore[no-any-return]

    @property
    def pairs(self) -> Pairs:
        """Images the attacker has both plain and hidden; none of the ciphertexts is among them."""
        return self._get(Knowledge.PAIRS)  # type: ignore[no-any-return]

    @property
    def oracle(self) -> Oracle:
        """Hides images of the attacker's choice."""
        return self._get(Knowledge.CHOSEN)  # type: ignore[no-any-return]

    @property
    def labelled(self) -> Labelled:
        """Ciphertexts with their labels; of other patients than the rest, whose labels the attacker wants."""
        return self._get(Knowledge.LABELLED)  # type: ignore[no-any-return]

    @property
    def updates(self) -> Any:
        """Model updates, as the case gives them."""
        return self._get(Knowledge.UPDATES)

    @property
    def weights(self) -> Any:
        """Model updates and the public weights they began from, as the case gives them."""
        return self._get(Knowledge.WEIGHTS)

    @property
    def cipher(self) -> ImageCipher:
        """The cipher with its key."""
        return self._get(Knowledge.KEY)  # type: ignore[no-any-return]

    def _get(self, what: Knowledge) -> Any:
        if what not in self._given:
            raise LookupError(f"the attack does not declare that it knows '{what}'")
        return self._given[what]


@dataclass
class Case:
    """One key and what it hid: the evaluator's side of the table.

    Attributes
    ----------
    config, geometry
        Public settings.
    cipher, other : ImageCipher
        Under the key that is attacked, and under another.
    targets : Images
        What is hidden and attacked.
    known : Images
        Further images of the kind, plain and hidden in the attacker's hands; no target's group is among them.
    public : callable
        Gives the public images when asked.
    candidates : ndarray
        Plain images in random order, (n, C, H, W).
    linked : int64 (targets,)
        Place of each target among the candidates, -1 for one that is not there.
    number : int
        Which of the measurement's keys it is.
    labelled : Images
        Images whose ciphertexts the attacker has with their labels, of other groups than the targets.
    sites, labelled_sites : int64 (targets,) and (labelled,)
        Where they were made; None where the source names fewer than two sites.
    guess_images : callable
        Gives, for chance, the mean image and random other images of the targets' classes.
    extra : mapping
        What a case of its own kind supplies, by knowledge: updates, for example. It replaces the standard supply.
    """

    config: CipherConfig
    geometry: Geometry
    cipher: ImageCipher
    other: ImageCipher
    targets: Images
    known: Images
    public: Callable[[], Images]
    guess_images: Callable[[], list[Pixels]]
    candidates: Pixels | None = None
    linked: Indices | None = None
    labelled: Images | None = None
    number: int = 0
    sites: Indices | None = None
    labelled_sites: Indices | None = None
    extra: Mapping[Knowledge, Any] = field(default_factory=dict)

    @cached_property
    def hidden(self) -> Hidden:
        """The targets' ciphertexts."""
        return hide(self.cipher, self.targets.pixels)

    @cached_property
    def guessed(self) -> list[Pixels]:
        """Guesses without ciphertexts, each like the targets: the mean image, and other images of the classes."""
        return self.guess_images()

    def seen(self, knowledge: Iterable[Knowledge], *, wrong_key: bool = False) -> Seen:
        """Give an attacker what its knowledge names, and nothing else.

        Parameters
        ----------
        knowledge
            What the attack assumes.
        wrong_key
            Make pairs, chosen plaintexts, labelled ciphertexts and the key another key's than the ciphertexts'.
        """
        cipher = self.other if wrong_key else self.cipher
        supply: dict[Knowledge, Callable[[], Any]] = {
            Knowledge.CIPHERTEXTS: lambda: _frozen(self.hidden),
            Knowledge.PUBLIC: lambda: _frozen(self.public()),
            Knowledge.CANDIDATES: lambda: _frozen((self.candidates,))[0],
            Knowledge.PAIRS: lambda: self._pairs(cipher),
            Knowledge.CHOSEN: lambda: oracle(cipher),
            Knowledge.LABELLED: lambda: self._labelled(cipher),
            Knowledge.KEY: lambda: cipher,
        }
        given = {each: self.extra[each] if each in self.extra else supply[each]() for each in knowledge}
        return Seen(self.config, self.geometry, given, number=self.number)

    def _pairs(self, cipher: ImageCipher) -> Pairs:
        hidden = hide(cipher, self.known.pixels, first=_PAIR_NONCES)
        return Pairs(_frozen((self.known.pixels,))[0], _frozen(hidden))

    def _labelled(self, cipher: ImageCipher) -> Labelled:
        assert self.labelled is not None
        hidden = hide(cipher, self.labelled.pixels, first=_LABELLED_NONCES)
        return Labelled(_frozen(hidden), self.labelled.labels, self.labelled_sites)


def hide(cipher: ImageCipher, images: Pixels, *, first: int = 0) -> Hidden:
    """Encrypt images, with nonces numbered from `first` where the scheme needs them."""
    nonces = cipher.derived_nonces(first, len(images)) if cipher.per_image else None
    return Hidden(cipher.encrypt(images, nonces), nonces)


def oracle(cipher: ImageCipher) -> Oracle:
    """A function that hides what it is given, each image under a nonce of its own."""
    asked = 0

    def ask(images: Pixels) -> Hidden:
        nonlocal asked
        made = hide(cipher, images, first=_ORACLE_NONCES + asked)
        asked += len(images)
        return made

    return ask


def _frozen(arrays: Any) -> Any:
    """The same arrays, not to be written to: an attack that changes what it sees would change the truth."""
    for each in arrays:
        if isinstance(each, np.ndarray):
            each.setflags(write=False)
    return arrays
