"""What a coordinator may decide about a run, as a file: what sites must agree on, and how the server works.

It is written as an experiment is (`medveil-sim init`), without what is a site's own: where images are, keys, devices.
Nothing here ever makes a simulated site.
"""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fl_server.config import ServerSettings
from fl_server.deployment.consortium import Consortium, ConsortiumPolicy
from fl_server.deployment.masking import ConsortiumSecAgg, ConsortiumServer, kind_of, roster_of, secagg_of
from fl_server.runnable import check_run
from fl_server.terms import RunOutline, RunTerms
from medveil.config import again
from medveil.contract import RunConfig
from medveil.counting import CLASSES, STATISTICS
from medveil.errors import ConfigError, PolicyError
from medveil.log import logger
from medveil.pretraining import MASKED
from medveil.written import setting
from models.config import ModelConfig
from models.policy import SIGNED_PERMUTATION, Policy, check_policy, resolve_policy
from models.unpickled import refuse_pickled

_FRESH = "false"
_log = logger("server")
_NO_POLICY = Policy("none", "public", "averaged")


@dataclass
class ImagesChoice:
    """What images every site must bring them as."""

    classes: list[str] = field(
        default_factory=list,
        metadata={"help": "Ordered class names, the same at every site: 'medveil-site check' prints a site's. Needed."},
    )
    channels: int = field(default=1, metadata={"help": "1 or 3."})
    image_size: int = field(default=224, metadata={"help": "Side in pixels images are resized to, at every site."})


@dataclass
class ConsortiumModel(ModelConfig):
    """The model of a consortium's run, whose weights every party brings itself."""

    pretrained: str = again(
        ModelConfig,
        "pretrained",
        words="Weights: false (fresh), or the name of a file that server and sites each have in their weights folder.",
    )


@dataclass
class RunFile(RunTerms, RunOutline):
    """One run of a consortium, as `medveil-server run` reads it."""

    kind: str | None = again(  # type: ignore[assignment]
        RunTerms,
        "kind",
        default=None,
        words="What sites send: weights or delta; null follows secagg.on, which takes delta.",
    )
    model: ConsortiumModel = again(RunTerms, "model", make=ConsortiumModel)
    secagg: ConsortiumSecAgg = again(RunTerms, "secagg", make=ConsortiumSecAgg)
    server: ConsortiumServer = again(RunTerms, "server", make=ConsortiumServer)
    data: ImagesChoice = field(default_factory=ImagesChoice, metadata={"help": "Images, as all sites bring them."})


def make_run(file: RunFile, consortium: Consortium, *, admitted: int) -> tuple[RunConfig, ServerSettings]:
    """Resolve a run: the policy, the model's sizes, the number of sites, a fresh identity.

    Parameters
    ----------
    file
        The run; it is not changed.
    consortium
        Whose policy it must keep.
    admitted
        Sites that may connect.

    Raises
    ------
    ConfigError, PolicyError
        The run cannot be had, or is more than the consortium's policy allows.
    """
    file = copy.deepcopy(file)
    if file.task == STATISTICS:
        return _make_counting(file, consortium, admitted=admitted)
    policy = resolve_policy(file.keys.policy, file.stem.init, file.stem.train)
    if policy.keys == "none":
        file.cipher.scheme, file.cipher.negate = "none", False
    check_policy(policy, scheme=file.cipher.scheme, stem_rule=SIGNED_PERMUTATION)
    masked = file.task == MASKED
    if not masked:
        _refuse_no_classes(file)
    _fill_model(file, consortium)
    file.train.check()
    file.predict.check()
    file.pretrain.check()
    file.evaluate.check()
    run, settings = _agreed(
        file,
        consortium,
        policy,
        admitted=admitted,
        classes=[] if masked else list(file.data.classes),
        channels=file.data.channels,
        image_size=file.data.image_size,
        packed=True,
    )
    _check_allowed(run, policy, settings, consortium.config.policy, admitted)
    check_run(run, settings)
    _check_training(file, policy, run, consortium.weights)
    if settings.server.idle:
        _log.warning("without effect under %s: %s", settings.server.strategy, ", ".join(settings.server.idle))
    return run, settings


def _make_counting(file: RunFile, consortium: Consortium, *, admitted: int) -> tuple[RunConfig, ServerSettings]:
    """The same of a run without a model: what it counts, and among whom."""
    counts_classes = CLASSES in file.statistics.histograms
    if counts_classes:
        _refuse_no_classes(file)
    classes = list(file.data.classes) if counts_classes else []
    run, settings = _agreed(file, consortium, _NO_POLICY, admitted=admitted, classes=classes)
    _check_sites(settings, consortium.config.policy, admitted)
    check_run(run, settings)
    return run, settings


def _agreed(
    file: RunFile, consortium: Consortium, policy: Policy, *, admitted: int, **images: Any
) -> tuple[RunConfig, ServerSettings]:
    """A run of a fresh identity, and what it tells its server; what the consortium promises its sites holds."""
    secagg = secagg_of(file.secagg, consortium)
    roster = roster_of(secagg, consortium)
    run = RunConfig(
        run=str(uuid.uuid4()),
        name=file.name,
        seed=file.seed,
        rounds=file.rounds,
        least_sites=consortium.config.policy.least_sites,
        roster="" if roster is None else roster.fingerprint,
        **{**file.agreed(policy), "secagg": secagg, "kind": kind_of(file.kind, secagg)},
        **images,
    )
    asked = file.server.min_updates or (0 if roster is None else roster.fewest)
    file.server.min_updates = max(asked, run.least_sites)
    as_data = {} if roster is None else roster.as_data()
    return run, ServerSettings(server=file.server, sites=file.sites or admitted, roster=as_data)


def _check_training(file: RunFile, policy: Policy, run: RunConfig, weights: Path) -> None:
    """Refuse what the model has nothing for, and weights that are not whole: every site would."""
    from models.autoencoder import build_model, outline  # noqa: PLC0415 - torch and timm load here
    from models.light import lighten  # noqa: PLC0415
    from models.trains import check_masked, check_training  # noqa: PLC0415

    check_masked(run, file.train, file.predict)
    model = lighten(outline(file.model, run.masked), file.train.scope, file.train.rank, seed=file.seed)
    check_training(model, policy, file.train, masked=run.masked)
    if file.model.pretrained != _FRESH:
        build_model(replace(run, model={**run.model, "pretrained": str(weights / file.model.pretrained)}))


def _refuse_no_classes(file: RunFile) -> None:
    """Only the sites see what their images are called: say where the names come from, and how they are written."""
    if len(file.data.classes) > 1:
        return
    count = len(file.data.classes)
    problem = "names no classes" if not count else "names one class"
    example = setting("data.classes", ["glioma", "no_tumor"])
    cure = (
        f"write all of them into the run's file or behind it, for example {example}: "
        "each site's own setting is in the line 'data' of its 'medveil-site check'"
    )
    raise ConfigError(problem, where="'data.classes'", cure=f"2 to 4096 different names; {cure}")


def _fill_model(file: RunFile, consortium: Consortium) -> None:
    block, size = file.cipher.block, file.data.image_size
    if block < 1 or size < block:
        raise ConfigError(f"'data.image_size' is {size} and 'cipher.block' {block}", cure="a block fits into an image")
    if file.data.channels not in (1, 3):
        raise ConfigError(f"'data.channels' is {file.data.channels}", cure="1 or 3")
    classes = None if file.task == MASKED else len(file.data.classes)
    file.fill_model(size=size, channels=file.data.channels, classes=classes, where=file.name)
    if file.model.pretrained.lower() in {_FRESH, "true"}:
        file.model.pretrained = file.model.pretrained.lower()
    _check_weights(file.model.pretrained, consortium.weights)


def _check_weights(name: str, folder: Path) -> None:
    """Weights are files that every party has under the same name: no site takes a path or a download from a server."""
    if name == _FRESH:
        return
    cure = f"'{_FRESH}', or the name of a file in {folder}, which every site has in its own weights folder"
    if Path(name).name != name or name in {"true", ".", ".."}:
        raise ConfigError(f"'model.pretrained' is {name!r}", cure=cure)
    refuse_pickled(Path(name))
    if not (folder / name).is_file():
        raise ConfigError(f"'model.pretrained' is {name!r}, and there is no such file", cure=cure)


def _check_allowed(
    run: RunConfig, policy: Policy, settings: ServerSettings, allowed: ConsortiumPolicy, admitted: int
) -> None:
    where = "consortium policy"
    if allowed.policies and not {policy.keys, str(policy)} & set(allowed.policies):
        raise PolicyError(f"'{policy}' is not allowed", where=where, cure=f"one of: {'; '.join(allowed.policies)}")
    if run.rounds > allowed.most_rounds:
        raise ConfigError(f"'rounds' is {run.rounds}", where=where, cure=f"at most {allowed.most_rounds}")
    _check_sites(settings, allowed, admitted)


def _check_sites(settings: ServerSettings, allowed: ConsortiumPolicy, admitted: int) -> None:
    where = "consortium policy"
    if settings.expected < allowed.least_sites:
        cure = f"policy.least_sites asks for {allowed.least_sites}: admit more sites"
        raise ConfigError(f"the run expects {settings.expected} sites", where=where, cure=cure)
    if settings.expected > admitted:
        cure = "'medveil-server admit' the others first, or lower 'sites'"
        raise ConfigError(
            f"the run expects {settings.expected} sites, {admitted} are admitted", where="sites", cure=cure
        )
