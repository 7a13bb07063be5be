"""Sections of a model card and of a data card: their order, and what belongs into each, for a card and a template.

Those of a model are of Mitchell et al., "Model Cards for Model Reporting", FAT* 2019 (arXiv 1810.03993); those of data
of Pushkarna, Zaldivar and Kjartansson, "Data Cards", FAccT 2022 (arXiv 2204.01075), as far as a site can fill them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Section(NamedTuple):
    """A heading, and what to write below it."""

    heading: str
    asks: str


MODEL = (
    Section(
        "Model details", "Architecture, parameters, versions, who trained it, with whom, when, under which policy."
    ),
    Section("Use without MedVeil", "Lines that load it, and how pixels are prepared for it."),
    Section("Intended use", "What it was made for, on whose images; and what it must not be used for."),
    Section("Factors", "Groups its figures were taken for: age, sex, scanner, site. Or that none were."),
    Section(
        "Metrics and evaluation data", "Figures with their interval, on how many images that it never saw, of whom."
    ),
    Section("Calibration", "How its probabilities were fitted, on what, and how far off they are."),
    Section("Training data", "Whose images, how many of each class, and where their card is."),
    Section("Privacy", "What a holder of the model may learn of those images, what bounds it, what was tried."),
    Section("Limits", "What it does wrong, what was not measured, what would make it worse."),
)
DATA = (
    Section("Composition", "Images of each class in each part; small counts are not shown."),
    Section("Preparation", "Kind and size, window, what was left out and why, what every split keeps together."),
    Section(
        "Collection, consent and demographics", "Where, when, on which scanners, of whom; consent or other ground."
    ),
    Section("Labels", "Who gave them, from what, how they were checked, how often two people disagreed."),
)


def laid_out(sections: Iterable[Section], texts: Mapping[str, str]) -> list[str]:
    """The sections that have a text, each below its heading, in order.

    Raises
    ------
    KeyError
        A text is of no section.
    """
    known = list(sections)
    lost = set(texts) - {each.heading for each in known}
    if lost:
        raise KeyError(*sorted(lost))
    return [f"## {each.heading}\n\n{texts[each.heading]}" for each in known if each.heading in texts]


def template(title: str, sections: Iterable[Section]) -> str:
    """A card in which everything is still to be written, as Markdown."""
    blank = laid_out(known := list(sections), {each.heading: f"[{each.asks}]" for each in known})
    return "\n\n".join([f"# {title}", *blank]) + "\n"
