"""The Flower ClientApp of a hospital: ``fl_client.app:app``.

It translates between Flower's messages and `fl_client.work`, and lets no error text leave the site unread. Whose
site that is, a host says (`fl_client.host`): simulated ones are made from the run config, a real one never is.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fl_client import work
from fl_client.asked import incoming_in, keep_round_in, only_validates, proximal_in, round_in
from fl_client.counting import counted
from fl_client.counting_site import CountingSite
from fl_client.deployment.own_files import SITE_VARIABLE
from fl_client.host import RAISED, Host, kind_of, refusal
from fl_client.leaving import known
from fl_client.secagg.answers import SAME, Answers
from fl_client.secagg.member import Member
from fl_client.secagg.pending import Pending
from fl_client.simulated_host import SimulatedHost
from fl_client.site import Site, SiteInRun, with_model
from fl_client.start import check_start, note_step, tell_step
from medveil.contract import ARRAYS, BASIS, EPSILON, METRICS, NUM_EXAMPLES, PACKED, SECONDS, SITE
from medveil.counting import COUNTS, FLOOR, STATISTICS, in_a_row
from medveil.errors import FederationError, MedVeilError
from medveil.folded import fold, unfold
from medveil.log import logger
from medveil.secagg.members import MEMBER, Join
from medveil.secagg.rounds import Task
from medveil.secagg.sums import COUNT, EVALUATE, TRAIN, VALIDATE
from medveil.sent import record_of
from medveil.wire import Tensors, delta, encode, pack

_T = TypeVar("_T")
_ALWAYS = (NUM_EXAMPLES, SECONDS, EPSILON)
"""What a site tells of itself beside a sum under masks: none of it is a measure of its images."""
_log = logger("client")


class ChosenHost(Host):
    """The real site that this process's environment names, or a simulation's."""

    def site(self, context: Context) -> SiteInRun:
        """A site of the host that serves here."""
        return self._host.site(context)

    def allow(self, site: SiteInRun, kind: str, round_: int) -> None:
        """As the host that serves here."""
        self._host.allow(site, kind, round_)

    def joining(self, site: SiteInRun, examples: int, context: Context) -> Join | None:
        """As the host that serves here."""
        return self._host.joining(site, examples, context)

    def accompany(self, site: SiteInRun, message: Message) -> None:
        """As the host that serves here."""
        self._host.accompany(site, message)

    def member(self, site: SiteInRun, context: Context) -> Member:
        """As the host that serves here."""
        return self._host.member(site, context)

    def hold(self, site: SiteInRun, context: Context, pending: Pending) -> None:
        """As the host that serves here."""
        self._host.hold(site, context, pending)

    def taken(self, site: SiteInRun, context: Context) -> Pending | None:
        """As the host that serves here."""
        return self._host.taken(site, context)

    def over(self, site: SiteInRun, context: Context) -> None:
        """As the host that serves here."""
        self._host.over(site, context)

    def tells_own(self, site: SiteInRun) -> bool:
        """As the host that serves here."""
        return self._host.tells_own(site)

    def judged(self, judge: Callable[[], _T]) -> _T:
        """As the host that serves here."""
        return self._host.judged(judge)

    def asked(self, message: Message, context: Context) -> None:
        """As the host that serves here."""
        self._host.asked(message, context)

    def answering(self, message: Message, context: Context, site: SiteInRun, content: RecordDict) -> None:
        """As the host that serves here."""
        self._host.answering(message, context, site, content)

    def refusing(self, message: Message, context: Context, error: Exception) -> None:
        """As the host that serves here."""
        self._host.refusing(message, context, error)

    def refused(self, message: Message, told: str, code: int = RAISED) -> Message:
        """As the host that serves here."""
        try:
            return self._host.refused(message, told, code)
        except MedVeilError:
            # No site can be opened, and so no key that signs.
            return refusal(message, told, code)

    def told(self, error: MedVeilError, context: Context) -> tuple[str, int]:
        """As the host that serves here."""
        return self._host.told(error, context) if SITE_VARIABLE not in os.environ else self._own_words(error, context)

    def _own_words(self, error: MedVeilError, context: Context) -> tuple[str, int]:
        try:
            return self._host.told(error, context)
        except MedVeilError:
            # The site's own file cannot be read: that is the error, and none of the server's business.
            return kind_of(error), logging.ERROR

    @property
    def _host(self) -> Host:
        named = os.environ.get(SITE_VARIABLE)
        return SimulatedHost() if named is None else _own_host(named)


def _unfolding(message: Message, context: Context, answer: Callable[[Message, Context], Message]) -> Message:
    """Serve what still is as it travelled: a process of Flower's own has unfolded nothing, a worker has."""
    folded = unfold(message)
    reply = answer(message, context)
    if folded:
        fold(reply)
    return reply


def make_app(host: Host) -> ClientApp:
    """Make the ClientApp that serves a host's sites."""
    app = ClientApp(mods=[_unfolding])

    @app.query()
    def query(message: Message, context: Context) -> Message:
        """Say what the site brings: its row of the preflight table. Builds the store when there is none."""

        def reply(site: SiteInRun) -> RecordDict:
            row = work.described(site)
            joining = host.joining(site, row["n-train"] if site.run.trains else row["n-test"], context)
            member = {} if joining is None else {MEMBER: ConfigRecord(joining.as_record())}
            return RecordDict({SITE: ConfigRecord(row), **member})

        return _answer(host, message, context, reply)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        """Train one round; reply with the travelling tensors and the measures."""

        def reply(site: SiteInRun) -> RecordDict:
            return _trained(host, with_model(site), message, context)

        return _answer(host, message, context, reply)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        """Measure the model on the site's validation and test images, or on the former alone to choose a round.

        Of a run that trains nothing, on the images it is to measure, and the model all began with alone. Of one without
        a model, count them.
        """

        def reply(given: SiteInRun) -> RecordDict:
            if isinstance(given, CountingSite):
                return _counted(host, given, message, context)
            site = with_model(given)
            incoming, round_ = incoming_in(message, site), round_in(message)
            validates = only_validates(message)
            check_start(site, round_, incoming, measures=not validates)
            host.allow(site, "evaluate", round_)
            summed = _Summed.begun(host, site, message, context, VALIDATE if validates else EVALUATE)
            metrics = (work.validate if validates else work.evaluate)(site, round_, incoming)
            if summed is not None:
                return summed.offered({}, metrics)
            return RecordDict({METRICS: MetricRecord({**known(metrics)}), SITE: _basis(site)})

        return _answer(host, message, context, reply)

    @app.train("mask")
    def mask(message: Message, context: Context) -> Message:
        """Give what was offered, under masks."""

        def reply(site: SiteInRun) -> RecordDict:
            return _step(host, site, message, context, "mask").mask()

        return _answer(host, message, context, reply)

    @app.query("agree")
    def agree(message: Message, context: Context) -> Message:
        """Sign the set of sites whose sum is opened, once a round."""

        def reply(site: SiteInRun) -> RecordDict:
            return _step(host, site, message, context, "agree").agree()

        return _answer(host, message, context, reply)

    @app.query("unmask")
    def unmask(message: Message, context: Context) -> Message:
        """Help to open the sum over the set that was signed."""

        def reply(site: SiteInRun) -> RecordDict:
            return _step(host, site, message, context, "unmask").unmask()

        return _answer(host, message, context, reply)

    @app.query("end")
    def end(message: Message, context: Context) -> Message:
        """Hear that no sum of the run follows."""

        def reply(site: SiteInRun) -> RecordDict:
            host.over(site, context)
            return RecordDict()

        return _answer(host, message, context, reply)

    return app


app = make_app(ChosenHost())


@dataclass(frozen=True)
class _Summed:
    """Work whose outcome is summed under masks with that of other sites."""

    host: Host
    site: Site
    answers: Answers
    task: Task

    @classmethod
    def begun(cls, host: Host, site: Site, message: Message, context: Context, kind: str) -> _Summed | None:
        """Refuse what this site would make no offer for, before it works; None where nothing is summed."""
        if not site.run.secagg.on:
            return None
        answers = Answers(host, site, message, context)
        return cls(host, site, answers, answers.begin(kind, round_in(message)))

    def offered(self, change: Tensors, metrics: dict[str, float]) -> RecordDict:
        """An offer in place of update and measures; the site's own measures only where it tells them."""
        offer = self.answers.offer(self.task, change, metrics)
        told = metrics
        if not self.host.tells_own(self.site):
            told = {name: metrics[name] for name in _ALWAYS if name in metrics}
        return RecordDict({METRICS: MetricRecord({**known(told)}), SITE: _basis(self.site), **offer})


def _trained(host: Host, site: Site, message: Message, context: Context) -> RecordDict:
    """A round of training."""
    incoming, round_ = incoming_in(message, site), round_in(message)
    check_start(site, round_ - 1, incoming)
    tell_step(site, round_, incoming)
    host.accompany(site, message)
    host.allow(site, "train", round_)
    summed = _Summed.begun(host, site, message, context, TRAIN)
    mu, keep_round = host.judged(lambda: proximal_in(message, site)), keep_round_in(message)
    attempt = 0 if summed is None else summed.task.attempt
    outgoing, metrics = work.train(site, round_, incoming, proximal_mu=mu, keep_round=keep_round, attempt=attempt)
    note_step(site, round_, incoming, outgoing)
    if summed is not None:
        return summed.offered(delta(outgoing, incoming), metrics)
    if site.run.kind == "delta":
        outgoing = delta(outgoing, incoming)
    encoded = encode(outgoing, site.run.wire)
    sent = {PACKED: pack(encoded)} if site.run.packed else encoded
    return RecordDict({ARRAYS: record_of(sent), METRICS: MetricRecord({**known(metrics)}), SITE: _basis(site)})


def _counted(host: Host, site: CountingSite, message: Message, context: Context) -> RecordDict:
    """The histograms a run asks for; under masks only that there are some."""
    round_ = round_in(message)
    if message.content.array_records or round_ != 0:
        problem = "this run counts images, once, and a model came or another round"
        raise FederationError(problem, where="task", cure=SAME)
    host.allow(site, STATISTICS, round_)
    answers = Answers(host, site, message, context) if site.run.secagg.on else None
    task = None if answers is None else answers.begin(COUNT, round_)
    found = counted(site)
    floor = {FLOOR: site.setup.leaving.smallest}
    if answers is None or task is None:
        return RecordDict({COUNTS: ConfigRecord({**floor, **found})})
    return RecordDict({COUNTS: ConfigRecord({**floor}), **answers.offer(task, {}, sums=in_a_row(found))})


def _step(host: Host, site: SiteInRun, message: Message, context: Context, step: str) -> Answers:
    """The answers of a later step of an attempt, counted like what it began with."""
    answers = Answers(host, site, message, context)
    kind, round_ = answers.asked()
    host.allow(site, f"{step} {kind}", round_)
    return answers


def _basis(site: Site) -> ConfigRecord:
    """Whether what the site stands on changed, should it have lost what it wrote down of it itself."""
    return ConfigRecord({BASIS: site.images.basis.keyed(site.setup.key.subkey("state"))})


def _answer(host: Host, message: Message, context: Context, reply: Callable[[SiteInRun], RecordDict]) -> Message:
    try:
        host.asked(message, context)
        site = host.site(context)
        content = reply(site)
        host.answering(message, context, site, content)
        return Message(content=content, reply_to=message)
    except MedVeilError as error:
        told, level = host.told(error, context)
        _log.log(level, "%s", error)
        _note_refusal(host, message, context, error)
        return host.refused(message, told)
    except Exception as error:
        _log.exception("an error MedVeil did not expect")
        _note_refusal(host, message, context, error)
        return host.refused(message, kind_of(error))


def _note_refusal(host: Host, message: Message, context: Context, error: Exception) -> None:
    try:
        host.refusing(message, context, error)
    except MedVeilError as unwritten:
        # Nothing of the site's is in a refusal: it may leave unrecorded, and the server waits for it.
        _log.error("the refusal is not in the audit log: %s", unwritten)


@functools.lru_cache(maxsize=1)
def _own_host(file: str) -> Host:
    """The real site of a file, its keys opened; for a process of Flower's own that serves one message."""
    from crypto.passphrase import read_passphrase  # noqa: PLC0415
    from fl_client.deployment.own_files import load_site  # noqa: PLC0415
    from fl_client.deployment.own_keys import open_keys  # noqa: PLC0415
    from fl_client.deployment.own_site import OwnHost  # noqa: PLC0415

    files = load_site(Path(file))
    return OwnHost(files, open_keys(files, read_passphrase), lasting=False)
