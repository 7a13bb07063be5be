"""One attempt at a round with secure aggregation, at the server: what it takes of sites, and the one sum it can open.

It keeps one vector, however many sites there are. It checks every signature that sites will check, so that one of them
cannot stop the others, and names the site whose word does not hold; what it passes on it cannot change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medveil.errors import AggregationError
from medveil.secagg import masks, shamir
from medveil.secagg.fixed import FixedPoint, Residues, Update, norm_of, unpack
from medveil.secagg.members import check_join
from medveil.secagg.roster import Roster
from medveil.secagg.rounds import (
    SEALED_BYTES,
    Offer,
    Offered,
    Task,
    agreement,
    check_agreement,
    decode_sums,
    sealed_digest,
    transcript_of,
)


@dataclass(frozen=True)
class Sum:
    """What was opened.

    Parameters
    ----------
    residues
        (d,) uint32: the sum itself, modulo 2^bits.
    mean
        (d,) fp32: over the sites in it, each by its images.
    sums
        The summed measures.
    survivors
        The sites in it, sorted.
    examples
        Images of these sites.
    rounding
        About how far rounding moved the mean, as a part of its length.
    """

    residues: Residues
    mean: Update
    sums: list[float]
    survivors: tuple[str, ...]
    examples: int
    rounding: float


@dataclass(frozen=True)
class Agreed:
    """An attempt whose set of sites was agreed to: all that is needed to open it, and nothing that opens it.

    Parameters
    ----------
    task
        The round.
    offers
        Of U1, by site.
    signatures
        Under the set, by site.
    survivors
        U2, sorted.
    residues, sums
        What the survivors gave, summed, under their masks.
    """

    task: Task
    offers: dict[str, Offered]
    signatures: dict[str, bytes]
    survivors: tuple[str, ...]
    residues: Residues
    sums: npt.NDArray[np.uint64]


class Aggregator:
    """One attempt at one round.

    Parameters
    ----------
    task
        The round, as every site is told it.
    roster
        Who may take part.
    size
        Numbers in an update.
    sums
        Measures that are summed with it.
    clip, bits
        As in `medveil.secagg.fixed.FixedPoint`.

    Raises
    ------
    SignatureError
        A site of the task did not sign that it takes part.
    AggregationError
        Too few take part to open anything (``few``).
    """

    def __init__(self, task: Task, roster: Roster, *, size: int, sums: int, clip: float, bits: int) -> None:
        for each in task.joins:
            check_join(each, run=task.run, roster=roster)
        self._task, self._roster, self._size = task, roster, size
        self._fixed = FixedPoint(clip, bits, len(task.joins))
        self._joined = {each.name for each in task.joins}
        self._offers: dict[str, Offered] = {}
        self._closed = False
        self._sum: Residues = np.zeros(size, np.uint32)
        self._sums = np.zeros(sums, np.uint64)
        self._survivors: set[str] = set()
        self._settled = False
        self._signatures: dict[str, bytes] = {}
        self._shares: dict[str, Mapping[str, bytes]] = {}
        self._refuse_few(len(self._joined), "take part")

    @classmethod
    def finishing(cls, agreed: Agreed, roster: Roster, *, clip: float, bits: int) -> Aggregator:
        """Go on with an attempt that a server of before agreed on and did not open; errors as when it came."""
        sizes = {"size": len(agreed.residues), "sums": len(agreed.sums)}
        made = cls(agreed.task, roster, **sizes, clip=clip, bits=bits)
        for name, given in agreed.offers.items():
            made.offer(name, given)
        if not set(agreed.survivors) <= made._offers.keys():
            raise AggregationError("a site is left that made no offer", where=made._where, reason="set")
        made._sum, made._sums = agreed.residues.copy(), agreed.sums.copy()
        made._closed, made._survivors = True, set(agreed.survivors)
        made.survivors()
        for name, signed in agreed.signatures.items():
            made.agreed(name, signed)
        return made

    def kept(self) -> Agreed:
        """What must be on disk before a site is asked for shares: a round has one set, and other sites may be gone.

        Raises
        ------
        AggregationError
            Too few sites agreed.
        """
        signatures, survivors = self.signatures(), self.survivors()
        return Agreed(self._task, dict(self._offers), signatures, survivors, self._sum.copy(), self._sums.copy())

    # -- train: offers -------------------------------------------------------------------------------------------------

    def offer(self, name: str, given: Offered) -> None:
        """Take a site's offer.

        Raises
        ------
        AggregationError, SignatureError
            It is late, a second one, not this site's or not for this round, or does not seal shares to every site.
        """
        self._refuse_order(self._closed or name in self._offers, name, "an offer")
        offer = given.offer
        if offer.name != name or name not in self._joined:
            raise AggregationError("offers under another name, or did not join", where=name, reason="added")
        offer.check(self._task.round, self._roster)
        if any(offer.key == each.offer.key for each in self._offers.values()):
            raise AggregationError("offers another site's key", where=name, reason="twice")
        whole = given.sealed.keys() == self._joined and all(len(each) == SEALED_BYTES for each in given.sealed.values())
        if not whole or sealed_digest(given.sealed) != offer.sealed:
            raise AggregationError("did not seal shares to every site", where=name, reason="shares")
        self._offers[name] = given

    def offers(self) -> list[Offer]:
        """All offers (U1), sorted by site; from now on no more are taken (AggregationError ``few``)."""
        self._closed = True
        self._refuse_few(len(self._offers), "made an offer")
        return [self._offers[name].offer for name in sorted(self._offers)]

    def sealed_for(self, name: str) -> dict[str, bytes]:
        """What the sites of U1 sealed to one of them."""
        return {sender: given.sealed[name] for sender, given in sorted(self._offers.items())}

    # -- train.mask: the sum -------------------------------------------------------------------------------------------

    def masked(self, name: str, packed: npt.NDArray[np.uint8], sums: npt.NDArray[np.uint64]) -> None:
        """Add what a site gave under its masks.

        Raises
        ------
        AggregationError
            It made no offer, gave one before, or comes late (``order``).
        FederationError
            It is of another length or kind.
        """
        late = not self._closed or self._settled or name not in self._offers or name in self._survivors
        self._refuse_order(late, name, "a masked update")
        if sums.dtype != np.uint64 or sums.shape != self._sums.shape:
            raise AggregationError(f"gives other than {len(self._sums)} sums", where=name, reason="sums")
        words = unpack(packed, self._fixed.bits, self._size)
        # Nothing before this line changed the sum, nothing after it fails.
        self._sum += words
        self._sums += sums
        self._survivors.add(name)

    def survivors(self) -> tuple[str, ...]:
        """Who gave one (U2), sorted; from now on no more are taken (AggregationError ``few``)."""
        self._settled = True
        self._refuse_few(len(self._survivors), "are left")
        return tuple(sorted(self._survivors))

    # -- query.agree, query.unmask -------------------------------------------------------------------------------------

    def agreed(self, name: str, signed: bytes) -> None:
        """Take a site's signature under the set that is opened.

        Raises
        ------
        AggregationError
            It is not in that set.
        SignatureError
            It signed something else.
        """
        self._refuse_order(not self._settled or name not in self._survivors, name, "a signature")
        check_agreement(signed, name, self._roster, agreement(self._transcript, self._survivors))
        self._signatures[name] = signed

    def signatures(self) -> dict[str, bytes]:
        """Those that came (AggregationError ``signatures`` where they are too few)."""
        if len(self._signatures) < self._roster.threshold:
            problem = f"{len(self._signatures)} sites agreed, and {self._roster.threshold} must: the attempt is lost"
            raise AggregationError(problem, where=self._where, reason="signatures")
        return dict(sorted(self._signatures.items()))

    def helped(self, name: str, shares: Mapping[str, bytes]) -> None:
        """Take the shares a site gave, one for each site of U1.

        Raises
        ------
        AggregationError
            It is not in the set that is opened, or gave something else (``shares``).
        """
        self._refuse_order(not self._settled or name not in self._survivors, name, "shares")
        try:
            for each in shares.values():
                shamir.from_bytes(each)
        except ValueError:
            raise AggregationError("gave what is no share", where=name, reason="shares") from None
        if shares.keys() != self._offers.keys():
            raise AggregationError("gave no share for every site", where=name, reason="shares")
        self._shares[name] = dict(shares)

    def open(self) -> Sum:
        """Take the masks off the sum.

        Raises
        ------
        AggregationError
            Too few sites helped, what they gave does not fit what was offered (``shares``), or the mean is beyond what
            sites may give (``norm``).
        """
        if len(self._shares) < self._roster.threshold:
            problem = f"{len(self._shares)} sites helped, and {self._roster.threshold} must: the attempt is lost"
            raise AggregationError(problem, where=self._where, reason="shares")
        found = {name: self._secret(name) for name in sorted(self._offers)}
        residues, sums = self._sum.copy(), self._sums.copy()
        plus, minus = self._keys(found, masks.UPDATE)
        masks.mask(residues, plus=plus, minus=minus)
        plus, minus = self._keys(found, masks.SUMS)
        masks.mask_wide(sums, plus=plus, minus=minus)
        residues &= self._fixed.mask
        survivors = tuple(sorted(self._survivors))
        weight = self._task.weight(survivors)
        mean = self._fixed.decode(residues, weight)
        self._refuse_norm(mean, survivors)
        examples = sum(map(self._task.examples, survivors))
        off = self._fixed.rounding(self._size, len(survivors), weight)
        return Sum(residues, mean, decode_sums(sums), survivors, examples, off / (norm_of(mean) or math.inf))

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _transcript(self) -> bytes:
        return transcript_of(self._task.round, self._roster, [each.offer for each in self._offers.values()])

    @property
    def _where(self) -> str:
        return f"round {self._task.number}"

    def _refuse_few(self, count: int, what: str) -> None:
        if count < self._roster.fewest:
            problem = f"{count} sites {what}, and {self._roster.fewest} must: the attempt is lost"
            raise AggregationError(problem, where=self._where, reason="few")

    @staticmethod
    def _refuse_order(wrong: bool, name: str, what: str) -> None:
        if wrong:
            raise AggregationError(f"gives {what} that is not its turn to give", where=name, reason="order")

    def _secret(self, name: str) -> int:
        """What a site shared: its self mask where it survived, else its mask key; proven by what it offered.

        One helper that lies, or one site that shared no polynomial, looks alike until other helpers are tried.
        """
        points = {helper: self._roster.index(helper) for helper in sorted(self._shares)}
        given = {helper: shamir.from_bytes(self._shares[helper][name]) for helper in points}
        for helpers in shamir.sets_of(list(points), self._roster.threshold):
            found = shamir.join({points[helper]: given[helper] for helper in helpers})
            if self._is_secret(name, found):
                return found
        problem = "shared something else than it offered, or sites that help give something else than it shared"
        raise AggregationError(problem, where=name, reason="shares")

    def _is_secret(self, name: str, found: int) -> bool:
        offer = self._offers[name].offer
        if name in self._survivors:
            return masks.commitment(found) == offer.commitment
        return masks.public_bytes(masks.private_key(found)) == offer.key

    def _keys(self, known: Mapping[str, int], what: str) -> tuple[list[bytes], list[bytes]]:
        """Keys of what is missing in the sum, and of what is too much."""
        made = self._transcript
        plus: list[bytes] = []
        minus = [masks.self_key(known[name], made, what) for name in self._survivors]
        for name in self._offers.keys() - self._survivors:
            private = masks.private_key(known[name])
            for other in self._survivors:
                key = masks.pair_key(private, self._offers[other].offer.key, made, (name, other), what)
                # The survivor added it where its own name comes first.
                (minus if other < name else plus).append(key)
        return plus, minus

    def _refuse_norm(self, mean: Update, survivors: Sequence[str]) -> None:
        """Each site scaled its update to the clip, so a mean beyond it shows that one did not; not which."""
        rounding = len(survivors) * math.sqrt(self._size) / (2 * self._fixed.scale * self._task.weight(survivors))
        norm, most = norm_of(mean), self._fixed.clip + rounding
        if norm > most * (1 + 1e-6):
            problem = f"the mean has norm {norm:.3g}, above the clip of {self._fixed.clip:g}: a site did not keep to it"
            raise AggregationError(problem, where=self._where, reason="norm")
