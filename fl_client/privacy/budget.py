"""What a run may still cost at a site: noise for its next round, written down before that is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fl_client.config import TrainConfig
from fl_client.data.base import Source
from fl_client.data.config import SIMILAR
from fl_client.data.stored import Part
from fl_client.privacy.accountant import Charge, check_installed, epsilon, noise_for
from fl_client.privacy.chance import Chance
from fl_client.privacy.ledger import Ledger
from fl_client.privacy.training import Hidden, Indices
from medveil.contract import RunConfig
from medveil.errors import ConfigError, PolicyError
from medveil.privacy import EXAMPLE, PrivacyConfig

_WHERE = "privacy"
_HUNDREDTHS = 100


def _any(spent: Callable[[float], float]) -> None:
    """No limit."""


@dataclass(frozen=True)
class EpsilonLimit:
    """What all runs together may cost a site.

    Parameters
    ----------
    delta
        At which it is counted; None: at each run's own.
    allow
        Told what all runs together would cost, as a function of delta; raises where that is too much.
    noise
        Least noise multiplier of a round, where its promise could be kept with less; 0: none.
    step
        Units are counted in whole multiples of it, rounded up, where a server hears of what is judged: it chooses
        delta, and would find their number from which ones are refused.
    """

    delta: float | None = None
    allow: Callable[[Callable[[float], float]], None] = _any
    noise: float = 0.0
    step: int = 1


@dataclass(frozen=True, kw_only=True)
class Course:
    """How a run trains at a site: `rounds` of `steps`, in which each unit is by the chance `rate`."""

    run: str
    rounds: int
    steps: int
    rate: float


class Budget:
    """What one run may cost one site.

    Every round takes the same noise: the least with which all rounds together keep the promise. Where rounds are
    made again, those that are left take more, so that the promise is kept; where no noise is enough, the site refuses.

    Parameters
    ----------
    privacy
        The promise.
    course
        How the run trains here.
    members
        Rows of the training part that are each unit's.
    ledger
        The site's.
    limit
        The site's own.
    """

    def __init__(
        self, privacy: PrivacyConfig, course: Course, members: list[Indices], ledger: Ledger, limit: EpsilonLimit
    ) -> None:
        self.privacy, self.ledger = privacy, ledger
        self._course, self._members, self._limit = course, members, limit

    def hide(self, round_: int, draw: Callable[[], bytes]) -> Hidden:
        """How a round hides its units; what it costs is written down before this returns.

        Parameters
        ----------
        round_
            The round, from 1.
        draw
            Gives the 32 bytes that all it draws follows from.

        Raises
        ------
        MedVeilError
            As `Ledger.charge`.
        """
        charge = self.ledger.charge(
            self._course.run,
            round_,
            unit=self.privacy.unit,
            delta=self._told_at,
            plan=lambda before: self._planned(round_, before),
            allow=self._limit.allow,
        )
        return Hidden(self.privacy.clip, charge, self._members, Chance(draw()))

    @property
    def spent(self) -> float:
        """What the run has cost, rounded up to a hundredth."""
        exact = epsilon(self.ledger.of(self._course.run), self.privacy.delta)
        return math.ceil(exact * _HUNDREDTHS) / _HUNDREDTHS

    def told(self, *, exactly: bool) -> float:
        """What a server is told that the run has cost: at a real site what it promised, which that never passes.

        Noise, chance and steps are made of the exact number of images, and the figure would give it away.
        """
        return self.spent if exactly else self.privacy.epsilon

    @property
    def _told_at(self) -> float:
        return self.privacy.delta if self._limit.delta is None else self._limit.delta

    def _planned(self, round_: int, before: list[Charge]) -> Charge:
        course, privacy = self._course, self.privacy
        left = (course.rounds - round_ + 1) * course.steps
        if before:
            again = Charge(max(before[-1].noise, self._limit.noise), course.rate, left)
            if epsilon((*before, again), privacy.delta) <= privacy.epsilon:
                return Charge(again.noise, course.rate, course.steps)
        most, delta = privacy.epsilon, privacy.delta
        noise = max(self._limit.noise, noise_for(most, delta, rate=course.rate, steps=left, before=before))
        return Charge(noise, course.rate, course.steps)


def make_budget(
    run: RunConfig, train: TrainConfig, source: Source, part: Part, ledger: Ledger, *, limit: EpsilonLimit
) -> Budget | None:
    """The budget of a run at a site; None where it promises nothing.

    Parameters
    ----------
    run, train
        The run, and how it trains.
    source, part
        The site's images, and those that are trained on.
    ledger, limit
        The site's own.

    Raises
    ------
    ConfigError
        As `members_of`; or what counts epsilon is not installed.
    PolicyError
        The promise would be void: what an image becomes depends on all others.
    """
    privacy = run.private
    if privacy is None:
        return None
    check_installed()
    if source.shares_scale:
        problem = "the scale of this site's images was found by looking at all of them, so that one changes all others"
        cure = "data.window at the site, or images of 8 bit"
        raise PolicyError(f"{problem}: 'privacy' would promise what does not hold", where=_WHERE, cure=cure)
    members = members_of(source, part.indices, part.ids, privacy, step=limit.step)
    steps, rate = math.ceil(len(part) / train.batch_size), min(1.0, train.batch_size / len(part))
    course = Course(run=run.run, rounds=run.rounds, steps=train.epochs * steps, rate=rate)
    return Budget(privacy, course, members, ledger, limit)


def members_of(
    source: Source, indices: Indices, ids: tuple[str, ...], privacy: PrivacyConfig, *, step: int = 1
) -> list[Indices]:
    """The rows of a training part that are each unit's.

    Parameters
    ----------
    source
        The images.
    indices, ids
        Of those in the part: what they are in the source, and their names.
    privacy
        What is promised to whom.
    step
        As in `EpsilonLimit`.

    Raises
    ------
    ConfigError
        Patients are counted and nothing names them, or delta is no small chance for so many units.
    """
    if privacy.unit == EXAMPLE:
        members = [np.array([row]) for row in range(len(ids))]
    else:
        _refuse_unnamed(source, indices)
        _, whose = np.unique(np.array(source.group_names(ids), dtype=str), return_inverse=True)
        members = np.split(np.argsort(whose, kind="stable"), np.cumsum(np.bincount(whose))[:-1])
    if privacy.delta * math.ceil(len(members) / step) * step >= 1:
        problem = f"'delta' is not below one over this site's number of units ({privacy.unit}): it may show one whole"
        raise ConfigError(problem, where=_WHERE, cure="a smaller delta")
    return members


def _refuse_unnamed(source: Source, indices: Indices) -> None:
    groups = [source.items[int(index)].group for index in indices]
    alike = any(group is not None and group.startswith(f"{SIMILAR}:") for group in groups)
    if alike or not any(groups):
        found = "groups of images that look alike" if alike else "nothing"
        problem = f"'unit' is patient, and {found} tells this site's patients apart"
        raise ConfigError(problem, where=_WHERE, cure="data.group_by at the site, or privacy.unit=example")
    if not all(groups):
        # Each would count as a patient, whoever's they all are.
        problem = "'unit' is patient, and nothing says whose some of this site's images are"
        cure = "at the site, name the patient of every image or take such images out; or privacy.unit=example"
        raise ConfigError(problem, where=_WHERE, cure=cure)
