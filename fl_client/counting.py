"""What a site answers where images are counted: one number a cell, and none that is of a few patients.

Each image adds 1 to each histogram; to intensities it adds to each bin the share of its pixels. Of a cell

- nothing is told (0) with fewer than `smallest` patients in it, or with images worth fewer: by what the site's
  ``data.group_by`` knows of patients, each image a patient of its own where nothing does;
- else the images are told rounded down to a multiple of `smallest`.

So 0 means none, or too few, and no answer says which; every other number is a lower bound. There is no total that would
tell what was left out, and extremes are not told: ages of 90 and above are one cell, and percentiles are read from the
rounded numbers. All this is done before masks, where answers are summed under them: a sum adds what sites would tell.

A run's scanners are a server's to choose: whoever asks again with other names, or of fewer images a week later, can
compare two answers. Each is rounded by itself, so that a difference of less than `smallest` shows at most as one step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

from fl_client.counting_site import CountingSite
from fl_client.data.base import Source
from fl_client.leaving import Leaving
from medveil.counting import AGES, CLASSES, INTENSITIES, LEVELS, NOT_STATED, OTHER, SCANNERS, age_cell, scanner_words
from medveil.errors import DataError
from medveil.log import logger

Shares = npt.NDArray[np.float64]
"""(cells,), what an image adds to each: together 1."""
_AGE = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)\s*([DWMY]?)", re.IGNORECASE)
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}
_OLDEST = 150
_log = logger("site")


def counted(site: CountingSite) -> dict[str, list[float]]:
    """The histograms a run asks for, as they leave: a number a cell, in the order of `StatisticsConfig.cells`.

    Images that cannot be read count in no histogram; the site's log says how many there are.
    """
    cells = site.asked.cells(site.run.classes)
    ways = {name: _way(name, listed, site) for name, listed in cells.items()}
    shares: dict[str, list[Shares]] = {name: [] for name in cells}
    read: list[int] = []
    for index in site.indices.tolist():
        try:
            made = {name: way(index) for name, way in ways.items()}
        except DataError as error:
            _log.info("%s: not counted: %s", site.setup.name, error)
            continue
        read.append(index)
        for name, share in made.items():
            shares[name].append(share)
    left = len(site.indices) - len(read)
    if left:
        _log.warning("%s: %d images could not be read, and count in nothing", site.setup.name, left)
    names = site.source.group_names([site.source.items[i].id for i in read])
    numbers = np.unique(names, return_inverse=True)[1] if names else np.zeros(0, dtype=np.int64)
    return {
        name: told(np.array(shares[name]).reshape(len(read), len(listed)), numbers, site.setup.leaving)
        for name, listed in cells.items()
    }


def told(shares: npt.NDArray[np.float64], patients: npt.NDArray[np.int64], leaving: Leaving) -> list[float]:
    """What is told of each cell.

    Parameters
    ----------
    shares
        (n, cells), what each image adds.
    patients
        (n,), a number for the patient of each.
    leaving
        The site's floor.
    """
    worth = shares.sum(axis=0)
    if leaving.everything:
        return [float(each) for each in worth]
    within = [len(np.unique(patients[shares[:, cell] > 0])) for cell in range(shares.shape[1])]
    # A sum of shares that is a whole number may come out a hair below it.
    whole = [leaving.count(int(each + 1e-6)) for each in worth]
    return [float(count if many >= leaving.smallest else 0) for count, many in zip(whole, within, strict=True)]


def age_of(source: Source, index: int) -> float | None:
    """Years of an image's patient, by its stated age, or its dates of birth and study; None where neither is."""
    found = _AGE.fullmatch(source.stated(index, "PatientAge").strip())
    if found is not None:
        years = float(found[1]) * _YEARS[found[2].upper()]
    else:
        born, seen = (_date(source.stated(index, name)) for name in ("PatientBirthDate", "StudyDate"))
        if born is None or seen is None:
            return None
        years = (seen - born).days / 365.25
    return years if 0 <= years <= _OLDEST else None


def scanner_cell(maker: str, model: str, named: Sequence[str]) -> str:
    """Which of the named scanners one is: that which says most of it; else `OTHER`, or `NOT_STATED`."""
    own_maker, own_model = scanner_words(f"{maker.replace('/', ' ')}/{model}")
    if not own_maker:
        return NOT_STATED
    fits = []
    for each in named:
        wanted_maker, wanted_model = scanner_words(each)
        if own_maker[: len(wanted_maker)] == wanted_maker and own_model[: len(wanted_model)] == wanted_model:
            fits.append((len(wanted_maker) + len(wanted_model), each))
    return max(fits)[1] if fits else OTHER


def _way(name: str, cells: Sequence[str], site: CountingSite) -> Callable[[int], Shares]:
    """How an image is shared among the cells of a histogram."""
    source, place = site.source, {cell: number for number, cell in enumerate(cells)}

    def at(number: int) -> Shares:
        made = np.zeros(len(cells))
        made[number] = 1.0
        return made

    def scanner(index: int) -> Shares:
        maker, model = (source.stated(index, each) for each in ("Manufacturer", "ManufacturerModelName"))
        return at(place[scanner_cell(maker, model, site.asked.scanners)])

    def intensities(index: int) -> Shares:
        pixels = source.decoded(index)
        found = np.bincount(pixels.reshape(-1), minlength=LEVELS).reshape(len(cells), -1).sum(axis=1)
        return np.asarray(found / pixels.size, dtype=np.float64)

    ways: dict[str, Callable[[int], Shares]] = {
        CLASSES: lambda index: at(source.items[index].label),
        AGES: lambda index: at(place[age_cell(age_of(source, index))]),
        SCANNERS: scanner,
        INTENSITIES: intensities,
    }
    return ways[name]


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        return None
