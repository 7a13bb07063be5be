"""Whether a run's updates are summed under masks, as its file and its consortium say, and over which sites."""

from __future__ import annotations

from dataclasses import dataclass

from fl_server.config import ServerConfig
from fl_server.deployment.consortium import Consortium
from fl_server.deployment.roster import Roster as Admitted
from medveil.config import again, to_mapping
from medveil.errors import ConfigError, PolicyError
from medveil.secagg.config import SecAggConfig
from medveil.secagg.roster import FEWEST, Roster, load_roster

_SUMMED, _READ = "delta", "weights"
_ROSTER = "'medveil-server roster --out FILE' writes one, and every site approves it"


@dataclass
class ConsortiumSecAgg(SecAggConfig):
    """Secure aggregation, which a run's file may leave to the consortium's."""

    on: bool | None = again(  # type: ignore[assignment]
        SecAggConfig,
        "on",
        default=None,
        words="Sum updates under masks, so that the server reads no single one; needs a roster that all sites "
        "approved, and fedavg, fedprox or fedadam. null: as policy.secagg in the consortium's file.",
    )


@dataclass
class ConsortiumServer(ServerConfig):
    """Aggregation, with as many sites as a consortium and its roster ask for."""

    min_updates: int = again(
        ServerConfig,
        "min_updates",
        default=0,
        words="Fewest usable updates to make a round's model from; 0: as many as least_sites and the roster ask.",
    )


def secagg_of(asked: ConsortiumSecAgg, consortium: Consortium) -> SecAggConfig:
    """What a run says of secure aggregation, with what its file left to the consortium.

    Raises
    ------
    PolicyError
        The run is without, and its consortium's policy has no such runs.
    """
    wanted = consortium.config.policy.secagg
    on = wanted if asked.on is None else asked.on
    if wanted and not on:
        problem = "is false, and this consortium sums updates under masks"
        raise PolicyError(problem, where="secagg.on", cure=f"leave it null, or {_without(consortium)}")
    return SecAggConfig(**{**to_mapping(asked), "on": on})


def kind_of(asked: str | None, secagg: SecAggConfig) -> str:
    """What sites send, where a run's file leaves it open."""
    if asked is not None:
        return asked
    return _SUMMED if secagg.on else _READ


def roster_of(secagg: SecAggConfig, consortium: Consortium) -> Roster | None:
    """The sites whose updates are summed under masks, as every site approved them; None where they are not.

    Raises
    ------
    ConfigError
        Too few sites are admitted, there is no roster, or other sites were admitted than are on it.
    """
    if not secagg.on:
        return None
    admitted = {member.name: member.identity for member in Admitted(consortium.roster).admitted()}
    if len(admitted) < FEWEST:
        problem = f"a sum hides a site among {FEWEST} or more, and {len(admitted)} {_are(len(admitted))} admitted"
        raise ConfigError(problem, where="secagg.on", cure=f"admit more, or {_without(consortium)}")
    if not consortium.shared_roster.exists():
        raise ConfigError(
            "there is no roster, and a sum is over sites that approved one", where="secagg.on", cure=_ROSTER
        )
    found = load_roster(consortium.shared_roster)
    other = sorted({name for name, identity in {*found.members.items()} ^ {*admitted.items()}})
    if other:
        problem = f"the roster and the sites that are admitted differ in {', '.join(other)}"
        raise ConfigError(problem, where="secagg.on", cure=_ROSTER)
    return found


def _without(consortium: Consortium) -> str:
    where = f"write 'secagg: false' under 'policy' in {consortium.file}"
    return f"{where}: then the server reads each site's update"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
