"""What the sites of a run predicted on their test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from medveil.errors import ConfigError, DataError, IntegrityError
from medveil.npz import load_arrays
from medveil.values import shown_value

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """One site's predictions on its test images.

    Attributes
    ----------
    ids
        (n,) str, one name per image, none twice.
    labels
        (n,) int64, class indices.
    probabilities
        (n, K) float32, rows summing to 1.
    groups
        (n,) str, what names the group (a patient) of each image; None where each image is one of its own.
    """

    ids: npt.NDArray[np.str_]
    labels: Ints
    probabilities: npt.NDArray[np.float32]
    groups: npt.NDArray[np.str_] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def group_of_each(self) -> npt.NDArray[np.str_]:
        """(n,) str, the name of each image's group: its own where it has none."""
        return self.ids if self.groups is None else self.groups

    @property
    def predicted(self) -> Ints:
        """(n,) int64, the most probable class of each image; of equals the first."""
        made: Ints = self.probabilities.argmax(axis=1).astype(np.int64)
        return made

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(n,) bool, where the most probable class is the label."""
        made: npt.NDArray[np.bool_] = self.predicted == self.labels
        return made

    def check(self, *, where: str | Path) -> None:
        """Refuse predictions that cannot be what a site wrote.

        Raises
        ------
        IntegrityError
            Shapes disagree, an id comes twice, a label has no column, or a probability is not in [0, 1].
        """
        n = len(self.ids)
        if self.ids.ndim != 1 or self.labels.shape != (n,) or self.probabilities.shape[:1] != (n,):
            raise IntegrityError("ids, labels and probabilities are not of one length", where=where)
        if self.group_of_each.shape != (n,):
            raise IntegrityError("ids and groups are not of one length", where=where)
        if self.probabilities.ndim != 2 or self.probabilities.shape[1] < 2:
            raise IntegrityError("probabilities are not an (n, K) table of at least two classes", where=where)
        if len(np.unique(self.ids)) != n:
            raise IntegrityError("an image is predicted twice", where=where)
        if n and not (self.labels.min() >= 0 and self.labels.max() < self.probabilities.shape[1]):
            raise IntegrityError("a label has no column of probabilities", where=where)
        # NaN fails both comparisons, so it is refused here too.
        if not np.all((self.probabilities >= -1e-6) & (self.probabilities <= 1 + 1e-6)):
            raise IntegrityError("a probability is not between 0 and 1", where=where)


class BySite(dict[str, Predictions]):
    """Predictions of a run by site; one that is not there is refused by those that are (ConfigError)."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = run

    def __missing__(self, site: object) -> NoReturn:
        cure = f"one of {', '.join(self)}" if self else "they are there once the run has ended"
        raise ConfigError(f"has no predictions of a site {shown_value(site)}", where=self.run, cure=cure)


Sites = Mapping[str, Predictions]
"""The predictions of one run, by site."""
Runs = Sequence[Sites]
"""The predictions of several runs that differ in their seed."""


def load_predictions(run: str | Path, *, most: int | None = None) -> dict[str, Predictions]:
    """Read ``RUN/sites/*/predictions.npz``.

    Parameters
    ----------
    run
        The run's folder.
    most
        Bytes that those of one site may take in memory; None: whatever this machine has.

    Returns
    -------
    dict
        Predictions by site, in the order of the names; empty when no site has predicted yet.

    Raises
    ------
    IntegrityError
        A file is cut, does not hold what a site writes, or holds more than `most`.
    """
    found = BySite(Path(run))
    for file in sorted(found.run.glob("sites/*/predictions.npz")):
        found[file.parent.name] = _read(file, most)
    return found


def _read(file: Path, most: int | None) -> Predictions:
    try:
        stored = load_arrays(file, most=most)
        made = Predictions(
            ids=stored["ids"].astype(np.str_),
            labels=stored["labels"].astype(np.int64),
            probabilities=stored["probabilities"].astype(np.float32),
            # An older MedVeil wrote none.
            groups=stored["groups"].astype(np.str_) if "groups" in stored else None,
        )
    except (DataError, ValueError, TypeError, KeyError) as error:
        raise IntegrityError("is not a whole file of predictions", where=file, cure="evaluate again") from error
    made.check(where=file)
    return made
