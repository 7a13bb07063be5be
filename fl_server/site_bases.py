"""What each site stands on, as far as a server is told: whether it changed, by a digest under a key of the site's own.

A site compares that itself (`fl_client.site_basis`), with what it wrote down when it began. A site whose folder was
lost in the middle of a run has nothing to compare with; whoever asks it still has what it said before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from flwr.app import Message

from medveil.contract import BASIS, SITE
from medveil.errors import FederationError
from medveil.values import shown_value

_DIGEST = re.compile(r"[0-9a-f]{64}")


class SiteBases:
    """What sites said in one run; the first word of each counts.

    Parameters
    ----------
    known
        By site, what it said before this process began.
    keep
        Is given all of it where a site spoke for the first time (`write`).
    """

    def __init__(self, known: Mapping[str, str], keep: Callable[[dict[str, str]], None]) -> None:
        self._known, self._keep, self._new = dict(known), keep, False

    def check(self, site: str, reply: Message) -> None:
        """Refuse a reply of a site that stands on something else than it did; a site of an older MedVeil says nothing.

        Raises
        ------
        FederationError
            What it says is no digest, or another one, or is missing where there was one.
        """
        record = reply.content.config_records.get(SITE)
        said = None if record is None else record.get(BASIS)
        if said is not None and not (isinstance(said, str) and _DIGEST.fullmatch(said)):
            raise FederationError(f"'{BASIS}' is {shown_value(said)}", where=site, cure="wanted 64 hex digits")
        known = self._known.get(site)
        if known is None and said is not None:
            self._known[site], self._new = said, True
        elif said != known:
            problem = "its images, labels, groups, split, settings, weights or key are not those it began this run with"
            cure = "let the site put them back, or start a new run"
            raise FederationError(problem, where=site, cure=cure)

    def write(self) -> None:
        """Keep what sites said first, once for all who answered together: nothing of theirs has counted before.

        Raises
        ------
        StorageError
            It cannot be kept.
        """
        if self._new:
            self._keep(dict(self._known))
            self._new = False
