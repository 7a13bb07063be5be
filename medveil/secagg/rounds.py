"""A round of secure aggregation in the words both sides share: Bonawitz et al. 2017 (eprint 2017/281), full graph.

    train         the site trains, draws a mask key and a self mask, and offers shares of both to every site that joined
    train.mask    it is shown all offers (U1) and gives its update under a mask for each of them and its own
    query.agree   it is told who gave one (U2), and signs that set: one a round, for ever
    query.unmask  shown enough of these signatures, it gives a share for each of U1: of the self mask of who is in U2,
                  of the mask key of who is not

Masks follow from the *transcript*: run, round, attempt, model and settings, roster, and the keys of U1. A server that
shows two sites different ones gets masks that do not cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medveil.errors import AggregationError, FederationError, SignatureError
from medveil.secagg.encoding import KEY_BYTES, check_signature, digest, signature
from medveil.secagg.masks import is_key
from medveil.secagg.members import Join, digest_of
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

OFFER, AGREEMENT = "medveil offer", "medveil agreement"
SEALED_BYTES = 12 + 2 * 32 + 16
"""Nonce, the two shares, and what proves them."""
FRACTION = 2.0**20
_LARGEST = 2.0**32


@dataclass(frozen=True)
class Round:
    """What all sites of a round have in common.

    Parameters
    ----------
    run
        The run's UUID.
    number
        The round.
    attempt
        0, or how often it was begun before without being opened.
    model
        32 bytes that name the model, every setting, and who takes part with how many images.
    """

    run: str
    number: int
    attempt: int
    model: bytes

    def context(self, roster: Roster) -> bytes:
        """32 bytes that name this round and the roster."""
        return digest("round", self.run, self.number, self.attempt, self.model, roster.digest)


@dataclass(frozen=True)
class Task:
    """A round as a server describes it to a site.

    Parameters
    ----------
    run, number, attempt
        As in `Round`.
    content
        32 bytes: the digest of the model's tensors and of every setting of message and run.
    joins
        Who takes part: the same list for every site.
    """

    run: str
    number: int
    attempt: int
    content: bytes
    joins: tuple[Join, ...]

    @property
    def round(self) -> Round:
        """What the sites have in common where they were all told the same."""
        return Round(self.run, self.number, self.attempt, digest("common", self.content, digest_of(self.joins)))

    def examples(self, name: str) -> int:
        """What a site declared; 0 for one that did not join."""
        return sum(each.examples for each in self.joins if each.name == name)

    def weight(self, names: Iterable[str]) -> float:
        """What these sites weigh of all that joined, 0 to 1."""
        return sum(map(self.examples, names)) / sum(each.examples for each in self.joins)


@dataclass(frozen=True)
class Offer:
    """What a site shows all others before it masks.

    Parameters
    ----------
    name
        The site.
    number, attempt, model
        The round it is for, as the site was told (`Round`).
    key
        Public X25519 key of its pairwise masks, 32 bytes.
    commitment
        Of its self mask, 32 bytes.
    sealed
        Digest of the shares it sealed to each site, 32 bytes.
    signature
        64 bytes, of its identity.
    """

    name: str
    number: int
    attempt: int
    model: bytes
    key: bytes
    commitment: bytes
    sealed: bytes
    signature: bytes = b""

    def signed(self, identity: SigningKey, *, run: str, roster: Roster) -> Offer:
        """The same with the signature of its site."""
        made = signature(identity, OFFER, self._said(run, roster))
        return Offer(self.name, self.number, self.attempt, self.model, self.key, self.commitment, self.sealed, made)

    def check(self, round_: Round, roster: Roster) -> None:
        """Refuse what its site did not sign, or not for this round.

        Raises
        ------
        AggregationError
            It is not on the roster, its keys are none, or it was made for another round, attempt or model.
        SignatureError
            Its site did not sign it.
        """
        public = roster.members.get(self.name)
        if public is None:
            raise AggregationError("is not on the roster that this site approved", where=self.name, reason="added")
        if not is_key(self.key) or {len(self.commitment), len(self.sealed), len(self.model)} != {KEY_BYTES}:
            raise AggregationError("offers no keys", where=self.name, reason="keys")
        try:
            check_signature(self.signature, public, OFFER, self._said(round_.run, roster))
        except SignatureError:
            raise SignatureError("did not sign this offer for this run", where=self.name) from None
        for name in ("number", "attempt", "model"):
            if getattr(self, name) != getattr(round_, name):
                called = "round" if name == "number" else name
                raise AggregationError(f"made this offer for another {called}", where=self.name, reason=called)

    def _said(self, run: str, roster: Roster) -> dict[str, str | int]:
        return {
            "run": run,
            "roster": roster.fingerprint,
            "site": self.name,
            "round": self.number,
            "attempt": self.attempt,
            "model": self.model.hex(),
            "key": self.key.hex(),
            "commitment": self.commitment.hex(),
            "sealed": self.sealed.hex(),
        }


@dataclass(frozen=True)
class Offered:
    """A site's offer with what it sealed: for each site that joined, its shares."""

    offer: Offer
    sealed: Mapping[str, bytes]


@dataclass(frozen=True)
class Masked:
    """What a site gives in place of its update.

    Parameters
    ----------
    packed
        (d * bits / 8,) uint8, as `medveil.secagg.fixed.pack`.
    sums
        (m,) uint64: measures that are summed with it.
    clipped
        Whether the update had to be scaled down to the clip; for the site's own log, and never sent.
    """

    packed: npt.NDArray[np.uint8]
    sums: npt.NDArray[np.uint64]
    clipped: bool


def sealed_digest(sealed: Mapping[str, bytes]) -> bytes:
    """32 bytes that name what was sealed, and to whom."""
    return digest("sealed", *[part for name in sorted(sealed) for part in (name, digest(sealed[name]))])


def transcript(round_: Round, roster: Roster, offers: Mapping[str, tuple[bytes, bytes]]) -> bytes:
    """32 bytes that all masks of a round follow from.

    Parameters
    ----------
    offers
        Mask key and commitment of each site of U1.
    """
    return digest(
        "transcript", round_.context(roster), *[part for name in sorted(offers) for part in (name, *offers[name])]
    )


def transcript_of(round_: Round, roster: Roster, offers: Iterable[Offer]) -> bytes:
    """The same of whole offers."""
    return transcript(round_, roster, {each.name: (each.key, each.commitment) for each in offers})


def agreement(made: bytes, survivors: Iterable[str]) -> bytes:
    """32 bytes that name a transcript and the sites whose sum is opened."""
    return digest("agree", made, *sorted(survivors))


def sign_agreement(identity: SigningKey, agreed: bytes) -> bytes:
    """A site's 64 bytes under an agreement."""
    return signature(identity, AGREEMENT, {"agreement": agreed.hex()})


def check_agreement(signed: bytes, name: str, roster: Roster, agreed: bytes) -> None:
    """Refuse what is not a site's signature under this agreement, by the site's name.

    Raises
    ------
    AggregationError
        It is not on the roster.
    SignatureError
        It did not sign this.
    """
    if name not in roster.members:
        raise AggregationError("is not on the roster that this site approved", where=name, reason="added")
    try:
        check_signature(signed, roster.members[name], AGREEMENT, {"agreement": agreed.hex()})
    except SignatureError:
        raise SignatureError("did not sign that this set is opened", where=name) from None


def encode_sums(sums: Sequence[float]) -> npt.NDArray[np.uint64]:
    """Measures as numbers modulo 2^64, to the millionth (FederationError where one is not finite or too large)."""
    given = np.asarray(sums, np.float64)
    if not (np.abs(given) < _LARGEST).all():
        raise FederationError("a measure to be summed is not finite, or too large")
    return np.rint(given * FRACTION).astype(np.int64).view(np.uint64)


def decode_sums(summed: npt.NDArray[np.uint64]) -> list[float]:
    """The sums of measures."""
    return [float(each) / FRACTION for each in summed.view(np.int64)]
