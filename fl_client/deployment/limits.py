"""A site judges what a server asks for: against the contract, field by field, and against its own limits.

Everything refused here is said to the server with its reason. The texts are made of the names of fields, of the limits,
and of sizes that were computed from what the server sent: no value of a setting stands in one, and nothing else a site
holds. Sizes are computed, and compared, before anything is built (`models.sizes`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from crypto.cipher import check_scheme
from crypto.config import CipherConfig, config_of_run, resolve
from fl_client.deployment.limits_config import LAST_BLOCKS, TARGETS, LimitsConfig
from fl_client.deployment.own_weights import own_weights
from fl_client.deployment.promises import check_promise
from fl_client.privacy.training import HELD
from medveil.config import from_mapping, to_mapping
from medveil.contract import RUN_KEY, RunConfig
from medveil.counting import HISTOGRAMS
from medveil.errors import ConfigError, FormatError, PolicyError
from medveil.predicting import PredictConfig
from medveil.secagg.fixed import packed_bytes
from medveil.training import MOST_RANK, SCOPES, TrainConfig
from models.autoencoder import outline
from models.config import ModelConfig
from models.light import lighten
from models.policy import POLICIES, Policy
from models.sizes import Shape, least_shape, shape_of, training_bytes
from models.trains import check_masked, check_training
from models.travel import travelling

MEGABYTE = 10**6
_WHERE = "run config"
_LONGEST = 2**20
_NAME = re.compile(r"[A-Za-z0-9_.]{1,100}")
_NO_KEY = "none"
_BYTES = {"fp32": 4, "bf16": 2}
_ITEMSIZE = {"fp64": 8}
_MODEL_FIELDS = tuple(f"model.{each.name}" for each in fields(ModelConfig))
_LARGEST = {
    "model.image_size": 2048,
    "model.patch": 256,
    "model.width": 4096,
    "model.depth": 128,
    "model.heads": 128,
    "train.epochs": 1000,
    "train.batch_size": 65536,
    "train.rank": MOST_RANK,
    "image_size": 2048,
    "stem_warmup": 1000,
    "cipher.block": 256,
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
        The site's folder of pre-trained weights; a server names a file in it, and no path, and the limits say which.

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
    if run.counted is not None:
        _check_counted(run, limits)
        run.statistics = to_mapping(run.counted)
        return run
    asked = _Asked(
        run=run,
        model=from_mapping(ModelConfig, run.model, where=f"{_WHERE}, model"),
        train=from_mapping(TrainConfig, run.train, where=f"{_WHERE}, train"),
        cipher=_cipher(run),
    )
    asked.train.check(where=f"{_WHERE}, train")
    predict = from_mapping(PredictConfig, run.predict, where=f"{_WHERE}, predict")
    predict.check(where=f"{_WHERE}, predict")
    # Whether a stem can follow the scheme, the site says when it has the cipher.
    check_masked(run, asked.train, predict, where=f"{_WHERE}, train")
    _check_sizes(asked)
    _check_limits(run, limits)
    check_promise(run, limits)
    _check_minutes(asked, limits)
    _check_scheme(run, asked.cipher, limits)
    _check_memory(asked, least_shape(asked.model), limits)
    _check_model(asked, limits)
    # From here on a section says what was judged: in full, and each value of its own type.
    run.model, run.train = to_mapping(asked.model), to_mapping(asked.train)
    run.cipher, run.predict = to_mapping(config_of_run(run.cipher)), to_mapping(predict)
    run.privacy = {} if run.private is None else to_mapping(run.private)
    run.pretrain = {} if run.masked is None else to_mapping(run.masked)
    run.evaluate = {} if run.evaluated is None else to_mapping(run.evaluated)
    run.model["pretrained"] = own_weights(asked.model.pretrained, weights, limits)
    return run


def check_images(count: int, limits: LimitsConfig, *, trains: bool = True) -> None:
    """Refuse to train on, or measure, too few images; how many there are is not said (ConfigError)."""
    if count < limits.least_images:
        what = "training images" if trains else "images to measure"
        problem = f"this site has fewer {what} than its own limit of {limits.least_images}"
        raise ConfigError(problem, where="limits.least_images")


def check_store(images: int, run: RunConfig, views: int, limits: LimitsConfig) -> None:
    """Refuse a store that would be too large; how many images there are is not said (ConfigError).

    Parameters
    ----------
    images
        Images of this site.
    views
        Encrypted views of each, for training.
    """
    padded = _padded(run.image_size, _cipher(run).block)
    # A scheme may make 16 bits of 8.
    size = images * max(1, views) * run.channels * padded**2 * 2
    if size > limits.most_store * MEGABYTE:
        problem = "images of 'image_size' would fill more of the disk than this site's limit of"
        raise ConfigError(f"{problem} {limits.most_store:g} MB", where="limits.most_store")


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
        raise ConfigError("is none of the run's rounds", where="server-round")
    if done >= limits.most_rounds:
        problem = f"this site has answered {limits.most_rounds} times for this run, which is its limit"
        raise ConfigError(problem, where="limits.most_rounds")


@dataclass(frozen=True)
class _Asked:
    """A run and its sections, each of its own type."""

    run: RunConfig
    model: ModelConfig
    train: TrainConfig
    cipher: CipherConfig


def _cipher(run: RunConfig) -> CipherConfig:
    given = from_mapping(CipherConfig, run.cipher, where=f"{_WHERE}, cipher")
    try:
        check_scheme(given.scheme)
        return resolve(given)
    except ConfigError:
        raise ConfigError("'cipher.scheme' is no cipher", where=_WHERE, cure="a scheme of medveil-crypto's") from None


def _check_counted(run: RunConfig, limits: LimitsConfig) -> None:
    """Refuse to count: a run without a model meets no limit of a model's."""
    _check_task(run, limits)
    _check_least_sites(run, limits)
    check_promise(run, limits)
    if not run.secagg.on and (limits.secagg or not limits.own_statistics):
        problem = "this site's histograms leave as sums under masks alone, and the run has none"
        where = "limits.secagg" if limits.secagg else "limits.own_statistics"
        raise PolicyError(problem, where=where, cure="secagg.on=true")
    refused = [each for each in run.statistics.get("histograms", HISTOGRAMS) if each not in limits.histograms]
    if refused:
        listed = ", ".join(limits.histograms) or "none"
        problem = f"this site does not count {', '.join(refused)}"
        raise PolicyError(problem, where="limits.histograms", cure=f"it counts {listed}")


def _check_task(run: RunConfig, limits: LimitsConfig) -> None:
    if run.task not in limits.tasks:
        problem, cure = f"this site takes no part in '{run.task}'", f"it accepts {', '.join(limits.tasks)}"
        raise ConfigError(problem, where="limits.tasks", cure=cure)


def _check_least_sites(run: RunConfig, limits: LimitsConfig) -> None:
    if run.least_sites < limits.least_sites:
        problem = f"this site wants {limits.least_sites} sites aggregated, and the run promises fewer"
        raise ConfigError(problem, where="limits.least_sites")


def _check_limits(run: RunConfig, limits: LimitsConfig) -> None:
    _check_task(run, limits)
    _check_scope(run, limits)
    policy = Policy(run.keys, run.stem_init, run.stem_train)
    cure = f"it accepts {'; '.join(limits.policies)}"
    if policy not in POLICIES:
        raise PolicyError("'keys', 'stem_init' and 'stem_train' are no policy", where="limits.policies", cure=cure)
    if not {policy.keys, str(policy)} & set(limits.policies):
        raise PolicyError(f"this site does not accept '{policy}'", where="limits.policies", cure=cure)
    if policy.stem_travels and not limits.send_stem:
        raise PolicyError(f"this site sends no stem, and '{policy}' asks for it", where="limits.send_stem")
    if run.rounds > limits.most_rounds:
        problem = f"this site agrees to at most {limits.most_rounds} rounds, and the run has more"
        raise ConfigError(problem, where="limits.most_rounds")
    _check_least_sites(run, limits)
    if limits.secagg and not run.secagg.on:
        problem, cure = "this site's updates leave under masks alone, and the run has none", "secagg.on=true"
        raise PolicyError(problem, where="limits.secagg", cure=cure)


def _check_scope(run: RunConfig, limits: LimitsConfig) -> None:
    """Refuse to train what this site does not train; where nothing trains there is no scope."""
    scope = str(run.train.get("scope", "full"))
    known = scope if scope in SCOPES else LAST_BLOCKS
    if run.trains and known not in limits.scopes:
        problem, cure = "this site does not train what 'train.scope' says", f"it accepts {', '.join(limits.scopes)}"
        raise PolicyError(problem, where="limits.scopes", cure=cure)


def _check_minutes(asked: _Asked, limits: LimitsConfig) -> None:
    """By the clock a run spends what it says in all its rounds together; repeated rounds come on top."""
    if asked.train.minutes > limits.most_minutes:
        problem = f"this site trains at most {limits.most_minutes:g} minutes by the clock, and the run asks for more"
        raise ConfigError(problem, where="limits.most_minutes")


def _check_scheme(run: RunConfig, cipher: CipherConfig, limits: LimitsConfig) -> None:
    """Refuse a cipher this site does not hide its images with; which keys 'none' is one, its policies say."""
    if cipher.scheme in TARGETS:
        problem = f"'{cipher.scheme}' is made to be broken, and hides no image of a real site"
        raise ConfigError(problem, where="limits.schemes", cure=f"this site accepts {', '.join(limits.schemes)}")
    if (run.keys, cipher.scheme) != (_NO_KEY, _NO_KEY) and cipher.scheme not in limits.schemes:
        problem = f"this site does not hide its images with '{cipher.scheme}'"
        raise ConfigError(problem, where="limits.schemes", cure=f"it accepts {', '.join(limits.schemes)}")


def _check_sizes(asked: _Asked) -> None:
    run, model, train = asked.run, asked.model, asked.train
    if not _NAME.fullmatch(model.name):
        # Other names make timm ask a hub, or a folder.
        raise ConfigError("'model.name' is no name", where=_WHERE, cure="the name of a model timm defines")
    if run.channels not in (1, 3):
        raise ConfigError("'channels' is not supported", where=_WHERE, cure="1 or 3")
    found = {
        **{f"model.{name}": getattr(model, name) for name in ("image_size", "patch", "width", "depth", "heads")},
        **{f"train.{name}": getattr(train, name) for name in ("epochs", "batch_size", "rank")},
        "image_size": run.image_size,
        "stem_warmup": run.stem_warmup,
        "cipher.block": asked.cipher.block,
    }
    for name, value in found.items():
        least = 0 if name == "stem_warmup" else 1
        if value is not None and not least <= value <= _LARGEST[name]:
            problem = f"'{name}' is out of its range"
            raise ConfigError(problem, where=_WHERE, cure=f"at least {least}, at most {_LARGEST[name]}")
    for name in ("mean", "std"):
        if len(getattr(model, name) or ()) > run.channels:
            raise ConfigError(f"'model.{name}' has too many numbers", where=_WHERE, cure="one for each channel")
    # What contract and model say twice must be one thing, or a site would hide images a model cannot read.
    wanted = {
        "image_size": _padded(run.image_size, asked.cipher.block),
        "patch": asked.cipher.block,
        "channels": run.channels,
        "classes": None if run.masked is not None else len(run.classes),
    }
    for name, value in wanted.items():
        if getattr(model, name) != value:
            raise ConfigError(f"'model.{name}' is not what the rest of the run makes it", where=_WHERE)


def _check_memory(asked: _Asked, shape: Shape, limits: LimitsConfig) -> None:
    image = asked.run.channels * _padded(asked.run.image_size, asked.cipher.block) ** 2
    itemsize = _ITEMSIZE.get(asked.train.precision, 4)
    more = (asked.train.ema > 0) + 4 * (asked.train.state == "kept")
    needed = training_bytes(shape, batch=asked.train.batch_size, image=image, itemsize=itemsize, more=more)
    if asked.run.private is not None:
        # Gradients of single images, once in double precision, as their sum and its noise are.
        needed += (itemsize + 8) * max(HELD, shape.parameters) + 16 * shape.parameters
    if needed > limits.most_memory * MEGABYTE:
        problem = f"model and training would take {needed / MEGABYTE:.0f} MB of memory, and this site's limit is"
        raise ConfigError(f"{problem} {limits.most_memory:g} MB", where="limits.most_memory")


def _check_model(asked: _Asked, limits: LimitsConfig) -> None:
    """Judge the model as it would be: it has every layer here, and no storage."""
    policy = Policy(asked.run.keys, asked.run.stem_init, asked.run.stem_train)
    train, where = asked.train, f"{_WHERE}, train"
    try:
        model = outline(asked.model, asked.run.masked)
    except (ConfigError, FormatError) as error:
        raise _unbuilt(error) from None
    lighten(model, train.scope, train.rank, seed=asked.run.seed, where=where)
    try:
        names = travelling(model, policy, train.scope, personal=train.personal)
    except (ConfigError, FormatError) as error:
        raise _unbuilt(error) from None
    check_training(model, policy, train, masked=asked.run.masked, where=where)
    _check_memory(asked, shape_of(model), limits)
    tensors = model.state_dict()
    count = sum(tensors[name].numel() for name in names)
    summed = asked.run.secagg
    up = packed_bytes(summed.bits, count) if summed.on else count * _BYTES[asked.run.wire]
    check_bytes(count * _BYTES[asked.run.wire] + up, limits)


def _unbuilt(error: ConfigError | FormatError) -> ConfigError:
    """The same without its words, which hold what the server sent, and timm's own."""
    field = error.where if error.where in _MODEL_FIELDS else "model, train.scope"
    return ConfigError("describes no model that can be built", where=f"{_WHERE}, {field}")


def _padded(size: int, block: int) -> int:
    return math.ceil(size / block) * block
