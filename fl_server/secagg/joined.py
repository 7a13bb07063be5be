"""Whether sites can be in a sum, by what they signed when they were asked what they bring."""

from __future__ import annotations

from collections.abc import Sequence

from fl_server.rows import SiteRow
from medveil.errors import FederationError
from medveil.measures import MOST_IMAGES
from medveil.secagg.encoding import KEY_BYTES
from medveil.secagg.members import Join, check_join, share_of
from medveil.secagg.roster import Roster


def check_joined(row: SiteRow, roster: Roster, *, run: str) -> None:
    """Refuse a site that did not sign, with the run's roster and a key of its own, that it takes part.

    Raises
    ------
    FederationError
        With the site's name.
    """
    if row.join is None or len(row.join.key) != KEY_BYTES:
        cure = "it runs this MedVeil, and approved the roster"
        raise FederationError("signed no key that updates could be masked with", where=row.site, cure=cure)
    check_join(row.join, run=run, roster=roster)
    if row.join.examples > MOST_IMAGES:
        raise FederationError("signed for more images than any site has", where=row.site, cure=f"at most {MOST_IMAGES}")


def joins_of(rows: Sequence[SiteRow], *, most_share: float) -> list[Join]:
    """What sites signed, where none would be more of the sum than a share: weights are theirs, and nothing caps them.

    Raises
    ------
    FederationError
        One would be; its name, and its share.
    """
    joins = [row.join for row in rows if row.join is not None]
    for each in joins:
        share = share_of(each.name, joins)
        if share > most_share:
            problem = f"signed for {100 * share:.3g} % of all images, and a sum under masks weighs by what is signed"
            cure = f"more sites or fewer images of it, or server.most_share above {most_share:g}"
            raise FederationError(problem, where=each.name, cure=cure)
    return joins
