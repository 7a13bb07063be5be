"""Was an image trained on? Scores of membership, higher for members, and what they are worth at few false alarms.

A signal is the probability a model gives an image's own class. References are models that the attacker trained without
the image. Population images are known to be in neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from medveil.roc import area_under_roc

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_SMALL = 1e-12
_LEAST_VARIANCE = 1e-8
_FEW = 8
_STEPS_OF_A = np.linspace(0, 1, 11)


def scaled_logit(probability: Floats) -> Floats:
    """log(p / (1 - p)), which is nearly normal over models (Carlini et al., arXiv 2112.03570)."""
    kept = np.clip(probability, _SMALL, 1 - _SMALL)
    made: Floats = np.log(kept) - np.log1p(-kept)
    return made


def rmia(target: Floats, references: Floats, z_target: Floats, z_references: Floats, *, a: float) -> Floats:
    """RMIA with references that saw none of the images (Zarifzadeh et al., arXiv 2312.03262), threshold gamma of 1.

    The share of population images z over which p(x | target) / p(x) stands above p(z | target) / p(z). What a model
    that may have seen the image would give on average is taken from those that have not: p(x) is
    (1 + a) / 2 * mean + (1 - a) / 2.

    Parameters
    ----------
    target, references
        Signals of the images, (n,) and (models, n).
    z_target, z_references
        Signals of the population, (m,) and (models, m).
    a
        0 to 1; see `tuned_a`.
    """
    ratio_x = target / np.maximum(_expected(references, a), _SMALL)
    ratio_z = np.sort(z_target / np.maximum(_expected(z_references, a), _SMALL))
    # How many of the population lie strictly below.
    made: Floats = np.searchsorted(ratio_z, ratio_x, side="left") / len(ratio_z)
    return made


def tuned_a(signals: Floats, members: Flags, z_signals: Floats) -> float:
    """The `a` with which RMIA tells best what one reference was trained on, by its AUROC.

    Parameters
    ----------
    signals
        Of images of known membership, (models, n): the first model is attacked with the help of the others.
    members
        Whether the first model was trained on each; the others on none of them.
    z_signals
        Of the population, (models, m).
    """
    if members.all() or not members.any() or len(signals) < 2:
        return 0.0
    found = [
        auroc(rmia(signals[0], signals[1:], z_signals[0], z_signals[1:], a=float(a)), members) for a in _STEPS_OF_A
    ]
    return float(_STEPS_OF_A[int(np.argmax(found))])


def _expected(references: Floats, a: float) -> Floats:
    made: Floats = (1 + a) / 2 * references.mean(axis=0) + (1 - a) / 2
    return made


def bavaria(target: Floats, references: Floats, *, student: bool) -> Floats:
    """BaVarIA without models that saw the image (Brännvall, arXiv 2603.11799): Bayes in place of a variance of few.

    The scaled logits of an image over models are normal with unknown mean and variance under a conjugate
    normal-inverse-gamma prior. The score is how far up the predictive distribution of a model that has not seen the
    image the target's own logit lies: a Student t, or a normal with the variance's posterior mean.

    Of the paper we could read that, and not the parameters of its prior. Ours, from the data: mean and variance are
    those of all images together, the variance pooled within images; the prior weighs as much as one model for the mean,
    and as four for the variance.

    Parameters
    ----------
    target, references
        Signals, (n,) and (models, n).
    student
        The Student t; else the normal.
    """
    logits, own = scaled_logit(references), scaled_logit(target)
    models = len(logits)
    pooled = float(logits.var(axis=0, ddof=1).mean()) if models > 1 else float(logits.var())
    middle, kappa, alpha = float(logits.mean()), 1.0, 2.0
    beta = max(pooled, _LEAST_VARIANCE) * (alpha - 1)
    mean = logits.mean(axis=0)
    after = (kappa * middle + models * mean) / (kappa + models)
    shape = alpha + models / 2
    rate = (
        beta + ((logits - mean) ** 2).sum(axis=0) / 2 + kappa * models * (mean - middle) ** 2 / (2 * (kappa + models))
    )
    # Of 1 - p only a logarithm tells two far tails apart.
    if student:
        scale = np.sqrt(rate * (kappa + models + 1) / (shape * (kappa + models)))
        made: Floats = -stats.t.logsf(own, 2 * shape, loc=after, scale=scale)
        return made
    made = -stats.norm.logsf(own, loc=after, scale=np.sqrt(rate / (shape - 1)))
    return made


def fedmia(measures: Floats, target: int) -> Floats:
    """FedMIA (Zhu et al., arXiv 2402.06289): how unlike the others one site's updates are about an image.

    No site but one holds the image, so that the others tell how an update looks that was made without it: how far a
    measure lies above theirs, in deviations, is a one-tailed test of each round. The paper adds up the probabilities;
    here it is the normal quantiles (Stouffer), since probabilities next to 1 are all the same number. A deviation of
    fewer than `_FEW` sites is no estimate: it is then one for all images of a round, as LiRA's is of few models.

    Parameters
    ----------
    measures
        How well each site's update fits each image, higher for better, (rounds, sites, n).
    target
        Which site.
    """
    others = np.delete(measures, target, axis=1)
    variance = others.var(axis=1)
    if others.shape[1] < _FEW:
        variance = variance.mean(axis=1, keepdims=True)
    deviation = np.sqrt(variance + _LEAST_VARIANCE)
    made: Floats = ((measures[:, target] - others.mean(axis=1)) / deviation).sum(axis=0)
    return made


def auroc(scores: Floats, members: Flags) -> float:
    """Probability that a member scores above another image; NaN where there are not both."""
    if members.all() or not members.any():
        return float("nan")
    return area_under_roc(members, scores)


class Rate(NamedTuple):
    """A share of members, and its Clopper-Pearson interval of 95 %; NaN where it cannot be told."""

    value: float
    low: float
    high: float


_UNTOLD = Rate(float("nan"), float("nan"), float("nan"))


def caught(scores: Floats, members: Flags, *, false_alarms: float) -> Rate:
    """Share of members found where at most so large a share of the others is called one.

    The threshold is chosen on the same images, as in all the papers, and the interval is of the members alone. With
    fewer others than ``1 / false_alarms`` the rate cannot be told.
    """
    others = np.sort(scores[~members])[::-1]
    allowed = int(np.floor(false_alarms * len(others) + 1e-9))
    if not allowed or not members.any():
        return _UNTOLD
    # Nobody that ties with the first one too many is called a member.
    bound = others[allowed] if allowed < len(others) else -np.inf
    hits, n = int((scores[members] > bound).sum()), int(members.sum())
    interval = stats.binomtest(hits, n).proportion_ci(confidence_level=0.95, method="exact")
    return Rate(hits / n, float(interval.low), float(interval.high))


def first_of_each(groups: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places of the first image of each group, ascending: what is left where images that look alike count once."""
    return np.sort(np.unique(np.asarray(groups), return_index=True)[1])
