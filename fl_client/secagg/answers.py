"""What a site answers in a run with secure aggregation, from records and into records.

Training and measuring end in an offer; the update follows under masks when all offers are known, and with it the
measures, so that neither is seen before there is a sum of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict

from fl_client.asked import round_in
from fl_client.host import Host
from fl_client.secagg.pending import Pending
from fl_client.site import SiteInRun
from medveil.audit_messages import carried, digest_of_config
from medveil.contract import ARRAYS
from medveil.errors import AggregationError, FederationError
from medveil.log import logger
from medveil.secagg import records
from medveil.secagg.fixed import clipped, norm_of
from medveil.secagg.members import MEMBERS, members_in
from medveil.secagg.rounds import Masked, Offer, Task
from medveil.secagg.sums import summands
from medveil.summed_messages import MASKED, about, content_of, number_of
from medveil.wire import Tensors, encode, pack

SAME = "server and site need the same MedVeil"
_log = logger("site")


class Answers:
    """A site's answers to one message.

    Parameters
    ----------
    host
        Who serves the site.
    site
        The site.
    message, context
        What came, and Flower's context of it.

    Raises
    ------
    FederationError
        The run has no secure aggregation.
    """

    def __init__(self, host: Host, site: SiteInRun, message: Message, context: Context) -> None:
        if not site.run.secagg.on:
            raise FederationError("the run has no secure aggregation, and nothing to mask or open", cure=SAME)
        self._host, self._site, self._message, self._context = host, site, message, context
        self._member = host.member(site, context)

    def asked(self) -> tuple[str, int]:
        """What a later message of an attempt is about: its kind, as in `medveil.secagg.sums`, and the round.

        Raises
        ------
        FederationError
            It names another round than its task has.
        """
        found = about(self._task().number)
        if found[1] != round_in(self._message):
            raise FederationError("the message names another round than its task", cure=SAME)
        return found

    def begin(self, kind: str, round_: int) -> Task:
        """Before work begins: the task, in company this site takes part in.

        Parameters
        ----------
        kind
            What is asked for, as in `medveil.secagg.sums`.
        round_
            The round, as the message names it.

        Raises
        ------
        AggregationError, SignatureError
            As `fl_client.secagg.member.Member.offer`; ``model`` where the server names another model than it sent.
        """

        def judged() -> Task:
            found = self._task()
            content = content_of(self._message.content, digest_of_config(self._context.run_config))
            if (found.number, found.content) != (number_of(kind, round_), content):
                raise AggregationError("the task is about another model or round than came", reason="model")
            self._member.check(found, self._model())
            return found

        return self._host.judged(judged)

    def offer(
        self,
        task: Task,
        change: Tensors,
        metrics: Mapping[str, float] | None = None,
        *,
        sums: Sequence[float] | None = None,
    ) -> dict[str, ConfigRecord]:
        """After it: keep what came of it, and offer.

        Parameters
        ----------
        task
            As `begin` gave it.
        change
            What training changed, by tensor; none where the model was only measured.
        metrics
            The site's own measures, by the contract's keys.
        sums
            What it adds to each sum, in place of measures.

        Raises
        ------
        FederationError
            The update is not finite.
        AggregationError
            As `fl_client.secagg.member.Member.offer`.
        """
        kind, round_ = about(task.number)
        flat = pack(encode(change, "fp32")).astype(np.float32, copy=False) if change else np.empty(0, np.float32)
        clip = self._site.run.secagg.clip
        update, had_to = self._host.judged(lambda: clipped(flat, clip))
        if had_to:
            name = self._site.setup.name
            _log.warning("%s: round %d: norm %.3g, scaled to the clip of %g", name, round_, norm_of(flat), clip)
        added = summands(kind, metrics or {}, clipped=had_to) if sums is None else sums
        offered = self._host.judged(lambda: self._member.offer(task, self._model()))
        assert self._member.secrets is not None  # An offer has some.
        self._host.hold(self._site, self._context, Pending(self._member.secrets, update, tuple(added)))
        return {name: ConfigRecord(values) for name, values in records.offered_records(offered).items()}

    def mask(self) -> RecordDict:
        """The update and the measures, under masks."""
        pending = self._host.taken(self._site, self._context)
        task, offers = self._task(), self._offers()
        sealed = records.sealed_in(self._record(records.SEALED))

        def masked() -> Masked:
            if pending is None:
                problem = "this site masks once, after its offer, and not when it began anew in between"
                raise AggregationError(problem, reason="order")
            self._member.secrets = pending.secrets
            return self._member.mask(task, offers, sealed, pending.update, pending.sums)

        made = self._host.judged(masked)
        array = ArrayRecord({MASKED: Array(made.packed)})
        return RecordDict({ARRAYS: array, records.SUMS: ConfigRecord(records.sums_record(made.sums))})

    def agree(self) -> RecordDict:
        """The signature under the set whose sum is opened."""
        task, offers = self._task(), self._offers()
        survivors, _ = records.left_in(self._record(records.LEFT))
        signed = self._host.judged(lambda: self._member.agree(task, offers, survivors))
        return RecordDict({records.AGREED: ConfigRecord(records.agreed_record(signed))})

    def unmask(self) -> RecordDict:
        """A share for every site that offered."""
        task, offers = self._task(), self._offers()
        survivors, signatures = records.left_in(self._record(records.LEFT))
        sealed = records.sealed_in(self._record(records.SEALED))
        shares = self._host.judged(lambda: self._member.unmask(task, offers, survivors, signatures, sealed))
        return RecordDict({records.SHARES: ConfigRecord(records.shares_record(shares))})

    # -- inside --------------------------------------------------------------------------------------------------------

    def _model(self) -> str:
        """Digest of the tensors that came; empty for none."""
        content = self._message.content
        found = carried(RecordDict({ARRAYS: content[ARRAYS]})) if ARRAYS in content else None
        return "" if found is None else found.digest

    def _task(self) -> Task:
        joins = members_in(self._record(MEMBERS))
        return records.task_in(self._record(records.TASK), run=self._site.run.run, joins=joins)

    def _offers(self) -> list[Offer]:
        return records.offers_in(self._record(records.OFFERS))

    def _record(self, name: str) -> dict[str, Any]:
        found = self._message.content.config_records.get(name)
        if found is None:
            raise FederationError(f"the message has no record '{name}'", cure=SAME)
        return dict(found)
