"""An experiment: many sites, one configuration."""

from __future__ import annotations

import copy
import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crypto.cipher import SCHEMES, Geometry, check_scheme
from crypto.config import CipherConfig, resolve
from fl_client.config import SimulatedSites
from fl_client.data.config import DataConfig, check_data_config
from fl_server.config import ServerConfig
from fl_server.terms import RunOutline, RunTerms
from medveil.config import again, to_mapping
from medveil.contract import RUN_KEY, SERVER_KEY, SITES_KEY, RunConfig
from medveil.counting import CLASSES, STATISTICS
from medveil.errors import ConfigError, StorageError
from medveil.evaluating import EVALUATE
from medveil.log import logger
from medveil.paths import weights_file
from medveil.pretraining import MASKED
from medveil.recipes import overridden
from models.policy import Policy, check_policy, resolve_policy
from models.saved import weights_in
from models.unpickled import refuse_pickled
from simulations.baselines.names import BASELINES

if TYPE_CHECKING:
    from flwr.app import UserConfig

    from fl_client.data.base import Source
    from fl_client.data.documents import Documents
    from medveil.secagg.roster import Roster

_log = logger("experiment")
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

    data: DataConfig = field(default_factory=DataConfig, metadata={"help": "Images."})
    cipher: CipherConfig = again(RunTerms, "cipher", make=CipherConfig)
    server: ServerConfig = again(RunTerms, "server", make=_own_sites)
    absent: AbsentConfig = field(
        default_factory=AbsentConfig,
        metadata={"help": "Drop-outs and stragglers of a simulation, by engine inprocess."},
    )
    compare: CompareConfig = field(default_factory=CompareConfig, metadata={"help": "Arms of a comparison."})


@dataclass(frozen=True)
class Plan:
    """An experiment resolved: what server and sites will be told, and where the run is left.

    Attributes
    ----------
    experiment, run, sites
        The experiment, and what it tells all, and the sites.
    out
        The run folder.
    source
        The images, open.
    basis
        Digests of what the run stands on, by part (`simulations.standing`); none before that was looked at.
    kept_in
        Folders that keep which images look alike.
    roster
        The sites, as `medveil.secagg.roster.Roster.as_data`, where their updates are summed; else empty.
    """

    experiment: ExperimentConfig
    run: RunConfig
    sites: SimulatedSites
    out: Path
    source: Source | None = field(default=None, compare=False, repr=False)
    basis: dict[str, str] = field(default_factory=dict)
    kept_in: tuple[Documents, ...] = field(default=(), compare=False, repr=False)
    roster: dict[str, Any] = field(default_factory=dict)

    def run_config(self, *, resume: bool = False) -> UserConfig:
        """Flower's run config: three JSON strings."""
        server = {
            "out": str(self.out) if self.out.name else "",
            "server": to_mapping(self.experiment.server),
            "sites": self.sites.sites,
            "experiment": to_mapping(self.experiment),
            "resume": resume,
            **({"basis": self.basis} if self.basis else {}),
            **({"roster": self.roster} if self.roster else {}),
        }
        return {
            RUN_KEY: self.run.to_json(),
            SERVER_KEY: json.dumps(server, sort_keys=True),
            SITES_KEY: self.sites.to_json(),
        }


def make_plan(config: ExperimentConfig, out: Path, *, run: str | None = None, shared: Path | None = None) -> Plan:
    """Resolve an experiment: presets, the policy, class names and sizes the data decide.

    Parameters
    ----------
    config
        The experiment; it is not changed.
    out
        The run folder; phantoms without a path are drawn below it.
    run
        UUID of the run; None draws one.
    shared
        A folder that several runs over these images share.

    Raises
    ------
    ConfigError, PolicyError, DataError, StorageError
        The experiment cannot be run.
    """
    config = resolved(config, out)
    policy = resolve_policy(config.keys.policy, config.stem.init, config.stem.train)
    contract = _contract(config, policy, run=run)
    roster = _roster(config)
    contract.roster = "" if roster is None else roster.fingerprint
    contract.check_settings(where=config.name)
    _check_summed(contract, config, roster)
    if contract.counted is not None:
        return _counting(config, contract, out, roster=roster, shared=shared)
    check_data_config(config.data, config.train.augment)
    other = overridden(config.train.recipe, to_mapping(config))
    if other:
        _log.warning("train.recipe %s, but for %s", config.train.recipe, ", ".join(other))
    masked = contract.masked is not None
    _check_privacy(config)
    if masked:
        _check_masked(config, contract)

    from fl_client.data.documents import Documents  # noqa: PLC0415
    from fl_client.data.hidden import check_hidden  # noqa: PLC0415 - what reads images takes a while to import
    from fl_client.data.source import open_source  # noqa: PLC0415
    from fl_client.data.task import check_task  # noqa: PLC0415

    kept_in = tuple(Documents(each) for each in (out, shared) if each is not None and each.is_dir())
    source = open_source(config.data, kept_in=kept_in)
    check_hidden(
        source,
        keys=config.keys.policy,
        block=config.cipher.block,
        level=config.train.augment,
        views=config.predict.views,
    )
    for warning in (*source.warnings, *source.remarks):
        _log.warning("%s: %s", source.path, warning)
    check_task(source, masked=masked)
    config.data.classes = config.data.classes if masked else list(source.classes)
    config.data.split = source.split
    config.data.channels, config.data.image_size = source.channels, source.size
    _fill_model(config, source)
    if policy.warning is not None:
        _log.warning("policy %s: %s", policy, policy.warning)
    _check_cipher(config, source, policy)
    config.stem.init, config.stem.train = policy.init, policy.train
    contract.classes = [] if masked else list(source.classes)
    contract.channels, contract.image_size = source.channels, source.size
    contract.model, contract.cipher = to_mapping(config.model), to_mapping(config.cipher)
    contract.check(where=config.name)
    sites = SimulatedSites(
        sites=config.sites,
        seed=config.seed,
        out=str(out.resolve()),
        device=config.device,
        threads=config.threads,
        data=config.data,
    )
    return Plan(
        experiment=config,
        run=contract,
        sites=sites,
        out=out.resolve(),
        source=source,
        kept_in=kept_in,
        roster={} if roster is None else roster.as_data(),
    )


def _counting(
    config: ExperimentConfig, contract: RunConfig, out: Path, *, roster: Roster | None, shared: Path | None
) -> Plan:
    """Resolve an experiment that counts: of its settings, those of model, training and keys are about nothing."""
    check_data_config(config.data)

    from fl_client.data.documents import Documents  # noqa: PLC0415
    from fl_client.data.source import open_source  # noqa: PLC0415 - what reads images takes a while to import

    kept_in = tuple(Documents(each) for each in (out, shared) if each is not None and each.is_dir())
    source = open_source(config.data, kept_in=kept_in)
    for warning in (*source.warnings, *source.remarks):
        _log.warning("%s: %s", source.path, warning)
    contract.classes = list(source.classes) if CLASSES in config.statistics.histograms else []
    contract.check(where=config.name)
    sites = SimulatedSites(
        sites=config.sites,
        seed=config.seed,
        out=str(out.resolve()),
        device=config.device,
        threads=config.threads,
        data=config.data,
    )
    as_data = {} if roster is None else roster.as_data()
    return Plan(config, contract, sites, out.resolve(), source=source, kept_in=kept_in, roster=as_data)


def refuse_pixels(config: ExperimentConfig, command: str) -> None:
    """Refuse a run that learns no classes where classifiers are compared (ConfigError)."""
    if config.task == MASKED:
        problem = f"is {MASKED}, which has no accuracy to compare"
        raise ConfigError(problem, where=f"{command}, task", cure="compare runs that begin with its weights")
    if config.task == STATISTICS:
        raise ConfigError(f"is {STATISTICS}, which has no model", where=f"{command}, task", cure="'medveil-sim run'")


def _check_privacy(config: ExperimentConfig) -> None:
    """Refuse what could not promise anything, before images are looked at (ConfigError)."""
    if not config.privacy.on:
        return
    if config.federation in BASELINES:
        problem = f"is {config.federation}, which trains without noise, and 'privacy' is set"
        raise ConfigError(problem, where="federation", cure="privacy.unit=none, or a federation that trains")

    from fl_client.privacy.accountant import check_installed  # noqa: PLC0415

    check_installed(where=config.name)


def _check_masked(config: ExperimentConfig, contract: RunConfig) -> None:
    """Refuse, before images are looked at, what masked autoencoding cannot be run with."""
    from models.trains import check_masked  # noqa: PLC0415 - torch loads here

    if config.federation in BASELINES:
        raise ConfigError(f"is {config.federation}, which classifies", where="federation", cure=f"not with {MASKED}")
    if config.federation == "local-only":
        problem = f"is local-only, and of {MASKED} the shared trunk is all that is wanted"
        raise ConfigError(problem, where="federation", cure="federated or centralised")
    rule = SCHEMES[config.cipher.scheme].stem_rule
    check_masked(contract, config.train, config.predict, stem_rule=rule, where=config.name)


def _roster(config: ExperimentConfig) -> Roster | None:
    """The sites whose updates are summed under masks; None where they are not (ConfigError where they are too few)."""
    if not config.secagg.on:
        return None
    from fl_client.secagg.simulated import simulated_roster  # noqa: PLC0415 - cryptography takes a while to import

    sites = SimulatedSites(sites=config.sites, seed=config.seed)
    return simulated_roster(sites, colluding=config.secagg.colluding)


def _check_summed(contract: RunConfig, config: ExperimentConfig, roster: Roster | None) -> None:
    if roster is None:
        return
    from fl_server.secagg.runnable import check_summed  # noqa: PLC0415 - Flower's strategies load here

    check_summed(contract, config.server, roster)


def _contract(config: ExperimentConfig, policy: Policy, *, run: str | None) -> RunConfig:
    """What server and sites agree on, before the data are looked at: these decide classes and sizes."""
    return RunConfig(
        run=str(uuid.uuid4()) if run is None else run,
        name=config.name,
        seed=config.seed,
        rounds=config.rounds,
        **config.agreed(policy),
    )


def resolved(config: ExperimentConfig, out: Path) -> ExperimentConfig:
    """What an experiment means before its images are looked at; errors as `make_plan`."""
    config = copy.deepcopy(config)
    config.cipher = resolve(config.cipher)
    check_scheme(config.cipher.scheme)
    config.train.check()
    config.predict.check()
    config.pretrain.check()
    config.evaluate.check()
    config.server.check()
    _one_of("engine", config.engine, ENGINES)
    _check_absent_and_shown(config)
    _one_of("federation", config.federation, FEDERATIONS)
    if config.cipher.block < 1:
        raise ConfigError(f"'cipher.block' is {config.cipher.block}", where=config.name, cure="at least 1")
    if config.sites < 1:
        raise ConfigError(f"'sites' is {config.sites}", where=config.name, cure="at least 1")
    _refuse_missing_weights(config.model.pretrained.strip())
    if config.keys.policy == "none":
        config.cipher.scheme, config.cipher.negate = "none", False
    if config.cipher.negate and not SCHEMES[config.cipher.scheme].may_negate:
        _log.warning("cipher.negate changes nothing under scheme %s", config.cipher.scheme)
        config.cipher.negate = False
    if config.federation == "centralised":
        config.sites = 1
        if not config.data.partition.pooled:
            config.data.partition.kind, config.data.partition.by = "iid", None
    if config.federation in BASELINES and config.keys.policy != "none":
        problem = f"is {config.keys.policy}, and the baseline {config.federation} reads plain images"
        raise ConfigError(problem, where="keys.policy", cure="none")
    if config.federation in BASELINES and config.data.source == "hidden":
        problem = f"is {config.federation}, a baseline that reads plain images, and these are hidden"
        raise ConfigError(problem, where="federation", cure="give the originals")
    if config.task in {EVALUATE, STATISTICS} and config.federation not in {"federated", "centralised"}:
        problem = f"is {config.federation}, which trains, and task {config.task} trains nothing"
        raise ConfigError(problem, where="federation", cure="federated")
    if config.federation == "local-only":
        config.server.strategy = "local-only"
    if config.federation != "federated" and config.train.personal != "none":
        problem = f"is {config.train.personal}, and federation={config.federation} has no shared model"
        raise ConfigError(problem, where="train.personal", cure="none")
    if config.data.source == "phantoms":
        config.data.path = config.data.path or str(out.resolve() / "phantoms")
    config.data.min_side = max(config.data.min_side, config.cipher.block)
    return config


def _check_absent_and_shown(config: ExperimentConfig) -> None:
    """Refuse drop-outs that cannot be drawn, or that nobody would draw, and pictures without end (ConfigError)."""
    if not 0 <= config.hits_shown <= MOST_SHOWN:
        raise ConfigError(f"'hits_shown' is {config.hits_shown}", where=config.name, cure=f"0 to {MOST_SHOWN}")
    absent = config.absent
    if not (absent.away >= 0 and absent.late >= 0 and absent.away + absent.late < 1):
        problem = f"'absent' is away {absent.away:g} and late {absent.late:g}"
        raise ConfigError(problem, where=config.name, cure="chances of 0 or more, together below 1")
    if absent.any and config.engine != "inprocess":
        problem = f"is {config.engine}, whose sites nobody holds back"
        raise ConfigError(problem, where="absent, engine", cure="engine=inprocess, or absent.away=0 absent.late=0")


def _refuse_missing_weights(named: str) -> None:
    """Say here what the server would say after it loaded torch."""
    if named.lower() in {"true", "false"}:
        return
    path = weights_in(weights_file(named))
    refuse_pickled(path)
    if not path.exists():
        cure = "model.pretrained is false, true, a file or an export's folder"
        raise StorageError("no such weights file", where=path, cure=cure)


def _fill_model(config: ExperimentConfig, source: Source) -> None:
    block = config.cipher.block
    if not SCHEMES[config.cipher.scheme].pads and source.size % block:
        raise ConfigError(
            f"'data.image_size' is {source.size}, not a multiple of 'cipher.block' {block}",
            where=config.name,
            cure=f"scheme {config.cipher.scheme} pads nothing: choose {source.size // block * block or block}",
        )
    classes = None if config.task == MASKED else len(source.classes)
    config.fill_model(size=source.size, channels=source.channels, classes=classes, where=config.name)


def _check_cipher(config: ExperimentConfig, source: Source, policy: Policy) -> None:
    """Refuse here what every site would refuse after decoding its images."""
    kind, size = SCHEMES[config.cipher.scheme], source.size
    check_policy(policy, scheme=kind.scheme, stem_rule=kind.stem_rule)
    kind.check(Geometry(channels=source.channels, height=size, width=size, block=config.cipher.block))


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"'{key}' is '{value}'", cure=f"one of {', '.join(allowed)}")
