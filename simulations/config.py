"""An experiment: many sites, one configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from crypto.config import CipherConfig
from fl_client.data.config import DataConfig
from fl_server.config import ServerConfig
from fl_server.terms import RunOutline, RunTerms
from medveil.config import again
from medveil.counting import STATISTICS
from medveil.errors import ConfigError
from medveil.pretraining import MASKED
from simulations.baselines.names import BASELINES
from simulations.ray_config import RayConfig

ENGINES = ("inprocess", "flower")
ABSENT = ("was away, as simulated", "answered too late, as simulated")
"""Why a site has no part in a round of a simulation, where nothing went wrong: away, late."""
MOST_SHOWN = 8
FEDERATIONS = ("federated", "local-only", "centralised", *BASELINES)


@dataclass
class CompareConfig:
    """What `medveil-sim compare` puts side by side."""

    arms: list[str] = field(
        default_factory=lambda: ["plain", "fedper", "shared-public", "per-site-adapted", "per-site-secret"],
        metadata={"help": "Arms by name; see 'medveil-sim compare --list'."},
    )
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Seeds; arms of one seed are paired."})
    scopes: list[str] = field(
        default_factory=list,
        metadata={"help": "Values of train.scope that each arm is run with, baselines apart; none: the experiment's."},
    )


def _own_sites() -> ServerConfig:
    """A simulation's sites are one person's and declare what they have: averages weigh by images, as in the papers."""
    return ServerConfig(most_share=1.0)


@dataclass
class AbsentConfig:
    """Sites that have no part in a round of training, drawn anew each round."""

    away: float = field(default=0.0, metadata={"help": "Chance that a site is away in a round (a drop-out)."})
    late: float = field(
        default=0.0, metadata={"help": "Chance that a site trains and answers after the round closed (a straggler)."}
    )

    @property
    def any(self) -> bool:
        """Whether some are."""
        return self.away > 0 or self.late > 0


@dataclass
class ExperimentOutline(RunOutline):
    """What an experiment is called, how large it is and what it runs on."""

    name: str = again(RunOutline, "name", default="experiment", words="Name of the experiment, in reports.")
    seed: int = again(RunOutline, "seed", words="Seed of weights, partitions, splits and batches.")
    rounds: int = again(RunOutline, "rounds", default=5)
    sites: int = again(RunOutline, "sites", default=4, words="Hospitals the data are dealt to.")
    engine: str = field(default="inprocess", metadata={"help": "inprocess, or flower: Flower's simulation on Ray."})
    federation: str = field(
        default="federated",
        metadata={
            "help": "federated; its baselines local-only and centralised; or, on plain images pooled over sites, "
            "nearest-neighbour, svm or cnn."
        },
    )
    device: str = field(default="auto", metadata={"help": "cpu, cuda, cuda:N or auto."})
    threads: int = field(default=0, metadata={"help": "Torch threads of a site; 0 leaves torch's default."})
    hits_shown: int = field(
        default=2,
        metadata={
            "help": "Hits, and as many misses, of each class that the report shows with attention on them, 0 to 8."
        },
    )


@dataclass
class ExperimentConfig(RunTerms, ExperimentOutline):
    """One experiment, as `medveil-sim` reads it."""

    _made_by = "api.experiment(...) makes one"

    data: DataConfig = field(default_factory=DataConfig, metadata={"help": "Images."})
    cipher: CipherConfig = again(RunTerms, "cipher", make=CipherConfig)
    server: ServerConfig = again(RunTerms, "server", make=_own_sites)
    absent: AbsentConfig = field(
        default_factory=AbsentConfig,
        metadata={"help": "Drop-outs and stragglers of a simulation, by engine inprocess."},
    )
    ray: RayConfig = field(
        default_factory=RayConfig, metadata={"help": "Where engine flower runs its sites, and what an actor takes."}
    )
    compare: CompareConfig = field(default_factory=CompareConfig, metadata={"help": "Arms of a comparison."})


def refuse_pixels(config: ExperimentConfig, command: str) -> None:
    """Refuse a run that learns no classes where classifiers are compared (ConfigError)."""
    if config.task == MASKED:
        problem = f"is {MASKED}, which has no accuracy to compare"
        raise ConfigError(problem, where=f"{command}, task", cure="compare runs that begin with its weights")
    if config.task == STATISTICS:
        raise ConfigError(f"is {STATISTICS}, which has no model", where=f"{command}, task", cure="'medveil-sim run'")


def check_seeds(config: ExperimentConfig) -> None:
    """Refuse to run under no seed, or twice under one (ConfigError)."""
    seeds = config.compare.seeds
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError("names no seed, or one seed twice", where="compare.seeds", cure="[0, 1, 2], for example")
