"""Whether a run's updates could be summed under masks, asked before anything is started."""

from __future__ import annotations

from fl_server.config import ServerConfig
from fl_server.strategies import RULES
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from medveil.secagg.roster import Roster

_FROM_A_SUM = ", ".join(name for name, rule in RULES.items() if rule.from_a_sum)


def check_summed(run: RunConfig, server: ServerConfig, roster: Roster | None) -> None:
    """Refuse a run with secure aggregation whose sums could not be opened, or would show a single update.

    Parameters
    ----------
    run
        What the sites must agree with.
    server
        The server's configuration.
    roster
        The sites that may take part.

    Raises
    ------
    ConfigError
        With the setting that stands in its way, and what would be right.
    """
    if not run.secagg.on:
        return
    if roster is None:
        cure = "'medveil-server roster --out FILE' writes one, and every site approves it"
        raise ConfigError("there is no roster, and a sum is over sites that approved one", where="secagg.on", cure=cure)
    if run.roster != roster.fingerprint:
        cure = "begin a new run with the roster that every site approved"
        raise ConfigError("the run names another roster than the server has", where="roster", cure=cure)
    if run.secagg.colluding != roster.colluding:
        problem = f"is {run.secagg.colluding}, and the roster says {roster.colluding}"
        cure = f"{roster.colluding}, or a roster of another number, which every site approves"
        raise ConfigError(problem, where="secagg.colluding", cure=cure)
    if not RULES[server.strategy].from_a_sum:
        problem = f"is {server.strategy}, which needs every single update, and secagg.on shows the server none"
        raise ConfigError(problem, where="server.strategy", cure=f"one of {_FROM_A_SUM}, or secagg.on=false")
    if server.clip_norm:
        problem = f"is {server.clip_norm:g}: it compares single updates, and secagg.on shows the server none"
        raise ConfigError(problem, where="server.clip_norm", cure="0, and secagg.clip, which sites keep to themselves")
    if server.fraction < 1:
        problem = f"is {server.fraction:g}: sums over different sites that a server chooses differ by single updates"
        raise ConfigError(problem, where="server.fraction", cure="1 with secagg.on")
    if server.min_updates < roster.fewest:
        problem = f"is {server.min_updates}, and no sum of this roster opens with fewer than {roster.fewest} sites"
        raise ConfigError(problem, where="server.min_updates", cure=f"at least {roster.fewest}")
    if server.monitor == "auroc" and (server.patience or server.keep == "best"):
        problem = "is auroc, which has no sum, and with secagg.on measures are summed"
        raise ConfigError(problem, where="server.monitor", cure="loss or accuracy")
