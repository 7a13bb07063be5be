"""site-inference: which of two updates is in a sum, and what a round without a site says of that site."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from medveil.wire import Tensors, add_delta, delta
from simulations.attacks.situations.capabilities import Capability
from simulations.attacks.situations.making import Exchange, Hospital, summed
from simulations.attacks.situations.rounds import Playing
from simulations.attacks.situations.setting import UpdateCase, UpdateSetting, update_case
from simulations.attacks.situations.situation import Situation
from simulations.attacks.situations.update_attack import UpdateAttack, exchange_of
from simulations.attacks.solvers.sums import Noise, cosine, difference, which_of_two
from simulations.attacks.study.attack import Chance, Knowledge, Metric, Scores
from simulations.attacks.study.cases import Case, Images, Seen
from simulations.attacks.study.setting import Setting

Floats = npt.NDArray[np.float64]

SITES = (2, 4, 8)
_DIMENSIONS = 20_000
"""Numbers of an update that are looked at, drawn at random where there are more: distances need no more."""


class Trial(NamedTuple):
    """A sum over sites, and two updates that one of them may have sent, each as it would stand in the sum.

    `sets` are the images behind the two, for an attacker that has those and not the updates.
    """

    total: Tensors
    updates: tuple[Tensors, Tensors]
    sets: tuple[Images, Images]
    sites: int


class Difference(NamedTuple):
    """Two rounds' sums: with a site, and without it."""

    with_site: Tensors
    without: Tensors


class Sums(NamedTuple):
    """What the attacker sees: trials by their number of sites, the two rounds, and the exchange they are part of."""

    exchange: Exchange
    trials: list[Trial]
    difference: Difference


@dataclass
class SumsCase(UpdateCase):
    """A case of sums.

    `second` says of each trial whether the second update is in it, `sizes` how many sites are; `missing` was left out.
    """

    second: list[bool] = field(kw_only=True)
    sizes: list[int] = field(kw_only=True)
    missing: Tensors = field(kw_only=True)


class Found(NamedTuple):
    """Log-likelihood ratios of each trial, from updates and from images; and the update that is missing."""

    updates: list[float]
    images: list[float]
    difference: Floats


class SiteInference(UpdateAttack):
    """The two-update test on sums of 2 to 8 sites, and the difference of two rounds.

    Parameters
    ----------
    played
        Updates the attacker makes on public images, to know what others' are like.
    trials
        Sums tested for each number of sites.
    """

    name = "site-inference"
    recovers = "facts"
    knowledge = frozenset({Knowledge.WEIGHTS, Knowledge.PUBLIC})
    needs = frozenset({Capability.UPDATES, Capability.TRAINING, Capability.SURROGATE, Capability.SEVERAL_SITES})
    text = (
        "The server reads sums alone. It knows two updates that one site may have sent, or two sets of images that one "
        "site may have trained on, and asks which is in the sum: by likelihood, with other sites' updates as normal "
        "noise whose mean and covariance it learns from updates of its own on public images. From the images it trains "
        "as the site would, in another order and, where the site's key is its own, under another key. `right` is "
        "the share of sums answered rightly. Then it takes the sum of a round without a site from that of a round with "
        "it: `difference` is the cosine of what is left with the site's own update, and chance what the sum without "
        "the site has with it. A consortium that adds up all who approved the roster has no such round but where a "
        "site falls out."
    )
    papers = ("Ngo et al. 2024, arXiv:2403.17775 (secure aggregation and membership)",)
    main = f"right_{SITES[0]}"
    margin = 0.1
    weight = 30.0
    fewest = 4

    def __init__(self, *, played: int = 8, trials: int = 8) -> None:
        self.played, self.trials = played, trials

    def quick(self) -> Self:
        """With fewer updates and trials."""
        made = copy.copy(self)
        made.played, made.trials, made.weight = 4, 4, 8.0
        return made

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Shares of sums, by how many sites are in them; the cosine of a difference."""
        along = "sites in the sum"
        kinds = (("right", "from the two updates"), ("right_images", "from the two sets of images"))
        made = [
            Metric(f"{name}_{n}", f"sums of {n} sites answered rightly, {by}", series=name, at=n, along=along)
            for name, by in kinds
            for n in SITES
        ]
        text = "cosine of a difference of rounds with the update that is missing"
        return (*made, Metric("difference", text, "correlation", chance=Chance.GUESS))

    def control_situation(self, situation: Situation) -> Situation:
        """One plain image a site, one step of SGD, no noise; summed over as many sites, or there is nothing to tell."""
        return replace(situation.unprotected(), sites=situation.sites)

    def case(self, setting: Setting, key: int) -> SumsCase:
        """Two sets of images for each site; sums of some sites' updates with the one or the other of one site."""
        assert isinstance(setting, UpdateSetting)
        here = self.control_situation(setting.situation) if setting.unprotected else setting.situation
        here = replace(here, images=max(1, setting.capped(2 * here.images * here.sites) // (2 * here.sites)))
        dealt = update_case(setting, key, here, updates=2)
        rng = np.random.default_rng(setting.seed + key)
        made = _Sums(dealt, self.trials, rng)
        told = {each.name: getattr(dealt, each.name) for each in fields(UpdateCase)}
        sums = Sums(dealt.extra[Knowledge.WEIGHTS], made.trials, made.difference)
        told["extra"] = {Knowledge.UPDATES: sums, Knowledge.WEIGHTS: sums}
        return SumsCase(**told, second=made.second, sizes=[each.sites for each in made.trials], missing=made.missing)

    def recover(self, seen: Seen, rng: np.random.Generator) -> Found:
        """Learn what updates are like, and decide."""
        sums: Sums = exchange_of(seen)
        here = sums.exchange.situation
        playing = Playing(sums.exchange, seen.config, seed=int(rng.integers(2**31)))
        flat = _Flat(sums.difference.with_site, rng)
        public = seen.public
        start = playing.start

        def own(images: Images, number: int) -> Floats:
            return flat(summed([delta(playing.after(images, number=number), start)]))

        references = []
        for number in range(self.played):
            chosen = rng.choice(len(public.labels), min(here.images, len(public.labels)), replace=False)
            references.append(own(Images(public.pixels[chosen], public.labels[chosen]), number))
        noise = Noise(np.stack(references))
        updates, images = [], []
        for number, trial in enumerate(sums.trials):
            total, others = trial.sites * flat(trial.total), trial.sites - 1
            first, second = (flat(each) for each in trial.updates)
            updates.append(which_of_two(total, first, second, noise, others=others))
            first, second = (own(each, self.played + 2 * number + place) for place, each in enumerate(trial.sets))
            images.append(which_of_two(total, first, second, noise, others=others))
        told = [_whole(each) * sites for each, sites in zip(sums.difference, (here.sites, here.sites - 1), strict=True)]
        return Found(updates, images, difference(*told))

    def score(self, found: Found, case: Case) -> Scores:
        """Shares of right answers, by how many sites there were."""
        assert isinstance(case, SumsCase)
        made: Scores = {"difference": cosine(found.difference, _whole(case.missing))}
        for n in SITES:
            at = [place for place, size in enumerate(case.sizes) if size == n]
            for name, ratios in (("right", found.updates), ("right_images", found.images)):
                right = [_right(ratios[place], case.second[place]) for place in at]
                made[f"{name}_{n}"] = float(np.mean(right)) if right else math.nan
        return made

    def guesses(self, case: Case, rng: np.random.Generator) -> Iterable[Scores]:
        """A coin; and the sum without the site in the place of the difference."""
        assert isinstance(case, SumsCase)
        coin = {metric.name: 0.5 for metric in self.metrics if metric.series}
        sums: Sums = case.extra[Knowledge.UPDATES]
        yield {**coin, "difference": cosine(_whole(sums.difference.without), _whole(case.missing))}


class _Sums:
    """Trials and rounds made of the updates of a case's hospitals."""

    def __init__(self, dealt: UpdateCase, trials: int, rng: np.random.Generator) -> None:
        self._federation, self._hospitals = dealt.federation, dealt.hospitals
        self.trials, self.second = [], []
        sites = dealt.situation.sites
        sent = [[self._federation.sent(each) for each in both] for both in self._hospitals]
        for n in SITES:
            if n > sites:
                continue
            for number in range(trials):
                chosen = rng.permutation(sites)[:n]
                second = bool(number % 2)
                place = int(chosen[0])
                total = [sent[int(second)][place], *(sent[0][each] for each in chosen[1:])]
                both = (summed([sent[0][place]]), summed([sent[1][place]]))
                sets = (self._hospitals[0][place].images, self._hospitals[1][place].images)
                self.trials.append(Trial(summed(total), both, sets, n))
                self.second.append(second)
        self.missing = sent[0][-1]
        self.difference = self._rounds(sent[0])

    def _rounds(self, sent: Sequence[Tensors]) -> Difference:
        """A round of all, and the next of all but the last."""
        hospitals: list[Hospital] = self._hospitals[0]
        with_site = summed(sent)
        base = add_delta(self._federation.base, with_site)
        again = [self._federation.sent(each, round_=2, base=base) for each in hospitals[:-1]]
        return Difference(with_site, summed(again))


class _Flat:
    """Updates as vectors (d,) of some of their numbers, the same of each."""

    def __init__(self, like: Tensors, rng: np.random.Generator) -> None:
        size = sum(each.size for each in like.values())
        self._chosen = None if size <= _DIMENSIONS else np.sort(rng.choice(size, _DIMENSIONS, replace=False))

    def __call__(self, change: Tensors) -> Floats:
        found = _whole(change)
        return found if self._chosen is None else found[self._chosen]


def _whole(change: Tensors) -> Floats:
    """All numbers of an update, in the order of the names."""
    return np.concatenate([change[name].ravel() for name in sorted(change)]).astype(np.float64)


def _right(ratio: float, second: bool) -> float:
    """1 for a right answer, and half of one where both are as likely."""
    return 0.5 if ratio == 0 else float((ratio > 0) == second)
