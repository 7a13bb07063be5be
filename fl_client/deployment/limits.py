"""A site judges what a server asks for: against the contract, field by field, and against its own limits.

Everything refused here is said to the server with its reason. The texts are made of what the server sent and of the
limits, and of nothing else a site holds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from crypto.config import CipherConfig
from fl_client.deployment.config import LimitsConfig
from medveil.config import from_mapping
from medveil.contract import RUN_KEY, RunConfig
from medveil.errors import ConfigError, PolicyError
from medveil.training import TrainConfig
from models.config import ModelConfig
from models.policy import Policy

FRESH = "false"
MEGABYTE = 10**6
_WHERE = "run config"
_LONGEST = 2**20
_NAME = re.compile(r"[A-Za-z0-9_.]{1,100}")
_LARGEST = {
    "model.image_size": 2048,
    "model.patch": 256,
    "model.width": 4096,
    "model.depth": 128,
    "model.heads": 128,
    "train.epochs": 1000,
    "train.batch_size": 65536,
    "image_size": 2048,
    "stem_warmup": 1000,
}
"""Far beyond what is trained, and small enough not to bring a hospital's machine down."""


def checked_run(run_config: Mapping[str, object], limits: LimitsConfig, weights: Path) -> RunConfig:
    """Read what a server wants to run, and refuse what is not in the contract or beyond the site's limits.

    Only the run itself is read: whatever else a server sends, simulated sites above all, is not even looked at.

    Parameters
    ----------
    run_config
        Flower's run config.
    limits
        The site's own.
    weights
        The site's folder of pre-trained weights; a server names a file in it, and no path.

    Raises
    ------
    ConfigError, FormatError, PolicyError
        With a text the server may read.
    """
    text = run_config.get(RUN_KEY)
    if not isinstance(text, str) or not 0 < len(text) <= _LONGEST:
        raise ConfigError(f"'{RUN_KEY}' is missing or too long", where=_WHERE)
    run = RunConfig.from_json(text, where=_WHERE)
    if not run.run:
        raise ConfigError("'run' is empty", where=_WHERE, cure="a run of real sites has an identity")
    model = from_mapping(ModelConfig, run.model, where=f"{_WHERE}, model")
    train = from_mapping(TrainConfig, run.train, where=f"{_WHERE}, train")
    cipher = from_mapping(CipherConfig, run.cipher, where=f"{_WHERE}, cipher")
    train.check(where=f"{_WHERE}, train")
    _check_sizes(run, model, train, cipher)
    _check_limits(run, limits)
    run.model["pretrained"] = _own_weights(model.pretrained, weights)
    return run


def check_images(count: int, limits: LimitsConfig) -> None:
    """Refuse to train on too few images; how many there are is not said (ConfigError)."""
    if count < limits.least_images:
        problem = f"this site has fewer training images than its own limit of {limits.least_images}"
        raise ConfigError(problem, where="limits.least_images")


def check_bytes(count: int, limits: LimitsConfig) -> None:
    """Refuse rounds that move too much (ConfigError).

    Parameters
    ----------
    count
        Bytes of the tensors that come and go in a round.
    """
    if count > limits.most_megabytes * MEGABYTE:
        problem = f"a round moves {count / MEGABYTE:.1f} MB of tensors, and this site's limit is"
        raise ConfigError(f"{problem} {limits.most_megabytes:g} MB", where="limits.most_megabytes")


def check_round(round_: int, run: RunConfig, *, done: int, limits: LimitsConfig) -> None:
    """Refuse a round that is none of the run's, or one too many.

    Parameters
    ----------
    done
        How often this site has done the same for this run before: a server that repeats a round learns anew each time.

    Raises
    ------
    ConfigError
        With a text the server may read.
    """
    if not 0 <= round_ <= run.rounds:
        raise ConfigError(f"round {round_} of {run.rounds}", where="server-round")
    if done >= limits.most_rounds:
        problem = f"this site has answered {done} times for this run, and its limit is {limits.most_rounds}"
        raise ConfigError(problem, where="limits.most_rounds")


def _check_limits(run: RunConfig, limits: LimitsConfig) -> None:
    policy = Policy(run.keys, run.stem_init, run.stem_train)
    if not {policy.keys, str(policy)} & set(limits.policies):
        cure = f"it accepts {'; '.join(limits.policies)}"
        raise PolicyError(f"this site does not accept '{policy}'", where="limits.policies", cure=cure)
    if policy.stem_travels and not limits.send_stem:
        raise PolicyError(f"this site sends no stem, and '{policy}' asks for it", where="limits.send_stem")
    if run.rounds > limits.most_rounds:
        problem = f"this site agrees to at most {limits.most_rounds} rounds, and the run has {run.rounds}"
        raise ConfigError(problem, where="limits.most_rounds")
    if run.least_sites < limits.least_sites:
        problem = f"this site wants {limits.least_sites} sites aggregated, and the run promises {run.least_sites}"
        raise ConfigError(problem, where="limits.least_sites")


def _check_sizes(run: RunConfig, model: ModelConfig, train: TrainConfig, cipher: CipherConfig) -> None:
    if not _NAME.fullmatch(model.name):
        # Other names make timm ask a hub, or a folder.
        raise ConfigError(f"'model.name' is {model.name[:64]!a}", where=_WHERE, cure="the name of a model timm defines")
    if run.channels not in (1, 3):
        raise ConfigError(f"'channels' is {run.channels}", where=_WHERE, cure="1 or 3")
    found = {
        **{f"model.{name}": getattr(model, name) for name in ("image_size", "patch", "width", "depth", "heads")},
        **{f"train.{name}": getattr(train, name) for name in ("epochs", "batch_size")},
        "image_size": run.image_size,
        "stem_warmup": run.stem_warmup,
    }
    for name, value in found.items():
        if value is not None and not (0 if name == "stem_warmup" else 1) <= value <= _LARGEST[name]:
            raise ConfigError(f"'{name}' is {value}", where=_WHERE, cure=f"at most {_LARGEST[name]}")
    if cipher.block < 1:
        raise ConfigError(f"'cipher.block' is {cipher.block}", where=_WHERE, cure="at least 1")
    padded = math.ceil(run.image_size / cipher.block) * cipher.block
    # What contract and model say twice must be one thing, or a site would hide images a model cannot read.
    wanted = {"image_size": padded, "patch": cipher.block, "channels": run.channels, "classes": len(run.classes)}
    for name, value in wanted.items():
        if getattr(model, name) != value:
            problem = f"'model.{name}' is {getattr(model, name)}, and the rest of the run makes it {value}"
            raise ConfigError(problem, where=_WHERE)


def _own_weights(name: str, folder: Path) -> str:
    """The site's own file of that name: nothing is downloaded for a server, and no path of its is opened."""
    if name == FRESH:
        return name
    if Path(name).name != name or name.startswith("."):
        raise ConfigError(f"'model.pretrained' is {name[:64]!a}", where=_WHERE, cure="'false', or the name of a file")
    if not (folder / name).is_file():
        problem = f"this site has no weights of the name {name[:64]!a}"
        raise ConfigError(problem, where="model.pretrained", cure="the same file goes into every site's weights folder")
    return str(folder / name)
