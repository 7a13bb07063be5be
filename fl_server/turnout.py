"""Which sites are here for a round: enough of them for the strategy, or an error that names those that are away."""

from __future__ import annotations

from collections.abc import Sequence

from fl_server.collect import Collector
from fl_server.config import ServerConfig
from fl_server.rows import SiteRow
from fl_server.strategies import sampled, too_few
from medveil.errors import FederationError


def turnout(
    collector: Collector, server: ServerConfig, sites: Sequence[SiteRow], *, round_: int, going_on: str
) -> list[int]:
    """The nodes of the sites that are free for a round, once there are enough of them.

    Parameters
    ----------
    collector
        Knows who is there.
    server
        How many the strategy needs, and how long to wait for them.
    sites
        All that take part.
    round_
        The round.
    going_on
        How a run goes on that stops here.

    Raises
    ------
    FederationError
        There are too few within ``wait_for_sites`` seconds; who is away.
    """

    def enough(n: int) -> bool:
        return n > 0 and too_few(server, sampled(server, n)) is None

    nodes = collector.wait_until(enough, seconds=server.wait_for_sites)
    if enough(len(nodes)):
        return nodes
    here = {collector.name(node) for node in nodes}
    away = ", ".join(row.site for row in sites if row.site not in here)
    lacks = too_few(server, sampled(server, len(nodes)) if nodes else 0)
    raise FederationError(
        f"'{server.strategy}' {lacks}; away or still busy after {server.wait_for_sites:g} s: {away}",
        where=f"round {round_}",
        cure=f"start them again, then {going_on}",
    )
