"""A hospital's own site, as it serves a server's runs: its own images, its own keys, its own limits."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from flwr.app import Context, Message, RecordDict

from crypto.keys import Key, SiteKey
from fl_client.counting_site import CountingSite, open_site
from fl_client.deployment.approved_runs import ApprovedRuns
from fl_client.deployment.company import Company
from fl_client.deployment.draining import BEGINNING, InHand, refuse_draining
from fl_client.deployment.hours import check_hours
from fl_client.deployment.limits import check_images, check_round, check_store, checked_run
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_keys import OwnKeys
from fl_client.deployment.promises import check_epsilon
from fl_client.deployment.records import SiteRecords
from fl_client.deployment.run_data import data_for
from fl_client.deployment.served_runs import ServedRun
from fl_client.deployment.signatures import SiteSignatures
from fl_client.deployment.told import ToldError, tellable
from fl_client.disclosure.required import require
from fl_client.disclosure.subject import remember, settings_digest
from fl_client.host import RAISED, Host, kind_of
from fl_client.leaving import Leaving
from fl_client.privacy.budget import EpsilonLimit
from fl_client.secagg.member import Member
from fl_client.secagg.pending import Pending
from fl_client.site import Site, SiteInRun
from fl_client.site_setup import SiteSetup
from fl_client.workbench import pick_device
from medveil.audit import Head
from medveil.audit_messages import carried, digest_of_config
from medveil.contract import RUN_KEY, RunConfig
from medveil.errors import BasisError, ConfigError, FederationError, FormatError, MedVeilError, SignatureError
from medveil.kinds import TRAIN
from medveil.log import logger
from medveil.plain import shown
from medveil.secagg.members import MEMBERS, Join

_KEPT = 2
_LONGEST_WHY = 500
_FIELDS = ("classes", "channels", "image_size", "cipher", "model", "train", "keys", "privacy", "server-round")
_T = TypeVar("_T")
_log = logger("site")


class OwnHost(Host):
    """One hospital, serving the runs of its consortium.

    What a run needs (model, key, store) stays open between messages, for the newest two runs.

    Parameters
    ----------
    files
        The site's configuration.
    keys
        Its open keys.
    lasting
        Whether this process serves one message after another, and not one alone.
    """

    def __init__(self, files: OwnFiles, keys: OwnKeys, *, lasting: bool = True) -> None:
        self._files, self._keys = files, keys
        self._limits = files.config.limits
        self._open: OrderedDict[str, SiteInRun] = OrderedDict()
        self._records = SiteRecords(files)
        self._signatures = SiteSignatures(files, keys.identity)
        assert keys.identity is not None  # A site without one was refused above.
        self._company = Company(files, keys.identity, lasting=lasting)
        self._pending: dict[str, Pending] = {}
        self.in_hand = InHand()
        self._refused: Head | None = None
        self._thief = SiteKey.generate("thief")
        self._count: Callable[[str], None] | None = None
        self.why: str | None = None
        """Why the message at hand was refused, in this site's own words: for its own status, and never for a server."""
        if files.config.threads:
            torch.set_num_threads(files.config.threads)

    def serving(self, count: Callable[[str], None]) -> None:
        """From now on messages come by an approval; `count` counts a run of it, and raises where it is one too many."""
        self._count = count

    def site(self, context: Context) -> SiteInRun:
        """The site, open for the run of this message."""
        return self.site_for(context.run_config)

    def site_for(self, run_config: Mapping[str, object]) -> SiteInRun:
        """The site, open for a run; opening builds the store where there is none.

        Raises
        ------
        ToldError
            The run is not in the contract or beyond the site's limits.
        MedVeilError
            Images, disk, key or settings cannot serve it.
        """
        text = str(run_config.get(RUN_KEY))
        if text not in self._open:
            run = tellable(lambda: checked_run(run_config, self._limits, self._files.weights))
            self._counted(run)
            tellable(lambda: self._served(run).bind(digest_of_config(run_config)))
            remember(self._files, run)
            self._approved(run)
            if run.trains:
                self._disclosed(run)
            self._open[text] = self._opened(run)
            _say_masked(run)
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
        self._open.move_to_end(text)
        # An approval may have been granted anew since.
        self._counted(self._open[text].run)
        return self._open[text]

    def allow(self, site: SiteInRun, kind: str, round_: int) -> None:
        """Count what is asked for, and refuse one too many."""
        self._approved(site.run)
        if kind == TRAIN:
            self._disclosed(site.run)
        served = self._served(site.run)
        done = served.answered.get(kind, 0)
        tellable(lambda: check_round(round_, site.run, done=done, limits=self._limits))
        served.count(kind)

    def joining(self, site: SiteInRun, examples: int, context: Context) -> Join | None:
        """The site's signature that it takes part, with the roster it approved."""
        if site.run.secagg.on:
            return self.member(site, context).join(examples)
        return self._company.joining(site.run, examples)

    def member(self, site: SiteInRun, context: Context) -> Member:
        """The site under its own identity and the roster it approved, with a ledger of its own."""
        try:
            subkey, former = _subkeys(site)
            served = self._served(site.run).ever
            return self._company.member(site.run, subkey=subkey, former=former, served=served)
        except FormatError:
            # Of a file of this site's.
            raise
        except ConfigError as error:
            raise ToldError(error) from error

    def hold(self, site: SiteInRun, context: Context, pending: Pending) -> None:
        """In memory alone, one of each of the newest runs: an update is on no disk."""
        self._pending[site.run.run] = pending
        while len(self._pending) > _KEPT:
            self._pending.pop(next(iter(self._pending)))

    def taken(self, site: SiteInRun, context: Context) -> Pending | None:
        """What is in memory, once."""
        return self._pending.pop(site.run.run, None)

    def over(self, site: SiteInRun, context: Context) -> None:
        """Erase the run's key, and an update that waits for masks."""
        if site.run.secagg.on:
            self._pending.pop(site.run.run, None)
            subkey, former = _subkeys(site)
            self._company.over(site.run, subkey=subkey, former=former)

    def tells_own(self, site: SiteInRun) -> bool:
        """Where the site's limits say so."""
        return self._limits.own_measures

    def judged(self, judge: Callable[[], _T]) -> _T:
        """What a step gives; a refusal of it is made of what the server sent, and told."""
        return tellable(judge, only=FederationError)

    def accompany(self, site: SiteInRun, message: Message) -> None:
        """Count the sites whose signatures this one can check, and weigh itself among them."""
        record = message.content.config_records.get(MEMBERS)
        tellable(lambda: self._company.check(site.run, None if record is None else dict(record)))

    def asked(self, message: Message, context: Context) -> None:
        """Refuse what this site's server did not sign for it, and write down what it did."""
        self._refused = None
        signed = self._signatures.authentic(message)
        tensors = carried(message.content)
        self._signatures.check(signed, message, context, tensors)
        self._records.asked(message, context, tensors)
        if message.metadata.message_type in BEGINNING:
            tellable(lambda: check_hours(self._limits.hours))
            tellable(lambda: refuse_draining(self._files))

    def answering(self, message: Message, context: Context, site: SiteInRun, content: RecordDict) -> None:
        """Write it down, tell the server how far the log has come, and sign both."""
        tensors = carried(content)
        head = self._records.answered(message, context, site, content, tensors)
        self._signatures.sign(message, content, tensors, head)
        self.in_hand.answered(message.metadata.message_type, site.run.run, summed=site.run.secagg.on)

    def refusing(self, message: Message, context: Context, error: Exception) -> None:
        """Write down its kind, and the site's limit where it is one."""
        kind = error.kind if isinstance(error, ToldError) else type(error).__name__
        self.why = shown(f"{kind}: {error}", most=_LONGEST_WHY)
        reason = error.reason if isinstance(error, SignatureError | ToldError) else None
        about = getattr(error, "where", None)
        changed = error.parts if isinstance(error, BasisError) else ()
        self._refused = self._records.refused(message, context, kind=kind, about=about, reason=reason, changed=changed)

    def refused(self, message: Message, told: str, code: int = RAISED) -> Message:
        """The reply that refuses, signed; unsigned where no order of the server's came.

        Whoever sent that hears that it was refused: a site's signature answers an order, and there is none.
        """
        head, self._refused = self._refused, None
        return self._signatures.refusal(message, told, code, head) or super().refused(message, told, code)

    def told(self, error: MedVeilError, context: Context) -> tuple[str, int]:
        """The reason, where it is made of what the server sent; else only the field of the contract it concerns."""
        if isinstance(error, ToldError):
            return f"{error.kind}: {error}", logging.WARNING
        return kind_of(error, error.where if error.where in _FIELDS else ""), logging.ERROR

    # -- inside --------------------------------------------------------------------------------------------------------

    def _counted(self, run: RunConfig) -> None:
        if self._count is None:
            return
        try:
            self._count(run.run)
        except ConfigError as error:
            raise ToldError(error) from error

    def _approved(self, run: RunConfig) -> None:
        """Refuse a run whose settings no person here approved, where its limits say so."""
        if self._limits.approve_runs:
            tellable(lambda: ApprovedRuns(self._files).require(run))

    def _disclosed(self, run: RunConfig) -> None:
        """Refuse a run whose settings this site has not disclosed, where its limits say so."""
        assert self._keys.identity is not None
        public = self._keys.identity.public
        tellable(lambda: require(self._files, public, settings=settings_digest(run), run=run.run))

    def _opened(self, run: RunConfig) -> SiteInRun:
        cipher_key = self._cipher_key(run.keys)
        data = tellable(lambda: data_for(run, self._files.data))
        views = data.views if run.trains else 1
        leaving = Leaving(self._limits.smallest_count)
        site = open_site(
            run,
            SiteSetup(
                name=self._files.config.name,
                index=0,
                sites=1,
                key=self._keys.own.current,
                cipher_key=cipher_key,
                thief_key=self._thief,
                data=data,
                folder=self._files.own,
                device=pick_device(self._files.config.device),
                keep_model=True,
                # Once a run: what hashing takes is little beside a round.
                verify=True,
                served=self._served(run).ever,
                judge=lambda images: tellable(lambda: check_store(leaving.above(images), run, views, self._limits)),
                former=self._keys.own.retired,
                leaving=leaving,
                clip=self._limits.clip,
                epsilon_limit=EpsilonLimit(
                    self._limits.delta,
                    lambda spent: tellable(lambda: check_epsilon(spent, self._limits)),
                    self._limits.noise or 0.0,
                    self._limits.smallest_count,
                ),
            ),
        )
        tellable(lambda: check_images(_used(site), self._limits, trains=run.trains))
        return site

    def _cipher_key(self, keys: str) -> Key | None:
        if keys == "none":
            return None
        if keys == "per-site":
            return self._keys.own.current
        if self._keys.shared is None:
            cure = "'medveil-crypto open' makes the file that 'shared_key' names"
            raise ToldError(ConfigError("this site holds no shared key", where="keys", cure=cure))
        return self._keys.shared.current

    def _served(self, run: RunConfig) -> ServedRun:
        return ServedRun(self._files.state / "runs" / run.run)


def _subkeys(site: SiteInRun) -> tuple[bytes, list[bytes]]:
    """What a site seals its state under, and did before its key was rotated."""
    subkey, *former = [key.subkey("state") for key in (site.setup.key, *site.setup.former)]
    return subkey, former


def _used(site: SiteInRun) -> int:
    """How many images the run is about here."""
    if isinstance(site, CountingSite):
        return len(site.indices)
    assert isinstance(site, Site)  # There is no third kind.
    return len(site.store.part(site.used))


def _say_masked(run: RunConfig) -> None:
    """Say once, in a line, what the server reads of this site in a run."""
    what = "updates leave" if run.trains else "nothing trains, and measures leave"
    if run.counted is not None:
        whose = "their sums over sites alone" if run.secagg.on else "this site's own"
        text = f"nothing trains: images are counted by {run.counted.in_words}, and the server reads {whose}"
    elif run.secagg.on:
        text = f"{what} masked, in {run.secagg.bits} bits, and the server reads their sum alone"
    elif run.evaluated is not None:
        text = f"nothing trains: the server reads this site's own measures of {run.evaluated.in_words}"
    else:
        text = "secagg.on is false: the server reads this site's own updates"
    _log.info("run %s: %s", run.name, text)
