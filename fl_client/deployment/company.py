"""In whose company a site trains: it signs that it takes part, counts the others itself, and weighs itself among them.

Without an approved roster it can count nobody, and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_client.deployment.config import OwnFiles
from fl_client.deployment.roster import ApprovedRoster
from medveil.contract import RunConfig
from medveil.errors import ConfigError, SignatureError
from medveil.log import logger
from medveil.secagg.members import Join, check_join, join, members_in, share_of
from medveil.secagg.roster import Roster
from medveil.signing import SigningKey

_log = logger("site")


class Company:
    """One site's side.

    Parameters
    ----------
    files
        The site: its name, its limits, the roster it approved.
    identity
        The key that signs for it.
    """

    def __init__(self, files: OwnFiles, identity: SigningKey) -> None:
        self._files, self._identity = files, identity
        self._approved = ApprovedRoster(files.roster)

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
        roster = self._approved.roster()
        if roster is None:
            return
        known = self._signed({} if record is None else record, run, roster)
        name, limits = self._files.config.name, self._files.config.limits
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
