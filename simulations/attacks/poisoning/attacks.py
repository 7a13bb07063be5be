"""Every way a bad hospital poisons a run, by its name: what it trains on, and what it sends.

An attack declares what it needs: its own images alone, or updates of honest training to begin from. Of those it is
given all where the server sees single updates, which bounds what a hospital could guess of them, and its fellows' own
where they are summed under masks. One that needs a spread has none from a single fellow, and is not applicable then.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from medveil.errors import ConfigError
from simulations.attacks.poisoning import craft

Floats = npt.NDArray[np.float64]
ALL = "all"


class Goal(StrEnum):
    """What an attack is after, and so what it is judged by."""

    ACCURACY = "accuracy lost"
    TRIGGER = "images with the trigger that get the class the attacker wants"


class Trains(StrEnum):
    """What a bad hospital trains on."""

    HONESTLY = "its images"
    FLIPPED = "its images, under the wrong labels"
    TRIGGERED = "its images, half of them with a trigger set before they are hidden, under the attacker's class"


@dataclass(frozen=True)
class Known:
    """What the sender of a poisoned update has.

    Attributes
    ----------
    own : float64 (d,)
        What its own training changed.
    honest : float64 (m, d)
        Updates of honest training that it may begin from.
    bad, sites : int
        Hospitals that poison together, and all.
    reach : float or None
        The longest update that the rule lets through, beside the median one; None where it looks for what is odd, and
        an update has to be like the others.
    """

    own: Floats
    honest: Floats
    bad: int
    sites: int
    reach: float | None


@dataclass(frozen=True)
class Poisoning:
    """One attack.

    Attributes
    ----------
    name : str
        As typed.
    text : str
        What it does, in a sentence or two.
    goal : Goal
        What it is judged by.
    trains : Trains
        What bad hospitals train on.
    sends : callable or None
        Makes the update that is sent; None sends what was trained.
    fewest : int
        Updates of honest training it needs to begin from; 0 where it needs none.
    papers : tuple of str
        Where it is from.
    """

    name: str
    text: str
    goal: Goal
    trains: Trains = Trains.HONESTLY
    sends: Callable[[Known], Floats] | None = None
    fewest: int = 0
    papers: tuple[str, ...] = ()

    @property
    def knows(self) -> str:
        """What it assumes the attacker has, in words."""
        return "updates of honest training" if self.fewest else "its own images and updates"


_FLIP = 4.0
"""How long a turned update is beside what it turns."""


def _replacing(known: Known) -> Floats:
    return craft.within(known.own * (known.sites / known.bad), known.honest, known.reach)


def _turned(known: Known) -> Floats:
    return craft.within(-_FLIP * known.own, known.honest, known.reach)


def _as_far_as_it_goes(known: Known) -> Floats:
    return known.own if known.reach is None else _replacing(known)


ATTACKS: dict[str, Poisoning] = {
    attack.name: attack
    for attack in (
        Poisoning(
            "label-flip",
            "Trains on its images under the wrong labels, the last class for the first, and sends what comes of it: as "
            "long as 'replacement' does where a rule averages whatever comes.",
            Goal.ACCURACY,
            trains=Trains.FLIPPED,
            sends=_as_far_as_it_goes,
            papers=("Tolpegin et al., arXiv 2007.08432",),
        ),
        Poisoning(
            "sign-flip",
            f"Trains honestly and sends the opposite, {_FLIP:g} times as long.",
            Goal.ACCURACY,
            sends=_turned,
            papers=("Li et al., arXiv 1811.03761",),
        ),
        Poisoning(
            "ipm",
            "Sends the mean of honest updates turned round: half as long against rules that look for what is odd, else "
            "so long that the mean of all points backwards.",
            Goal.ACCURACY,
            sends=lambda known: craft.reversed_mean(known.honest, bad=known.bad, sites=known.sites, reach=known.reach),
            fewest=1,
            papers=("Xie et al., arXiv 1903.03936",),
        ),
        Poisoning(
            "alie",
            "Sends the mean of honest updates less as many deviations as hide it among them, or as go through.",
            Goal.ACCURACY,
            sends=lambda known: craft.within_the_spread(
                known.honest, bad=known.bad, sites=known.sites, reach=known.reach
            ),
            fewest=2,
            papers=("Baruch et al., arXiv 1902.06156",),
        ),
        Poisoning(
            "min-max",
            "Sends what is as far from the mean of honest updates as two of them are from each other, or goes through.",
            Goal.ACCURACY,
            sends=lambda known: craft.no_further_than_others(known.honest, reach=known.reach),
            fewest=2,
            papers=("Shejwalkar and Houmansadr, NDSS 2021",),
        ),
        Poisoning(
            "backdoor",
            "Sets a trigger on half of its images before it hides them, under a class of its choice, and trains what "
            "travels on them, four times as long as the others. The update is sent as 'label-flip' sends it.",
            Goal.TRIGGER,
            trains=Trains.TRIGGERED,
            sends=_as_far_as_it_goes,
            papers=("Gu et al., arXiv 1708.06733", "Bagdasaryan et al., arXiv 1807.00459"),
        ),
        Poisoning(
            "replacement",
            "Trains as 'backdoor' does and makes the update as many times longer as the mean divides it, whatever the "
            "rule: what comes of the round is the attacker's model.",
            Goal.TRIGGER,
            trains=Trains.TRIGGERED,
            sends=_replacing,
            papers=("Bagdasaryan et al., arXiv 1807.00459",),
        ),
    )
}
"""In the order they are listed and measured."""


def chosen(names: str) -> list[Poisoning]:
    """The attacks of a list of names, separated by commas; ``all`` stands for each (ConfigError for an unknown one)."""
    made: dict[str, Poisoning] = {}
    for name in (each.strip() for each in names.split(",")):
        if name != ALL and name not in ATTACKS:
            near = difflib.get_close_matches(name, [*ATTACKS, ALL], n=2, cutoff=0.5)
            guess = f"did you mean {' or '.join(near)}? " if near else ""
            cure = f"{guess}known: {', '.join([*ATTACKS, ALL])}"
            raise ConfigError(f"'{name}' poisons no run", where="--attacks", cure=cure)
        made |= ATTACKS if name == ALL else {name: ATTACKS[name]}
    return list(made.values())
