"""Flower's strategies by name, each with the number of sites its guarantee needs.

Flower runs a robust rule on too few updates with at most a warning. Here that is an error with the formula: before
round 1 when the sites cannot be enough, in a round when too few usable updates came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from flwr.serverapp.strategy import (
    Bulyan,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedMedian,
    FedProx,
    FedTrimmedAvg,
    FedYogi,
    Krum,
    MultiKrum,
    QFedAvg,
    Strategy,
)

from fl_server.arrays import to_record
from fl_server.config import ServerConfig
from fl_server.local_only import LocalOnly
from fl_server.norms import FEWEST_FOR_A_MEDIAN
from medveil import plugins
from medveil.errors import ConfigError, FederationError
from medveil.wire import Tensors

_ADAPTIVE = (FedAdam, FedYogi, FedAdagrad)
TRAIN_LOSS = "train_loss"
"""What `QFedAvg` reads of a reply."""


@runtime_checkable
class Remembers(Protocol):
    """A strategy of another package that keeps something between rounds; without this a resumed run would lose it."""

    def medveil_state(self) -> Tensors:
        """All of it as float32 arrays, under names of its own."""

    def set_medveil_state(self, state: Tensors) -> None:
        """Take back what `medveil_state` gave."""


@dataclass(frozen=True)
class Rule:
    """One strategy of Flower's, and when it may be trusted.

    Parameters
    ----------
    build
        Makes the strategy from the configuration, the site name of each node id, and Flower's common arguments.
    lacks
        Says, for n updates, which condition is not met; None when all are.
    centred
        The rule compares updates by distance. It is given differences from the model sent, because between whole fp32
        models the small distances that decide drown in rounding; the model sent is added to what it chooses. Its
        guarantee is of updates that all count alike (Blanchard et al. 2017), so no number of images weighs them.
    merges
        Updates become one model. Where each site goes on alone, they need not be alike.
    from_a_sum
        Their weighted mean is all it needs, so that no single one has to be seen.
    by_loss
        It weighs updates by the training loss that each site tells, not by images.
    """

    build: Callable[[ServerConfig, Mapping[int, str], dict[str, Any]], Strategy]
    lacks: Callable[[int, ServerConfig], str | None]
    centred: bool = False
    merges: bool = True
    from_a_sum: bool = False
    by_loss: bool = False


def _at_least(fewest: int, why: str) -> Callable[[int, ServerConfig], str | None]:
    def lacks(n: int, config: ServerConfig) -> str | None:
        return None if n >= fewest else f"needs n >= {fewest} ({why}); here n = {n}"

    return lacks


def _byzantine(times: int) -> Callable[[int, ServerConfig], str | None]:
    def lacks(n: int, config: ServerConfig) -> str | None:
        fewest = times * config.malicious + 3
        formula = f"n >= {times} f + 3 = {fewest} for f = {config.malicious} malicious sites"
        return None if n >= fewest else f"needs {formula}; here n = {n}"

    return lacks


def _trims(n: int, config: ServerConfig) -> str | None:
    cut = int(config.trim * n)
    if cut >= 1 and 2 * cut < n:
        return None
    formula = f"1 <= floor(trim * n) < n / 2; here floor({config.trim:g} * {n}) = {cut}"
    return f"needs {formula}, so that it {'has something left' if cut else 'trims anything'}"


_OWN: dict[str, Rule] = {
    "fedavg": Rule(
        lambda config, sites, common: FedAvg(**common), _at_least(1, "an average of something"), from_a_sum=True
    ),
    "fedprox": Rule(
        lambda config, sites, common: FedProx(**common, proximal_mu=config.proximal_mu),
        _at_least(1, "an average of something"),
        from_a_sum=True,
    ),
    # Hsu, Qi and Brown 2019 (arXiv 1909.06335).
    "fedavgm": Rule(
        lambda config, sites, common: FedAvgM(
            **common, server_learning_rate=config.momentum_lr, server_momentum=config.momentum
        ),
        _at_least(1, "an average of something"),
        from_a_sum=True,
    ),
    # Reddi et al. 2021 (arXiv 2003.00295), as the two after it.
    "fedadam": Rule(
        lambda config, sites, common: FedAdam(
            **common, eta=config.server_lr, beta_1=config.beta_1, beta_2=config.beta_2, tau=config.tau
        ),
        _at_least(1, "an average of something"),
        from_a_sum=True,
    ),
    "fedyogi": Rule(
        lambda config, sites, common: FedYogi(
            **common, eta=config.server_lr, beta_1=config.beta_1, beta_2=config.beta_2, tau=config.tau
        ),
        _at_least(1, "an average of something"),
        from_a_sum=True,
    ),
    "fedadagrad": Rule(
        lambda config, sites, common: FedAdagrad(**common, eta=config.server_lr, tau=config.tau),
        _at_least(1, "an average of something"),
        from_a_sum=True,
    ),
    # Li et al. 2020 (arXiv 1905.10497).
    "qfedavg": Rule(
        lambda config, sites, common: QFedAvg(
            **common, client_learning_rate=config.client_lr, q=config.q, train_loss_key=TRAIN_LOSS
        ),
        _at_least(1, "an average of something"),
        by_loss=True,
    ),
    "fedmedian": Rule(
        lambda config, sites, common: FedMedian(**common),
        _at_least(3, "the median of two is their mean"),
    ),
    "fedtrimmedavg": Rule(lambda config, sites, common: FedTrimmedAvg(**common, beta=config.trim), _trims),
    "krum": Rule(
        lambda config, sites, common: Krum(**common, num_malicious_nodes=config.malicious),
        _byzantine(2),
        centred=True,
    ),
    "multikrum": Rule(
        lambda config, sites, common: MultiKrum(**common, num_malicious_nodes=config.malicious),
        _byzantine(2),
        centred=True,
    ),
    "bulyan": Rule(
        lambda config, sites, common: Bulyan(**common, num_malicious_nodes=config.malicious),
        _byzantine(4),
        centred=True,
    ),
    "local-only": Rule(lambda config, sites, common: LocalOnly(sites), _at_least(1, "a site"), merges=False),
}
RULES: plugins.Registry[Rule] = plugins.Registry(plugins.STRATEGIES, _OWN, Rule)
"""Every rule by its name in ``server.strategy``; in simulations those of other packages too (`medveil.plugins`)."""


def make_strategy(config: ServerConfig, sites: Mapping[int, str]) -> Strategy:
    """Build Flower's strategy of that name.

    Parameters
    ----------
    config
        The server's configuration.
    sites
        Site name of each node id.

    Raises
    ------
    ConfigError
        The sites of a round are too few for the rule's guarantee.
    """
    lacks = too_few(config, sampled(config, len(sites)))
    if lacks:
        of = "" if config.fraction == 1 else f" ({config.fraction:g} of {len(sites)} sites)"
        raise ConfigError(
            f"'{config.strategy}' {lacks}{of}", where="server.strategy", cure="more sites, or another strategy"
        )
    # Flower would wait without limit for a minimum: who takes part is settled before its strategy is asked.
    common = {
        "fraction_train": config.fraction,
        "min_train_nodes": 1,
        "min_evaluate_nodes": 1,
        "min_available_nodes": 1,
    }
    return RULES[config.strategy].build(config, sites, common)


def sampled(config: ServerConfig, sites: int) -> int:
    """How many of `sites` sites a round trains, as Flower counts them."""
    return sites if config.strategy == "local-only" else min(sites, max(int(sites * config.fraction), 1))


def too_few(config: ServerConfig, n: int) -> str | None:
    """Say why n updates are too few for the rule or for `min_updates`; None when they are enough."""
    if n < config.min_updates:
        # A consortium's promise to its sites raises the number above what a run's file says (`deployment.plan`).
        why = "the larger of server.min_updates and the consortium's policy.least_sites"
        return f"needs the updates of at least {config.min_updates} sites a round ({why}); here n = {n}"
    rule = RULES[config.strategy]
    if config.clip_norm and rule.merges and n < FEWEST_FOR_A_MEDIAN:
        return f"with server.clip_norm needs n >= {FEWEST_FOR_A_MEDIAN} (of two, either moves the median); here n = {n}"
    return rule.lacks(n, config)


def fit_to(strategy: Strategy, n: int) -> None:
    """Fit a rule to the n updates of this round.

    MultiKrum averages the n - f - 2 best: the most for which it withstands f malicious sites (Damaskinos et al.,
    "AggregaThor", 2019).
    """
    if isinstance(strategy, MultiKrum) and not isinstance(strategy, Krum):
        strategy.num_nodes_to_select = max(1, n - strategy.num_malicious_nodes - 2)


def state_of(strategy: Strategy) -> Tensors:
    """What a strategy remembers between rounds, as tensors under names of its own."""
    if isinstance(strategy, Remembers):
        return dict(strategy.medveil_state())
    if isinstance(strategy, _ADAPTIVE):
        moments = {"m": strategy.m_t or {}, "v": strategy.v_t or {}}
        return {f"{moment}/{name}": array for moment, arrays in moments.items() for name, array in arrays.items()}
    if isinstance(strategy, FedAvgM):
        names = [] if strategy.current_arrays is None else list(strategy.current_arrays)
        return {f"momentum/{name}": array for name, array in zip(names, strategy.momentum_vector or [], strict=False)}
    if isinstance(strategy, LocalOnly):
        kept = strategy.kept.items()
        return {f"{site}/{name}": array.numpy() for site, record in kept for name, array in record.items()}
    return {}


def set_state(strategy: Strategy, state: Tensors) -> None:
    """Give a strategy back what `state_of` took from it.

    Raises
    ------
    FederationError
        The state is of another strategy.
    """
    if isinstance(strategy, Remembers):
        strategy.set_medveil_state(dict(state))
        return
    grouped: dict[str, dict[str, np.ndarray[Any, np.dtype[np.float32]]]] = {}
    for key, array in state.items():
        owner, _, name = key.partition("/")
        grouped.setdefault(owner, {})[name] = array
    if isinstance(strategy, _ADAPTIVE) and set(grouped) <= {"m", "v"}:
        strategy.m_t, strategy.v_t = grouped.get("m"), grouped.get("v")
    elif isinstance(strategy, FedAvgM) and set(grouped) <= {"momentum"}:
        # In the order of the tensors it is given, which are sorted by name.
        strategy.momentum_vector = [grouped["momentum"][name] for name in sorted(grouped.get("momentum", ()))] or None
    elif isinstance(strategy, LocalOnly):
        strategy.kept = {site: to_record(arrays) for site, arrays in grouped.items()}
    elif state:
        raise FederationError("the checkpoint is of another strategy", where=type(strategy).__name__)
