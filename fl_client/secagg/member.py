"""One site in one run with secure aggregation: what it offers, masks, agrees to and helps to open, and what it refuses.

It believes nothing that a server says of others: who takes part and with how many images, which keys are whose and who
is left, all bear signatures under the roster that the site approved. What could be asked twice is asked of the ledger.
Only an update and the secrets of the attempt at hand are in memory: after a restart the site cannot mask what it
offered for, but can still agree to, and help to open, what it masked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fl_client.secagg.ledger import Ledger
from fl_client.secagg.wants import Wants
from medveil.errors import AggregationError, FederationError
from medveil.secagg import masks, shamir
from medveil.secagg.encoding import digest
from medveil.secagg.fixed import FixedPoint, Update, clipped, pack
from medveil.secagg.members import Join, join
from medveil.secagg.roster import Roster
from medveil.secagg.rounds import (
    Masked,
    Offer,
    Offered,
    Task,
    agreement,
    encode_sums,
    sealed_digest,
    sign_agreement,
    transcript_of,
)
from medveil.signing import SigningKey


@dataclass(frozen=True)
class Secrets:
    """Of one attempt, between offer and mask.

    Parameters
    ----------
    task
        What was offered for.
    own, element
        Elements of Shamir's field: the self mask, and what the key of pairwise masks follows from.
    offer
        What the other sites are shown.
    """

    task: Task
    own: int
    element: int
    offer: Offer


class Member:
    """A site's side of the protocol.

    Parameters
    ----------
    name, identity
        The site, and the key that signs for it.
    roster
        Who takes part, as this site approved it.
    run
        UUID of the run.
    ledger
        The run's, on this site's disk.
    clip, bits
        As in `medveil.secagg.fixed.FixedPoint`.
    least_sites, most_share
        The site's own limits.

    Attributes
    ----------
    secrets : Secrets or None
        Of the attempt at hand; whoever serves a run with more than one process takes them over.
    """

    def __init__(
        self,
        *,
        name: str,
        identity: SigningKey,
        roster: Roster,
        run: str,
        ledger: Ledger,
        clip: float,
        bits: int,
        least_sites: int,
        most_share: float,
    ) -> None:
        self._name, self._identity, self._roster = name, identity, roster
        self._run, self._ledger = run, ledger
        self._clip, self._bits = clip, bits
        fewest = max(least_sites, roster.fewest)
        self._wants = Wants(name=name, roster=roster, run=run, ledger=ledger, fewest=fewest, most_share=most_share)
        self.secrets: Secrets | None = None

    def join(self, examples: int) -> Join:
        """Sign that this site takes part, with the key that shares are sealed to in this run."""
        key = masks.public_bytes(self._ledger.seal_key())
        return join(self._identity, run=self._run, roster=self._roster, name=self._name, examples=examples, key=key)

    def check(self, task: Task, model: str = "") -> None:
        """Before training: refuse what this site would make no offer for; errors as `offer`, of which it is a part."""
        self._wants.check_joins(task, self._ledger.seal_key())
        self._wants.check_opened(task)
        self._wants.check_model(task, model)

    def offer(self, task: Task, model: str = "") -> Offered:
        """After training: draw the keys of this attempt, and seal shares of them to every site that joined.

        Parameters
        ----------
        task
            The attempt.
        model
            Digest of the tensors that came for it; empty for none.

        Raises
        ------
        SignatureError
            A site that the server names did not sign that it takes part (``forged``), or is not on the roster
            (``added``).
        AggregationError
            ``few``: too few take part; ``share``: this site would be most of the sum; ``own``: its own word was
            changed; ``twice``: a site or a key is named twice; ``attempt``: it was asked for this before; ``set``: a
            site is missing that the round was opened with; ``model``: it began the round from another; ``round``: it
            trained later ones, and not this one.
        """
        self.check(task, model)
        private = self._ledger.seal_key()
        self._ledger.offering(task.number, task.attempt, model)
        own, element = shamir.new_secret(), shamir.new_secret()
        mask_key = masks.private_key(element)
        sealed = self._sealed(task, private, own, element)
        unsigned = Offer(
            name=self._name,
            number=task.number,
            attempt=task.attempt,
            model=task.round.model,
            key=masks.public_bytes(mask_key),
            commitment=masks.commitment(own),
            sealed=sealed_digest(sealed),
        )
        offer = unsigned.signed(self._identity, run=self._run, roster=self._roster)
        self.secrets = Secrets(task, own, element, offer)
        return Offered(offer, sealed)

    def mask(
        self,
        task: Task,
        offers: Sequence[Offer],
        sealed: Mapping[str, bytes],
        update: Update,
        sums: Sequence[float] = (),
    ) -> Masked:
        """Give the update under masks.

        Parameters
        ----------
        task
            As in the offer of this attempt.
        offers
            Of every site of U1, this one's among them.
        sealed
            What each of them sealed to this site.
        update
            (d,) fp32, what this site adds; scaled down where its L2 norm is above the clip.
        sums
            Measures that are summed with it.

        Raises
        ------
        SignatureError
            A site did not sign its offer: its keys were changed (``forged``).
        AggregationError
            ``order``: this site made no offer for this, or masked before; ``added``: a site that did not join;
            ``round``, ``attempt``, ``model``: an offer made for another; ``own``: this site's own was changed;
            ``shares``: what was sealed to it does not open; ``few``, ``share``, ``twice``.
        FederationError
            The update is not finite.
        """
        found, self.secrets = self.secrets, None
        if found is None or found.task != task:
            raise AggregationError("this site masks once, after its offer", where=self._run, reason="order")
        self._wants.check_offers(task, offers, found.offer)
        self._shares(task, [each.name for each in offers], sealed)
        small, had_to = clipped(update, self._clip)
        vector = FixedPoint(self._clip, self._bits, len(task.joins)).encode(small, task.weight([self._name]))
        summed = encode_sums(sums)
        made = transcript_of(task.round, self._roster, offers)
        # Before anything is masked: what is not written down does not leave.
        self._ledger.masking(task.number, task.attempt, made)
        plus, minus = self._keys(found, offers, made, masks.UPDATE)
        masks.mask(vector, plus=plus, minus=minus)
        plus, minus = self._keys(found, offers, made, masks.SUMS)
        masks.mask_wide(summed, plus=plus, minus=minus)
        return Masked(pack(vector, self._bits), summed, had_to)

    def agree(self, task: Task, offers: Sequence[Offer], survivors: Sequence[str]) -> bytes:
        """Sign, once a round, the set of sites whose sum this site helps to open; 64 bytes.

        Raises
        ------
        AggregationError
            ``few``, ``share``: too few are left, or this site would be most of their sum; ``set``: they are not among
            those that offered, this site is not one of them, or it agreed to another set in this round; ``twice``;
            ``order``: this site masked nothing of the kind.
        """
        made = transcript_of(task.round, self._roster, offers)
        self._wants.check_survivors(task, offers, survivors)
        self._ledger.agreeing(task.number, made, list(survivors))
        return sign_agreement(self._identity, agreement(made, survivors))

    def unmask(
        self,
        task: Task,
        offers: Sequence[Offer],
        survivors: Sequence[str],
        signatures: Mapping[str, bytes],
        sealed: Mapping[str, bytes],
    ) -> dict[str, bytes]:
        """A share for each site of U1: of its self mask where it survived, of its mask key where it did not.

        The same request is answered the same again, also after a restart; another set never is.

        Parameters
        ----------
        survivors
            U2.
        signatures
            Under the agreement to it, by site: at least as many as the roster's threshold.
        sealed
            As in `mask`: what each site of U1 sealed to this one.

        Raises
        ------
        AggregationError
            ``set``: it is not the set this site agreed to; ``signatures``: too few, or of a site that is not in it;
            ``shares``: of a site there are none.
        SignatureError
            A site did not sign this set.
        """
        made = transcript_of(task.round, self._roster, offers)
        known, wanted = self._ledger.of(task.number), tuple(sorted(survivors))
        if known is None or known.agreed != made.hex() or known.survivors != wanted:
            raise AggregationError("is not the set of sites this site agreed to", where=self._run, reason="set")
        self._wants.check_signatures(agreement(made, wanted), wanted, signatures)
        shares = self._shares(task, [each.name for each in offers], sealed)
        return {name: both[0] if name in wanted else both[1] for name, both in shares.items()}

    def end(self) -> None:
        """Erase the run's key: of what was sealed to it nothing opens here any more, and no sum of the run follows."""
        self._ledger.end()

    # -- keys and shares -----------------------------------------------------------------------------------------------

    def _sealed(self, task: Task, private: X25519PrivateKey, own: int, element: int) -> dict[str, bytes]:
        """Both shares for each site that joined, this one too: it keeps nothing of them itself."""
        points = {each.name: self._roster.index(each.name) for each in task.joins}
        both = [shamir.split(secret, self._roster.threshold, points.values()) for secret in (own, element)]
        sealed = {}
        for each in task.joins:
            plain = b"".join(shamir.to_bytes(shares[points[each.name]]) for shares in both)
            key, bound = self._sealing(task, private, each.key, self._name, each.name)
            sealed[each.name] = masks.seal(key, plain, bound)
        return sealed

    def _shares(self, task: Task, names: Sequence[str], sealed: Mapping[str, bytes]) -> dict[str, tuple[bytes, bytes]]:
        """Of each site the share of its self mask and of its mask key, opened."""
        private, keys = self._ledger.seal_key(), {each.name: each.key for each in task.joins}
        opened = {}
        for name in names:
            if name not in sealed or name not in keys:
                raise AggregationError("sealed no shares to this site", where=name, reason="shares")
            key, bound = self._sealing(task, private, keys[name], name, self._name)
            try:
                plain = masks.unseal(key, sealed[name], bound)
            except FederationError as error:
                raise AggregationError(error.problem, where=name, reason="shares") from None
            if len(plain) != 2 * shamir.SHARE_BYTES:
                raise AggregationError("sealed something else than shares", where=name, reason="shares")
            opened[name] = (plain[: shamir.SHARE_BYTES], plain[shamir.SHARE_BYTES :])
        return opened

    def _sealing(
        self, task: Task, private: X25519PrivateKey, public: bytes, sender: str, receiver: str
    ) -> tuple[bytes, bytes]:
        """Key and context of the shares that one site seals to another in this attempt."""
        context = task.round.context(self._roster)
        key = masks.agreed_key(private, public, "share", context, sender, receiver)
        return key, digest(context, sender, receiver)

    def _keys(self, found: Secrets, offers: Sequence[Offer], made: bytes, what: str) -> tuple[list[bytes], list[bytes]]:
        """Keys of the masks this site adds, and of those it takes away: of two sites the first by name adds theirs."""
        plus = [masks.self_key(found.own, made, what)]
        minus: list[bytes] = []
        private = masks.private_key(found.element)
        for each in offers:
            if each.name != self._name:
                key = masks.pair_key(private, each.key, made, (self._name, each.name), what)
                (plus if self._name < each.name else minus).append(key)
        return plus, minus
