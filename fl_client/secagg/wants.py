"""What a site wants of a sum before it has part in it: who takes part, what they offer, and who is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fl_client.secagg.ledger import Ledger
from medveil.errors import AggregationError
from medveil.secagg import masks
from medveil.secagg.encoding import KEY_BYTES
from medveil.secagg.members import check_join, share_of
from medveil.secagg.roster import Roster
from medveil.secagg.rounds import Offer, Task, check_agreement
from medveil.secagg.sums import TRAIN
from medveil.summed_messages import about


@dataclass(frozen=True, kw_only=True)
class Wants:
    """Refuses what one site wants no part in (SignatureError, and AggregationError with a reason).

    Parameters
    ----------
    name, roster, run, ledger
        As of the site's `fl_client.secagg.member.Member`.
    fewest
        Sites that it wants in a sum, of all that take part as of those that are left.
    most_share
        Largest share of its own in one.
    """

    name: str
    roster: Roster
    run: str
    ledger: Ledger
    fewest: int
    most_share: float

    def check_joins(self, task: Task, private: X25519PrivateKey) -> None:
        """Of those who take part: each signed it, once, with a key of its own, and this site with `private`."""
        if task.run != self.run:
            raise AggregationError("is another run than this site's", where=self.run, reason="run")
        for each in task.joins:
            check_join(each, run=self.run, roster=self.roster)
        _refuse_twice([each.name for each in task.joins], "takes part twice")
        _refuse_twice([each.key for each in task.joins], "brings another site's key")
        if not all(len(each.key) == KEY_BYTES for each in task.joins):
            raise AggregationError("a site brings no key to seal shares to", where=self.run, reason="keys")
        keys = [each.key for each in task.joins if each.name == self.name]
        if keys != [masks.public_bytes(private)]:
            raise AggregationError("this site's own key of the run is not among them", where=self.name, reason="own")
        self._refuse_few(task, [each.name for each in task.joins], "take part")

    def check_opened(self, task: Task) -> None:
        """A round that this site helped to open is only attempted again where the same sites can be in it."""
        known = self.ledger.of(task.number)
        if known is not None and not set(known.survivors) <= {each.name for each in task.joins}:
            problem = f"round {task.number} was opened with a site that is not there now, and a round has one set"
            raise AggregationError(problem, where=self.run, cure="begin a new run", reason="set")

    def check_model(self, task: Task, model: str) -> None:
        """What a round leaves at this site, all later ones begin from: it is made once, of the round's one model.

        Of a site that a server had train alone in between, two sums over the same sites would tell the change.
        """
        known, cure = self.ledger.rounds(), "begin a new run"
        kind, round_ = about(task.number)
        found = known.get(task.number)
        if found is not None and found.model not in ("", model):
            problem = f"this site began round {round_} from another model, and a round has one"
            raise AggregationError(problem, where=self.run, cure=cure, reason="model")
        later = any(about(each)[0] == TRAIN and each > task.number for each in known)
        if kind == TRAIN and found is None and later:
            problem = f"this site trained rounds after round {round_}, and not that one"
            raise AggregationError(problem, where=self.run, cure=cure, reason="round")

    def check_offers(self, task: Task, offers: Sequence[Offer], own: Offer) -> None:
        """Of the offers of an attempt: each is signed, made for this round, and of a site that joined."""
        joined = {each.name for each in task.joins}
        for each in offers:
            each.check(task.round, self.roster)
            if each.name not in joined:
                raise AggregationError("offers, and did not join this run", where=each.name, reason="added")
        _refuse_twice([each.name for each in offers], "offers twice")
        _refuse_twice([each.key for each in offers], "offers another site's key")
        if own not in offers:
            raise AggregationError("this site's own offer is not among them", where=self.name, reason="own")
        self._refuse_few(task, [each.name for each in offers], "made an offer")

    def check_survivors(self, task: Task, offers: Sequence[Offer], survivors: Sequence[str]) -> None:
        """Of the sites whose sum is to be opened: all made an offer, this one is among them, and they are enough."""
        _refuse_twice(list(survivors), "is left twice")
        if not set(survivors) <= {each.name for each in offers}:
            raise AggregationError("a site is left that made no offer", where=self.run, reason="set")
        if self.name not in survivors:
            raise AggregationError("this site is not among those that are left", where=self.name, reason="set")
        self._refuse_few(task, survivors, "are left")

    def check_signatures(self, agreed: bytes, survivors: Sequence[str], signatures: Mapping[str, bytes]) -> None:
        """Of the signatures under such a set: each is of a site in it, and they reach the threshold."""
        for name, signed in signatures.items():
            if name not in survivors:
                raise AggregationError("signed, and is none of those left", where=name, reason="signatures")
            check_agreement(signed, name, self.roster, agreed)
        if len(signatures) < self.roster.threshold:
            problem = f"{len(signatures)} sites agreed to this set, and {self.roster.threshold} must"
            raise AggregationError(problem, where=self.run, reason="signatures")

    def _refuse_few(self, task: Task, names: Sequence[str], what: str) -> None:
        """Refuse a sum of too few sites, or one that would be mostly this site's."""
        if len(names) < self.fewest:
            problem = f"{len(names)} sites {what}, and this site wants {self.fewest}"
            raise AggregationError(problem, where="limits.least_sites", reason="few")
        if share_of(self.name, [each for each in task.joins if each.name in names]) > self.most_share:
            problem = f"of the sites that {what} this one would be more of the sum than its limit"
            raise AggregationError(problem, where="limits.most_share", reason="share")


def _refuse_twice(given: Sequence[str | bytes], problem: str) -> None:
    twice = [each for each, times in Counter(given).items() if times > 1]
    if twice:
        where = twice[0] if isinstance(twice[0], str) else None
        raise AggregationError(f"a site {problem}", where=where, reason="twice")
