"""A run that counts images before anything trains: histograms, and neither a model nor an update.

Every image counts once in each histogram, so that a number says how many images, and sums over sites are sums of them.
Cells are fixed here or named in the run: a site puts none of its own words into an answer. What of a cell may leave,
`fl_client.counting` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medveil.errors import ConfigError, PolicyError

STATISTICS = "statistics"
CLASSES, AGES, SCANNERS, INTENSITIES = HISTOGRAMS = ("classes", "ages", "scanners", "intensities")
COUNTS, FLOOR = "counts", "smallest"
"""Record of a reply: a list of numbers for each histogram, and the site's ``limits.smallest_count``."""
BINS = (8, 16, 32, 64)
"""Numbers of bins that may be asked for: each halves those before it, so that two tell no more than the finer."""
LEVELS = 256
"""Grey values of an image as sites prepare it: 8 bit."""
DECADES, EDGE = 10, 90
"""Years of a bin of ages, and the age from which all are one (45 CFR 164.514(b)(2)(i)(C) asks for that)."""
OTHER, NOT_STATED = "other", "not stated"
MOST_SCANNERS, MOST_CLASSES = 64, 512
MOST_CELLS = MOST_CLASSES + MOST_SCANNERS + 2 + EDGE // DECADES + 2 + BINS[-1]
"""Most numbers that one run can ask of a site."""
MAKERS = (
    "Agfa",
    "Canon",
    "Carestream",
    "Esaote",
    "Fuji",
    "Fujifilm",
    "GE",
    "Hitachi",
    "Hologic",
    "Kodak",
    "Konica",
    "Mindray",
    "Philips",
    "Samsung",
    "Shimadzu",
    "Siemens",
    "Toshiba",
    "UIH",
    "Varian",
)
"""Makers of scanners as files begin to name them (0008,0070)."""
_LONGEST = 64


@dataclass
class StatisticsConfig:
    """What a run of statistics counts, the same at every site."""

    histograms: list[str] = field(
        default_factory=lambda: list(HISTOGRAMS),
        metadata={"help": f"What task statistics counts: any of {', '.join(HISTOGRAMS)}."},
    )
    bins: int = field(
        default=BINS[-2],
        metadata={"help": f"Bins of intensities, 0 to 255: {', '.join(map(str, BINS))}; ages have decades up to 90."},
    )
    scanners: list[str] = field(
        default_factory=lambda: list(MAKERS),
        metadata={
            "help": "Scanners to count, as MAKER or MAKER/MODEL, in the first words of what files say; all others "
            f"are 'other'. At most {MOST_SCANNERS}."
        },
    )

    def check(self, *, where: str = STATISTICS) -> None:
        """Refuse values out of range (ConfigError)."""
        known = bool(self.histograms) and set(self.histograms) <= {*HISTOGRAMS}
        once = len(set(self.histograms)) == len(self.histograms)
        _check(known and once, "histograms", f"any of {', '.join(HISTOGRAMS)}, each once", where)
        _check(self.bins in BINS, "bins", f"one of {', '.join(map(str, BINS))}", where)
        words = [scanner_words(each) for each in self.scanners]
        taken = {scanner_words(each) for each in (OTHER, NOT_STATED)}
        right = len(words) <= MOST_SCANNERS and all(maker for maker, _ in words) and len({*words} - taken) == len(words)
        short = all(len(each) <= _LONGEST and each.isprintable() for each in self.scanners)
        cure = f"up to {MOST_SCANNERS} different MAKER or MAKER/MODEL of up to {_LONGEST} printable characters"
        _check(right and short, "scanners", cure, where)

    @property
    def in_words(self) -> str:
        """What is counted, for people."""
        more = {INTENSITIES: f" ({self.bins} bins)", SCANNERS: f" ({len(self.scanners)} named ones)"}
        return ", ".join(f"{each}{more.get(each, '')}" for each in self.ordered)

    @property
    def ordered(self) -> list[str]:
        """The histograms in the order in which they are told."""
        return [each for each in HISTOGRAMS if each in self.histograms]

    def cells(self, classes: Sequence[str]) -> dict[str, list[str]]:
        """The cells of each histogram, by name, in order; `classes` are the run's."""
        width = LEVELS // self.bins
        every = {
            CLASSES: list(classes),
            AGES: [*(f"{low}-{low + DECADES - 1}" for low in range(0, EDGE, DECADES)), f"{EDGE}+", NOT_STATED],
            SCANNERS: [*self.scanners, OTHER, NOT_STATED],
            INTENSITIES: [f"{low}-{low + width - 1}" for low in range(0, LEVELS, width)],
        }
        return {name: every[name] for name in self.ordered}


def in_a_row(found: Mapping[str, Sequence[float]]) -> list[float]:
    """The numbers of all histograms, one behind the other, in the order of `HISTOGRAMS`."""
    return [number for name in HISTOGRAMS if name in found for number in found[name]]


def from_a_row(numbers: Sequence[float], cells: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """What `in_a_row` put in one, for the cells of each histogram."""
    made, start = dict[str, list[float]](), 0
    for name, listed in cells.items():
        made[name] = list(numbers[start : start + len(listed)])
        start += len(listed)
    return made


def scanner_words(named: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of a scanner's maker and of its model, as they are compared: letters and digits, in one case."""
    maker, _, model = named.partition("/")
    return _words(maker), _words(model)


def age_cell(years: float | None) -> str:
    """The cell of an age in years; None where it is not known."""
    if years is None:
        return NOT_STATED
    low = int(years) // DECADES * DECADES
    return f"{EDGE}+" if low >= EDGE else f"{low}-{low + DECADES - 1}"


def check_statistics(settings: Mapping[str, Any], *, rounds: int, private: bool, where: str) -> None:
    """Refuse what a run that only counts has no use for.

    Parameters
    ----------
    settings
        Sections of the run by name, empty where it has none.
    rounds, private
        Of the run.

    Raises
    ------
    ConfigError, PolicyError
        One line, with what would be right.
    """
    if private:
        problem = "'privacy' is on: it covers what training gives away, no noise covers counts, and nothing trains"
        raise PolicyError(f"{problem} (task {STATISTICS})", where=where, cure="privacy.unit=none")
    if rounds != 1:
        problem = f"'rounds' is not 1, and images are counted once (task {STATISTICS})"
        raise ConfigError(problem, where=where, cure="rounds=1")
    set_ = next((name for name, value in settings.items() if value), None)
    if set_ is not None:
        problem = f"'{set_}' is set, and nothing trains, is hidden or is predicted (task {STATISTICS})"
        raise ConfigError(problem, where=where, cure="leave it out")


def _words(text: str) -> tuple[str, ...]:
    return tuple("".join(each if each.isalnum() else " " for each in text.casefold()).split())


def _check(right: bool, name: str, cure: str, where: str) -> None:
    if not right:
        raise ConfigError(f"'{name}' is out of its range", where=where, cure=cure)
