"""An experiment resolved with its images: what server and sites will be told, and where the run is left."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crypto.cipher import SCHEMES, Geometry
from fl_client.config import SimulatedSites
from fl_client.data.config import check_data_config
from medveil.config import to_mapping
from medveil.contract import RUN_KEY, SERVER_KEY, SITES_KEY, RunConfig
from medveil.counting import CLASSES
from medveil.errors import ConfigError
from medveil.log import logger
from medveil.pretraining import MASKED
from medveil.recipes import overridden
from models.policy import Policy, check_policy, resolve_policy
from simulations.baselines.names import BASELINES
from simulations.config import ExperimentConfig
from simulations.resolved import resolved

if TYPE_CHECKING:
    from flwr.app import UserConfig

    from fl_client.data.base import Source
    from fl_client.data.documents import Documents
    from medveil.secagg.roster import Roster

_log = logger("experiment")


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
    _check_server(contract, config, roster)
    if contract.counted is not None:
        return _counting(config, contract, out, roster=roster, shared=shared)
    check_data_config(config.data, config.train.augment)
    other = overridden(config.train.recipe, to_mapping(config))
    if other:
        _log.warning("train.recipe %s, but for %s", config.train.recipe, ", ".join(other))
    if config.server.idle:
        _log.warning("without effect under %s: %s", config.server.strategy, ", ".join(config.server.idle))
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
    return Plan(
        experiment=config,
        run=contract,
        sites=_sites(config, out),
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
    as_data = {} if roster is None else roster.as_data()
    return Plan(config, contract, _sites(config, out), out.resolve(), source=source, kept_in=kept_in, roster=as_data)


def _sites(config: ExperimentConfig, out: Path) -> SimulatedSites:
    """What the hospitals of an experiment are told of themselves."""
    return SimulatedSites(
        sites=config.sites,
        seed=config.seed,
        out=str(out.resolve()),
        device=config.device,
        threads=config.threads,
        data=config.data,
    )


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


def _check_server(contract: RunConfig, config: ExperimentConfig, roster: Roster | None) -> None:
    if roster is None and contract.private is None:
        return
    # Flower's strategies load here.
    from fl_server.runnable import check_unmeasured  # noqa: PLC0415
    from fl_server.secagg.runnable import check_summed  # noqa: PLC0415

    check_unmeasured(contract, config.server)
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
