"""Who serves the ClientApp: a simulation, or a hospital.

A host opens the site, and decides what a server hears of an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

from flwr.app import Context, Error, Message, RecordDict

from fl_client.secagg.member import Member
from fl_client.secagg.pending import Pending
from fl_client.site import SiteInRun
from medveil.errors import MedVeilError
from medveil.flower import ErrorCode
from medveil.secagg.members import Join
from medveil.signed_messages import refusal_in

_T = TypeVar("_T")
RAISED: int = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
"""Flower's code for an app that refuses."""


class Host(ABC):
    """What stands between a server's messages and a site."""

    @abstractmethod
    def site(self, context: Context) -> SiteInRun:
        """The site this message is for, open and ready.

        Raises
        ------
        MedVeilError
            The run cannot be served here.
        """

    @abstractmethod
    def allow(self, site: SiteInRun, kind: str, round_: int) -> None:
        """Refuse a message that asks for too much, and count it otherwise.

        Parameters
        ----------
        site
            The site.
        kind
            ``"train"``, ``"evaluate"``, or the step of a sum and what it is of.
        round_
            The round it is about.

        Raises
        ------
        MedVeilError
            It is one too many, or of no round of the run.
        """

    @abstractmethod
    def joining(self, site: SiteInRun, examples: int, context: Context) -> Join | None:
        """What the site signs when it is asked what it brings: that it takes part; None where nobody counts it.

        Parameters
        ----------
        examples
            Number of training images it declares.
        context
            Flower's, of the message.

        Raises
        ------
        MedVeilError
            It cannot tell with whom.
        """

    @abstractmethod
    def accompany(self, site: SiteInRun, message: Message) -> None:
        """Refuse to train in the company that a message names.

        Raises
        ------
        MedVeilError
            They are too few, or this site would dominate them.
        """

    @abstractmethod
    def member(self, site: SiteInRun, context: Context) -> Member:
        """The site's side of secure aggregation, in a run that has it.

        Raises
        ------
        MedVeilError
            The site takes part in no such run, or not with the run's roster.
        """

    @abstractmethod
    def hold(self, site: SiteInRun, context: Context, pending: Pending) -> None:
        """Keep what waits for its masks until the next message."""

    @abstractmethod
    def taken(self, site: SiteInRun, context: Context) -> Pending | None:
        """What waits for its masks, once; None where nothing does."""

    @abstractmethod
    def over(self, site: SiteInRun, context: Context) -> None:
        """Take a run to have ended for good: what would open its sums once more is erased.

        Raises
        ------
        MedVeilError
            As `member`, or it cannot be written down.
        """

    @abstractmethod
    def tells_own(self, site: SiteInRun) -> bool:
        """Whether the site's own measures leave it in a run that sums them."""

    def judged(self, judge: Callable[[], _T]) -> _T:
        """What a step of secure aggregation gives; its refusal as one the server may read."""
        return judge()

    @abstractmethod
    def asked(self, message: Message, context: Context) -> None:
        """Judge whose message it is and write down that it came, before anything is made of it.

        Raises
        ------
        MedVeilError
            It is not the server's, or cannot be written down: the message is refused.
        """

    @abstractmethod
    def answering(self, message: Message, context: Context, site: SiteInRun, content: RecordDict) -> None:
        """Write down what is about to leave.

        Raises
        ------
        MedVeilError
            It cannot be written down: the reply is refused.
        """

    @abstractmethod
    def refusing(self, message: Message, context: Context, error: Exception) -> None:
        """Write down that a message is about to be refused."""

    def refused(self, message: Message, told: str, code: int = RAISED) -> Message:
        """The reply that refuses a message; called last.

        Parameters
        ----------
        told
            What the server is told, as `told` gave it.
        code
            Flower's code for it.
        """
        return refusal(message, told, code)

    @abstractmethod
    def told(self, error: MedVeilError, context: Context) -> tuple[str, int]:
        """What the server hears of an error, kind first, and the level at which the site logs all of it."""


def refusal(message: Message, told: str, code: int = RAISED) -> Message:
    """An error reply with a text of ours: of a raised exception Flower sends the text, Ray the whole traceback."""
    return Message(Error(code, told), reply_to=message)


def outcome(reply: Message) -> str:
    """What a reply comes to, for a log: "ok", or the text of its refusal, signed or not."""
    if reply.has_error():
        return reply.error.reason or "no reason given"
    found = refusal_in(reply)
    return "ok" if found is None else found[0]


def kind_of(error: Exception, field: str = "") -> str:
    """What may be said of any error: its kind, and the field of the contract it concerns, if that is known."""
    return f"{type(error).__name__}: {field and field + ': '}see the log of the site"
