"""What leaves a site of its images: the one room that decides it, for replies and for the cards of an export.

A server chooses the weights it has measured, as often as it likes. So it can make a model that always answers one
class, whose accuracy times the number of images is the count of that class; and one whose loss is a sum of counts in
any base. What leaves here is therefore made so that it says nothing of a class with fewer than `smallest` images in a
part (training, validation, test):

- images of such a class take no part in any measure, in any number of images and in any rate. Whatever a server sends
  and however often, what comes back is the same for 0 images of that class as for ``smallest - 1``;
- numbers of images are told in whole multiples of `smallest`, rounded down, and sums are sums of these;
- a measure is told in as many steps as there are such multiples: accuracy, loss and majority rate in those of all
  images, balanced accuracy and AUROC in those of the smallest class times the classes. So that many images move it by
  one step. It is withheld (NaN) below `FEWEST_STEPS` steps, and where fewer than two classes are left;
- of the loss, an image counts at most ``-log(LEAST_PROBABILITY)``: none can carry a message of its own;
- what training measures while it goes on stays at the site;
- where pixels are learned and no classes, all images are one class, and the root of the loss is told in steps.

Rounding is the same for the same model, so repeating a question tells nothing new. A server that sends many different
models can still find, from where the steps fall, rates of the classes that do count more exactly than one step; and the
updates themselves are outside this: the gradient of a head tells how many images of each class were in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fl_client.config import SMALLEST_COUNT
from fl_client.measures import Measures, majority_rate, measure
from medveil.contract import EPSILON, MEASURES, NUM_EXAMPLES, PHASES, SECONDS, measure_key

EVERYTHING = 1
"""As `smallest`: nothing is withheld or rounded, for sites that are one person's simulation."""
FEWEST_STEPS = 4
LEAST_PROBABILITY = 0.01
MAJORITY = measure_key("test", "majority-rate")
_KNOWN = {measure_key(phase, name) for phase in PHASES for name in MEASURES} | {
    MAJORITY,
    NUM_EXAMPLES,
    SECONDS,
    EPSILON,
}
_NAN = float("nan")

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Leaving:
    """What a site tells of its images.

    Parameters
    ----------
    smallest
        Fewest images of a class of which anything is told; `EVERYTHING` tells all as it is.
    """

    smallest: int = SMALLEST_COUNT

    @property
    def everything(self) -> bool:
        """Whether nothing is withheld."""
        return self.smallest <= EVERYTHING

    def count(self, number: int) -> int:
        """A number of images or files: the next lower multiple of `smallest`."""
        return number // self.smallest * self.smallest

    def above(self, number: int) -> int:
        """The next higher multiple: what is compared with a number of the server's, which hears how that came out."""
        return -(-number // self.smallest) * self.smallest

    def counts(self, labels: Labels, classes: int) -> list[int]:
        """Images of each class (0: fewer than `smallest`, or none)."""
        return [self.count(int(number)) for number in np.bincount(labels, minlength=classes)]

    def size(self, labels: Labels) -> int:
        """Images of a part, as the sum of what is told of its classes."""
        return sum(self.counts(labels, 1))

    def weight(self, labels: Labels) -> int:
        """What the training images weigh; a site all of whose classes are small weighs as one that is not."""
        return max(self.smallest, self.size(labels))

    def kept(self, labels: Labels) -> npt.NDArray[np.bool_]:
        """Which images are of classes of which something is told; none where these are fewer than two."""
        if self.everything:
            return np.ones(len(labels), dtype=bool)
        told = np.flatnonzero(np.bincount(labels) >= self.smallest)
        return np.isin(labels, told) if len(told) >= 2 else np.zeros(len(labels), dtype=bool)

    def measured(self, phase: str, labels: Labels, probabilities: Probabilities) -> dict[str, float]:
        """The measures of a phase, under the keys of the contract.

        Parameters
        ----------
        labels
            (n,) class indices.
        probabilities
            (n, K).
        """
        return self.measures(labels, probabilities).as_metrics(phase)

    def measures(self, labels: Labels, probabilities: Probabilities) -> Measures:
        """Measures as they leave; see the module."""
        if self.everything:
            return measure(labels, probabilities)
        kept = self.kept(labels)
        labels, probabilities = labels[kept], _numbers(probabilities[kept])
        found = measure(labels, probabilities, least=LEAST_PROBABILITY)
        each = [count // self.smallest for count in self.counts(labels, 1) if count]
        of_all, of_classes = sum(each), len(each) * min(each, default=0)
        return Measures(
            loss=stepped(found.loss, of_all),
            accuracy=stepped(found.accuracy, of_all),
            balanced_accuracy=stepped(found.balanced_accuracy, of_classes),
            auroc=stepped(found.auroc, of_classes),
            n=self.size(labels),
        )

    def rate(self, value: float | None, labels: Labels) -> float | None:
        """Another rate over the images of a part, 0 to 1, told as an accuracy is; None where it is withheld."""
        return None if value is None else self.share(value, self.size(labels[self.kept(labels)]))

    def share(self, value: float, number: int) -> float | None:
        """A share of a number of images of classes that are told of, in steps; None where it is withheld."""
        told = value if self.everything else stepped(value, number // self.smallest)
        return told if math.isfinite(told) else None

    def majority(self, labels: Labels) -> dict[str, float]:
        """Accuracy of always answering the most frequent class of the test images."""
        told = self.rate(majority_rate(labels[self.kept(labels)]), labels)
        return {MAJORITY: _NAN if told is None else told}

    def training(self, *, loss: float, accuracy: float | None, n: int) -> dict[str, float]:
        """What a round of training measured on its own batches, all classes in them: only where all is told."""
        if not self.everything:
            return {}
        made = {"loss": loss, "accuracy": accuracy, "n": float(n)}
        return {measure_key("train", name): value for name, value in made.items() if value is not None}

    def reconstructed(self, phase: str, losses: npt.NDArray[np.float64]) -> dict[str, float]:
        """How well masked pixels of a phase's images were told, in steps of its root as an accuracy is told in steps.

        Parameters
        ----------
        losses
            Mean squared error of each image, bounded (`fl_client.masked.reconstructed`): (n,).
        """
        n = self.count(len(losses))
        loss = float(losses.mean()) if len(losses) else _NAN
        if not self.everything:
            # Of an error of 0.02 as many steps as there are of 1 would leave nothing.
            loss = stepped(math.sqrt(loss), n // self.smallest) ** 2 if math.isfinite(loss) else _NAN
        return {measure_key(phase, "loss"): loss, measure_key(phase, "n"): float(n)}


def stepped(value: float, steps: int) -> float:
    """A value to the nearest of so many steps from 0 to 1; NaN where they are too few to say anything."""
    return round(value * steps) / steps if steps >= FEWEST_STEPS and math.isfinite(value) else _NAN


def known(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of a reply; a name the contract does not know stops here, whoever put it there."""
    unknown = sorted(set(metrics) - _KNOWN)
    if unknown:
        raise ValueError(f"{unknown} would leave the site, and the contract does not know them")
    return dict(metrics)


def _numbers(probabilities: Probabilities) -> Probabilities:
    """The same, undecided where the model gave no numbers: an error would tell that there is such an image."""
    bad = ~np.isfinite(probabilities).all(axis=1)
    if not bad.any():
        return probabilities
    made = probabilities.copy()
    made[bad] = 1 / probabilities.shape[1]
    return made
