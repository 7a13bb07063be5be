"""The arms of a comparison: one experiment under different policies, and its baselines."""

from __future__ import annotations

import copy
import difflib
from dataclasses import dataclass, replace

from medveil.errors import ConfigError
from simulations.baselines.names import BASELINES, TEXTS
from simulations.config import CompareConfig, ExperimentConfig


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One column of a comparison.

    Parameters
    ----------
    name, text
        How it is called, and what it is.
    keys, init, train
        The policy; see `models.policy`.
    scheme
        Image cipher, or None for the experiment's own.
    federation
        federated, local-only or centralised, or one of the baselines.
    twin
        Name of the arm on plaintext that it equals in theory.
    scope
        What of the model trains (``train.scope``), or None for the experiment's own.
    personal
        What of it each site has for itself (``train.personal``), or None for the experiment's own.
    """

    name: str
    text: str
    keys: str = "none"
    init: str | None = None
    train: str | None = None
    scheme: str | None = None
    federation: str = "federated"
    twin: str | None = None
    scope: str | None = None
    personal: str | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is no ViT, and no federation: what a model has to beat."""
        return self.federation in BASELINES


_ALL = (
    Arm(name="plain", text="plain FedAvg, nothing hidden"),
    Arm(name="fedper", text="plain FedPer: stems stay at home", init="public", train="local"),
    Arm(name="plain-norms", text="plain, norms stay at home (as FedBN)", personal="norms"),
    Arm(name="plain-ditto", text="plain, a model of its own at each site (Ditto)", personal="ditto"),
    Arm(name="none-secret", text="nothing hidden, secret stems at home", init="secret", train="local"),
    Arm(name="shared-public", text="one key, the model lives in its domain", keys="shared", init="public"),
    Arm(
        name="shared-adapted",
        text="one key, adapted stems at home",
        keys="shared",
        init="adapted",
        train="local",
        twin="fedper",
    ),
    Arm(
        name="shared-secret", text="one key, one secret stem at all homes", keys="shared", init="secret", train="local"
    ),
    Arm(
        name="per-site-public",
        text="a key per site, public stems at home",
        keys="per-site",
        init="public",
        train="local",
    ),
    Arm(
        name="per-site-adapted",
        text="a key per site, adapted stems at home",
        keys="per-site",
        init="adapted",
        train="local",
        twin="fedper",
    ),
    Arm(
        name="per-site-secret",
        text="a key per site, secret stems at home",
        keys="per-site",
        init="secret",
        train="local",
    ),
    Arm(
        name="per-site-adapted-norms",
        text="a key per site, adapted stems and norms at home",
        keys="per-site",
        init="adapted",
        train="local",
        personal="norms",
    ),
    Arm(
        name="per-site-adapted-ditto",
        text="a key per site, adapted stems, a model of its own at each site (Ditto)",
        keys="per-site",
        init="adapted",
        train="local",
        personal="ditto",
    ),
    Arm(name="local-only", text="no federation: each site alone, nothing hidden", federation="local-only"),
    Arm(name="centralised", text="all images in one place, nothing hidden", federation="centralised"),
    Arm(
        name="aes-ctr",
        text="control: real encryption, a nonce per image; must be at chance",
        keys="shared",
        init="public",
        scheme="aes-ctr",
    ),
    *(
        Arm(name=name, text=f"baseline: {text}, plain images pooled over sites", federation=name)
        for name, text in TEXTS.items()
    ),
)
ARMS = {arm.name: arm for arm in _ALL}


def find_arm(name: str) -> Arm:
    """The arm of a name.

    Raises
    ------
    ConfigError
        There is none; the nearest name is given.
    """
    if name in ARMS:
        return ARMS[name]
    near = difflib.get_close_matches(name, ARMS, n=1)
    cure = f"did you mean '{near[0]}'?" if near else f"one of {', '.join(ARMS)}"
    raise ConfigError(f"no arm is called '{name}'", where="compare.arms", cure=cure)


def chosen_arms(config: CompareConfig) -> list[Arm]:
    """The arms that a comparison names, each under every scope it names; baselines have none.

    Raises
    ------
    ConfigError
        There is no such arm, nothing to compare, or a scope or seed stands twice.
    """
    arms = [find_arm(name) for name in config.arms]
    if not arms or not config.seeds:
        raise ConfigError("names no arms or no seeds", where="compare", cure="see 'medveil-sim compare --list'")
    if len(set(config.scopes)) < len(config.scopes):
        raise ConfigError("names a scope twice", where="compare.scopes", cure="each once")
    if not config.scopes:
        return arms
    scoped = [_under(arm, scope) for arm in arms if not arm.is_baseline for scope in config.scopes]
    return [*scoped, *(arm for arm in arms if arm.is_baseline)]


def _under(arm: Arm, scope: str) -> Arm:
    twin = None if arm.twin is None else f"{arm.twin}-{scope}"
    return replace(arm, name=f"{arm.name}-{scope}", text=f"{arm.text}; trains {scope}", twin=twin, scope=scope)


def as_experiment(base: ExperimentConfig, arm: Arm, seed: int) -> ExperimentConfig:
    """The experiment of one arm and seed; `base` is not changed."""
    made = copy.deepcopy(base)
    made.name = f"{base.name} {arm.name}"
    made.seed = seed
    made.keys.policy = arm.keys
    made.stem.init, made.stem.train = arm.init, arm.train
    made.federation = arm.federation
    if arm.federation != "federated":
        # There is nobody else to sum with.
        made.secagg.on = False
        made.train.personal = "none"
    if arm.personal is not None:
        made.train.personal = arm.personal
    if arm.scope is not None:
        made.train.scope = arm.scope
    if arm.scheme is not None:
        made.cipher.scheme, made.cipher.negate = arm.scheme, False
    if arm.federation == "centralised":
        # On the parts that the sites have, so that its answers are to the same questions.
        made.data.partition.pooled = base.sites
        # By the clock, one place spends what all sites would together.
        made.train.minutes *= base.sites
    if arm.init != "secret":
        # Only a stem unrelated to the trunk has to be fitted to it.
        made.stem.warmup = 0
    return made
