"""What an experiment means before its images are looked at: presets resolved, and refused what no images could mend."""

from __future__ import annotations

import copy
from pathlib import Path

from crypto.cipher import SCHEMES, check_scheme
from crypto.config import resolve
from medveil.counting import STATISTICS
from medveil.errors import ConfigError, StorageError
from medveil.evaluating import EVALUATE
from medveil.log import logger
from medveil.paths import weights_file
from models.saved import weights_in
from models.unpickled import refuse_pickled
from simulations.baselines.names import BASELINES
from simulations.config import ENGINES, FEDERATIONS, MOST_SHOWN, ExperimentConfig

_log = logger("experiment")


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
    _check_ray(config)
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


def _check_ray(config: ExperimentConfig) -> None:
    """Refuse what Ray could not be asked, and a device that it would not show to an actor (ConfigError)."""
    config.ray.check()
    if config.engine == "flower" and config.device.startswith("cuda") and not config.ray.gpus:
        problem = f"is {config.device}, and an actor that takes no GPU sees none"
        raise ConfigError(problem, where="device", cure="ray.gpus=1, or a fraction that lets actors share one")


def _refuse_missing_weights(named: str) -> None:
    """Say here what the server would say after it loaded torch."""
    if named.lower() in {"true", "false"}:
        return
    path = weights_in(weights_file(named))
    refuse_pickled(path)
    if not path.exists():
        cure = "model.pretrained is false, true, a file or an export's folder"
        raise StorageError("no such weights file", where=path, cure=cure)


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"'{key}' is '{value}'", cure=f"one of {', '.join(allowed)}")
