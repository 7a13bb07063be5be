"""In whose company a site trains: it signs that it takes part, counts the others itself, and weighs itself among them.

Without an approved roster it can count nobody, and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.roster import ApprovedRoster
from fl_client.secagg.ledger import SUFFIX, Ledger, end_former
from fl_client.secagg.member import Member
from medveil.contract import RunConfig
from medveil.errors import ConfigError, IntegrityError, SignatureError
from medveil.log import logger
from medveil.secagg.members import Join, check_join, join, members_in, share_of
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

_RUNS_WITH_KEYS = 2
"""Newest runs whose keys are kept: a run that was interrupted may be taken up again."""
_APPROVE = "it approves the one that is read out: medveil-site approve-roster HEX --roster FILE"
_log = logger("site")


class Company:
    """One site's side.

    Parameters
    ----------
    files
        The site: its name, its limits, the roster it approved.
    identity
        The key that signs for it.
    lasting
        Whether this process serves all messages of a round: what waits for its masks is in its memory alone.
    """

    def __init__(self, files: OwnFiles, identity: SigningKey, *, lasting: bool = True) -> None:
        self._files, self._identity, self._lasting = files, identity, lasting
        self._approved = ApprovedRoster(files.roster)

    def member(self, run: RunConfig, *, subkey: bytes, former: Sequence[bytes] = (), served: bool = False) -> Member:
        """The site's side of secure aggregation in a run.

        Parameters
        ----------
        subkey
            What its ledger is sealed under: 32 bytes.
        former
            What ledgers were sealed under before the site's key was rotated.
        served
            Whether rounds of the run were served here before.

        Raises
        ------
        ConfigError
            It cannot take part, with a text that a server may read: it approved no roster, or another; or it runs the
            server's code, a process for each message.
        IntegrityError, FormatError, StorageError
            The approved roster or a ledger is not whole or, of a run that was served, gone; or the disk refuses.
        """
        if not self._lasting:
            problem = "this site begins a process for each message (--stock), and none could mask what was offered"
            raise ConfigError(problem, where="secagg.on", cure="it starts without --stock")
        roster = self._approved.roster()
        if roster is None:
            raise ConfigError("this site approved no roster", where="secagg.on", cure=_APPROVE)
        if (roster.fingerprint, roster.colluding) != (run.roster, run.secagg.colluding):
            cure = "every site approves the newest that 'medveil-server roster' wrote"
            raise ConfigError("is another than this site approved", where="roster", cure=cure)
        path, limits = self._ledger(run), self._files.config.limits
        if not path.exists():
            if served:
                problem = "the ledger of this run's sums is gone, and with it which sets of sites were agreed to"
                raise IntegrityError(problem, where=path, cure="put the newest ledger back, or start a new run")
            end_former(path.parent, subkey=subkey, former=former, keep=_RUNS_WITH_KEYS - 1)
        return Member(
            name=self._files.config.name,
            identity=self._identity,
            roster=roster,
            run=run.run,
            ledger=Ledger(path, run=run.run, subkey=subkey, former=former),
            clip=run.secagg.clip,
            bits=run.secagg.bits,
            least_sites=limits.least_sites,
            most_share=limits.most_share,
        )

    def over(self, run: RunConfig, *, subkey: bytes, former: Sequence[bytes] = ()) -> None:
        """Erase a run's key, whatever roster is approved by now; parameters and errors as of `Ledger`."""
        Ledger(self._ledger(run), run=run.run, subkey=subkey, former=former).end()

    def joining(self, run: RunConfig, examples: int) -> Join | None:
        """What this site signs when it is asked what it brings; None without a roster.

        Raises
        ------
        IntegrityError, FormatError
            The approved roster is not whole.
        """
        roster = self._approved.roster()
        if roster is None:
            return None
        return join(self._identity, run=run.run, roster=roster, name=self._files.config.name, examples=examples)

    def check(self, run: RunConfig, record: Mapping[str, Any] | None) -> None:
        """Refuse to train among too few, or where this site's own update would dominate what is made of all.

        Parameters
        ----------
        record
            What the server says that the sites said; None where it says nothing.

        Raises
        ------
        ConfigError
            With the limit it concerns, and a text that a server may read.
        FederationError
            The record is nothing of the kind.
        IntegrityError, FormatError
            The approved roster is not whole.
        """
        name, limits = self._files.config.name, self._files.config.limits
        roster = self._approved.roster()
        if roster is None and limits.roster:
            problem = "this site trains under a roster alone, and approved none"
            raise ConfigError(problem, where="limits.roster", cure=_APPROVE)
        if roster is None:
            return
        known = self._signed({} if record is None else record, run, roster)
        if len(known) < limits.least_sites or name not in {each.name for each in known}:
            problem = f"of the sites of its roster this one could check the signatures of {len(known)}, and wants"
            cure = "every site approves the same roster, and the run is begun or resumed anew"
            raise ConfigError(
                f"{problem} {limits.least_sites}, its own among them", where="limits.least_sites", cure=cure
            )
        if share_of(name, known) > limits.most_share:
            problem = "this site's own images would be more of the sum than its limit of"
            cure = "more sites take part, or this one gives fewer images"
            raise ConfigError(f"{problem} {limits.most_share:g}", where="limits.most_share", cure=cure)

    def _ledger(self, run: RunConfig) -> Path:
        return self._files.own / "sums" / f"{run.run}{SUFFIX}"

    def _signed(self, record: Mapping[str, Any], run: RunConfig, roster: Roster) -> list[Join]:
        """Those that really said it; whom the server added or changed is named in this site's log, and not counted."""
        found = []
        for each in members_in(record) if record else []:
            try:
                check_join(each, run=run.run, roster=roster)
            except SignatureError as error:
                _log.warning("not counted: %s", error)
                continue
            found.append(each)
        return found
