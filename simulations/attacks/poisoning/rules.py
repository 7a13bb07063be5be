"""What stands between bad hospitals and the model: the server's rules, and a sum under masks, which gives them up."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fl_server.config import ServerConfig
from fl_server.strategies import too_few
from medveil.errors import ConfigError
from simulations.config import ExperimentConfig

ALL = "all"
CONTROL = "fedavg"
"""The rule that protects nothing: what an attack must succeed against before its failure elsewhere means anything."""
_CLIP = 1.0
_FAR = 10.0
"""How long an update of an attacker is beside the median one, where nothing bounds it."""
_WITHIN = 0.9
"""How near to a bound attackers go that know it."""


@dataclass(frozen=True)
class Rule:
    """One way to make a model of updates.

    Attributes
    ----------
    name : str
        As typed.
    text : str
        What it does.
    server : callable
        Its settings of the server, for so many bad sites of so many.
    reach : float or None
        The longest update that it lets through, beside the median one, as far as attackers go; None where it looks for
        what is odd.
    masked : bool
        Whether updates are summed under masks.
    keeps_clip : bool
        Whether bad sites keep the clip of such a sum.
    """

    name: str
    text: str
    server: Callable[[int, int], dict[str, Any]]
    reach: float | None = None
    masked: bool = False
    keeps_clip: bool = True

    def applied(self, config: ExperimentConfig, bad: int) -> ExperimentConfig:
        """An experiment under this rule; it is not changed itself."""
        made = copy.deepcopy(config)
        # What else holds an update back would be measured with the rule.
        values = {"max_norm": 0.0, "max_change": 0.0, "clip_norm": 0.0, **self.server(bad, config.sites)}
        for name, value in values.items():
            setattr(made.server, name, value)
        made.secagg.on = self.masked
        if self.masked:
            made.kind, made.server.min_updates = "delta", config.sites
        return made

    def lacks(self, config: ExperimentConfig, bad: int) -> str | None:
        """Say why the rule's guarantee does not reach to so many bad sites; None where it does, or it has none."""
        server = self.applied(config, bad).server
        if not 0 < server.trim < 0.5:
            return f"cannot trim {bad} of {config.sites} updates at either end"
        return too_few(server, config.sites)


def _strategy(name: str) -> Callable[[int, int], dict[str, Any]]:
    return lambda bad, sites: {"strategy": name, "malicious": bad}


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule(CONTROL, "the weighted mean, of whatever comes", _strategy("fedavg"), reach=_FAR),
        Rule(
            "checked",
            "the mean as MedVeil makes it: updates far longer than most, or than the model, are left out",
            lambda bad, sites: {"strategy": "fedavg", **_as_shipped("max_norm", "max_change")},
            reach=_WITHIN * ServerConfig().max_norm,
        ),
        Rule(
            "norm-clip",
            "the mean, of updates scaled down to the median length",
            lambda bad, sites: {"strategy": "fedavg", "clip_norm": _CLIP},
            reach=_FAR,
        ),
        Rule("median", "the median of each number", _strategy("fedmedian")),
        Rule(
            "trimmed-mean",
            "the mean of each number without as many at either end as are bad",
            lambda bad, sites: {"strategy": "fedtrimmedavg", "trim": (bad + 0.5) / sites},
        ),
        Rule("krum", "the one update nearest to most others", _strategy("krum")),
        Rule("multikrum", "the mean of those nearest to most others", _strategy("multikrum")),
        Rule("bulyan", "a trimmed mean of those nearest to most others", _strategy("bulyan")),
        Rule(
            "secagg",
            "the mean of a sum under masks, whose sites clip their own updates",
            lambda bad, sites: {"strategy": "fedavg", **_as_shipped("max_change")},
            reach=_FAR,
            masked=True,
        ),
        Rule(
            "secagg-unclipped",
            "the same, where bad hospitals took the clip out of their software",
            lambda bad, sites: {"strategy": "fedavg", **_as_shipped("max_change")},
            reach=_FAR,
            masked=True,
            keeps_clip=False,
        ),
    )
}
"""In the order they are listed and measured."""


def chosen(names: str) -> list[Rule]:
    """The rules of a list of names, separated by commas, the control first; ``all`` stands for each."""
    made = {CONTROL: RULES[CONTROL]}
    for name in (each.strip() for each in names.split(",")):
        if name != ALL and name not in RULES:
            near = difflib.get_close_matches(name, [*RULES, ALL], n=2, cutoff=0.5)
            guess = f"did you mean {' or '.join(near)}? " if near else ""
            raise ConfigError(f"'{name}' is no rule", where="--rules", cure=f"{guess}known: {', '.join([*RULES, ALL])}")
        made |= RULES if name == ALL else {name: RULES[name]}
    return list(made.values())


def _as_shipped(*names: str) -> dict[str, Any]:
    shipped = ServerConfig()
    return {name: getattr(shipped, name) for name in names}
