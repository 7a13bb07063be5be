"""What a measured difference or a measured score is worth: intervals, agreement, equivalence.

Everything here works on *predictions*, per image, because sites and seeds often predict the same images: counting each
such prediction as a fresh observation would make every interval too narrow, and so would taking apart what belongs
together (``data.group_by``). The unit is the group of images: an image where nothing is grouped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from fl_client.intervals import FEWEST_GROUPS, LEVEL, NONE, Interval, effective_size, even_size, wilson
from medveil.files import read_json, write_json
from medveil.pretraining import MASKED
from medveil.shapes import check_shape
from simulations.predictions import Ints, Runs, Sites, load_predictions
from simulations.resampling import (
    FEWEST,
    METRICS,
    POOLED,
    WEIGHTED,
    Design,
    Metric,
    accuracies,
    aurocs,
    balanced_accuracies,
    design_of,
    group_of_each,
    means,
    pooled_means,
    replicates,
)

_RESTS = ("n", "groups", "sites", "of_sites")


def accuracy(labels: Ints, probabilities: npt.NDArray[np.float32]) -> float:
    """Share of images whose most probable class is their label; NaN for no image."""
    return _once(accuracies, labels, probabilities)


def balanced_accuracy(labels: Ints, probabilities: npt.NDArray[np.float32]) -> float:
    """Mean recall over the classes present; NaN for no image."""
    return _once(balanced_accuracies, labels, probabilities)


def auroc(labels: Ints, probabilities: npt.NDArray[np.float32]) -> float:
    """Area under the ROC curve by the rank formula, ties counted half.

    With two classes the score is the probability of class 1; with more it is one class against the rest, averaged over
    the classes present. NaN where fewer than two classes are present.
    """
    return _once(aurocs, labels, probabilities)


def confusion(sites: Sites) -> Ints:
    """(K, K) counts over all sites: rows are the true classes, columns the predicted ones."""
    classes = max(each.probabilities.shape[1] for each in sites.values())
    labels = np.concatenate([each.labels for each in sites.values()])
    predicted = np.concatenate([each.predicted for each in sites.values()])
    if not len(labels):
        return np.zeros((classes, classes), np.int64)
    made: Ints = confusion_matrix(labels, predicted, labels=np.arange(classes)).astype(np.int64)
    return made


def mean_metric(runs: Runs, metric: str) -> float:
    """A metric averaged over sites (weighted by their images, undefined ones left out), then over runs."""
    ones = [{site: np.ones((1, len(each))) for site, each in sites.items()} for sites in runs]
    return float(means(runs, metric, ones)[0])


@dataclass(frozen=True)
class Estimate:
    """A measure with what it rests on.

    Attributes
    ----------
    value
        NaN where undefined.
    interval
        Its 95 % interval; NaN where there is none.
    n, groups
        Test images and groups of them that it rests on.
    sites, of_sites
        Sites that it rests on, and how many there are: of several runs the fewest.
    withheld
        Why there is no interval; empty where there is one.
    """

    value: float
    interval: Interval
    n: int
    groups: int
    sites: int
    of_sites: int
    withheld: str = ""

    def as_data(self) -> dict[str, Any]:
        """As a document holds it."""
        bounds = None if math.isnan(self.interval.low) else list(self.interval)
        value = None if math.isnan(self.value) else self.value
        rests = {"n": self.n, "groups": self.groups, "sites": self.sites, "of_sites": self.of_sites}
        return {"value": value, "interval": bounds, **rests, "withheld": self.withheld or None}


def estimate(runs: Runs, metric: str, *, pooled: bool = False, level: float = LEVEL) -> Estimate:
    """A measure and its interval, the group of images as the unit.

    Parameters
    ----------
    runs
        Predictions by site, one mapping for each run (seed).
    metric
        One of `METRICS`; where `pooled`, one of `POOLED`.
    pooled
        Over the images of all sites together. Otherwise the mean over sites, as `mean_metric`.
    level
        Coverage aimed at.

    Notes
    -----
    The variance is that of the jackknife that leaves out one group after another within its site (for smooth measures
    what the cluster bootstrap comes to; Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, sections
    2.7.3 and 3.8; Obuchowski, *Biometrics* 53 (1997), for areas under ROC curves). `fl_client.intervals.wilson` makes
    an interval of it. A percentile bootstrap of few groups is too short, and of groups that are all right it has no
    width. An image brings all of its predictions along, whichever sites and seeds made them; sites with few groups are
    one stratum. The mean over sites gets no interval where one of them has too few groups for a variance of its own; an
    accuracy does, since its mean weighted by images is that of all images.

    Drawn and measured 1500 times, images of a group nearly alike, an interval of "95 %" of an AUROC of .90 held the
    truth in .937 of draws with 20 groups of 5 images, in .953 with 40, and in more with groups of one: with few large
    groups it is a little short.

    The trained models are taken as given: what another seed would have changed is not part of the interval.
    """
    measured = [_defined(sites, metric, pooled=pooled) for sites in runs]
    ones = [{site: np.ones((1, len(each))) for site, each in sites.items()} for sites in runs]
    mean = pooled_means if pooled else means
    value = float(mean(runs, metric, ones)[0])
    counted = [{site: sites[site] for site in names} for sites, names in zip(runs, measured, strict=True)]
    if math.isnan(value):
        return Estimate(value, NONE, 0, 0, 0, _fewest(runs), "undefined at every site" if not pooled else "undefined")
    design = design_of(counted)
    rests = (design.images, design.groups, _fewest(counted), _fewest(runs))
    least = _least_groups(counted, metric)
    whole = pooled or metric == "accuracy"
    withheld = _too_few(least, metric) or ("" if whole else _small_sites(counted, metric))
    if withheld:
        return Estimate(value, NONE, *rests, withheld)
    variance, df = _jackknife(counted, metric, design, pooled=whole)
    even = even_size(_sizes(design))
    size = effective_size(value, variance, least=min(even, least), most=design.images)
    return Estimate(value, wilson(value, size, min(df, least - 1), level=level), *rests)


def interval_of(runs: Runs, metric: str, *, pooled: bool = False) -> Interval:
    """The interval of `estimate`."""
    return estimate(runs, metric, pooled=pooled).interval


def _defined(sites: Sites, metric: str, *, pooled: bool) -> list[str]:
    """The sites a measure rests on."""
    if pooled:
        return [site for site, each in sites.items() if len(each)]
    found = {
        site: WEIGHTED[metric](each.labels, each.probabilities, np.ones((1, len(each))))[0]
        for site, each in sites.items()
    }
    return [site for site, value in found.items() if not math.isnan(value)]


def _fewest(runs: Runs) -> int:
    return min((len(sites) for sites in runs), default=0)


def _jackknife(runs: Runs, metric: str, design: Design, *, pooled: bool) -> tuple[float, int]:
    """The variance of a measure, and its degrees of freedom."""
    mean = pooled_means if pooled else means
    found = list(replicates(design))
    values = np.concatenate([mean(runs, metric, each.counts) for each in found])
    stratum = np.concatenate([each.stratum for each in found])
    variance, strata = 0.0, np.unique(stratum)
    for each in strata:
        own = values[stratum == each]
        own = own[np.isfinite(own)]
        variance += (len(own) - 1) / len(own) * float(((own - own.mean()) ** 2).sum()) if len(own) else 0.0
    return variance, len(values) - len(strata)


def _sizes(design: Design) -> Ints:
    members = [own for sites in design.members for own in sites.values()]
    return np.bincount(np.concatenate(members), minlength=design.groups)


def _least_groups(runs: Runs, metric: str) -> int:
    """Groups that hold an image of a class, of the class with fewest of those that the measure needs."""
    parts = [(each, site) for sites in runs for site, each in sites.items()]
    group = group_of_each([each for each, _ in parts], [site for _, site in parts])
    labels = np.concatenate([each.labels for each, _ in parts])
    if metric == "accuracy":
        return len(np.unique(group))
    classes = np.unique(labels)
    if parts[0][0].probabilities.shape[1] == 2 and metric in {"sensitivity", "specificity"}:
        classes = np.array([int(metric == "sensitivity")])
    return min(len(np.unique(group[labels == each])) for each in classes)


def _too_few(groups: int, metric: str) -> str:
    if groups >= FEWEST_GROUPS:
        return ""
    those = f"{groups} group{'' if groups == 1 else 's'}"
    # Of a measure by class it is the smallest class that counts, and the groups of all are more.
    rests = f"rests on {those}" if metric == "accuracy" else f"a class has only {those}"
    return f"{rests} of images; an interval needs {FEWEST_GROUPS}"


def _small_sites(runs: Runs, metric: str) -> str:
    """Why the mean over sites has no interval; empty where it has."""
    each = [_least_groups([{site: own}], metric) for sites in runs for site, own in sites.items()]
    whole = [_least_groups([{site: own}], "accuracy") for sites in runs for site, own in sites.items()]
    small = sum(a < FEWEST_GROUPS or b < FEWEST for a, b in zip(each, whole, strict=True))
    if not small:
        return ""
    return f"{small} of {len(each)} sites have too few groups of images; see the measure over all images"


def at_chance(interval: Interval) -> bool:
    """Whether the interval of an AUROC contains 0.5; False where it is undefined."""
    return interval.low <= 0.5 <= interval.high


def add_intervals(run: str | Path) -> dict[str, Any]:
    """Add 95 % intervals to ``RUN/summary.json`` and return what it then holds.

    Raises
    ------
    StorageError
        There is no summary, or it cannot be written.
    IntegrityError
        The summary or a file of predictions is not whole.
    """
    path = Path(run) / "summary.json"
    summary: dict[str, Any] = read_json(path)
    check_shape(summary, {}, where=path)
    sites = load_predictions(run)
    summary["intervals"] = None
    if summary.get("task") != MASKED:
        summary["intervals_note"] = "no site has written predictions of test images"
    if any(len(each) for each in sites.values()):
        summary |= described_intervals(sites)
    write_json(path, summary)
    return summary


def described_intervals(sites: Sites) -> dict[str, Any]:
    """What summary.json says from predictions: intervals of measures, what they rest on, pooled measures."""
    made = {metric: estimate([sites], metric).as_data() for metric in METRICS}
    return {
        "intervals": {metric: each["interval"] for metric, each in made.items()},
        "intervals_withheld": {metric: each["withheld"] for metric, each in made.items() if each["withheld"]},
        "intervals_note": resampling_note([sites]),
        "rests_on": {metric: {key: each[key] for key in _RESTS} for metric, each in made.items()},
        "pooled": {metric: estimate([sites], metric, pooled=True).as_data() for metric in POOLED},
    }


def resampling_note(runs: Runs) -> str:
    """How `estimate` makes intervals of these runs, in a sentence."""
    design = design_of(runs)
    predictions = sum(len(each) for sites in runs for each in sites.values())
    grouped = "" if design.groups == design.images else f" in {design.groups} groups that belong together"
    shared = ", however many sites and seeds predict it" if predictions > design.images else ""
    given = "the trained models are" if len(runs) > 1 else "the trained model is"
    how = f"Wilson's with the variance between groups, over {design.images} test images{grouped}{shared}"
    return f"95 % intervals: {how}; {given} taken as given"


def _once(metric: Metric, labels: Ints, probabilities: npt.NDArray[np.float32]) -> float:
    return float(metric(np.asarray(labels), np.asarray(probabilities), np.ones((1, len(labels))))[0])
