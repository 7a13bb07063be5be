"""What is said of a set of images as a whole: classes too small to be learned or tested, a group that is nearly all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from fl_client.data.config import SIMILAR
from fl_client.data.items import Item
from medveil.plain import shown

_MOST_TOLD = 5
_LONGEST = 80
_LARGE = 0.5
_ALIKE = f"{SIMILAR}:"
_FEW = 8


def said_of_classes(items: Sequence[Item], classes: Sequence[str], named: Iterable[str], *, parts: int) -> list[str]:
    """One sentence a kind of class that cannot be both learned and tested.

    Parameters
    ----------
    named
        Every class that a folder or a table names.
    parts
        How many of train, validation and test there are to be.
    """
    images = Counter(item.label for item in items)
    groups: dict[int, set[object]] = {}
    for index, item in enumerate(items):
        groups.setdefault(item.label, set()).add(index if item.group is None else item.group)
    without = [*(name for name in named if name not in classes), *_where(classes, images, 0)]
    single = _where(classes, images, 1)
    together = [name for label, name in enumerate(classes) if images[label] > 1 and len(groups[label]) == 1]
    rare = [name for label, name in enumerate(classes) if 1 < len(groups.get(label, ())) < parts]
    said = [
        (without, "{} no image that can be used"),
        (single, "{} one image only: it is never both learned from and tested on"),
        (together, "{} one group of images only: it is never both learned from and tested on"),
        (rare, f"{{}} fewer than {parts} groups of images: not every part of the split gets one"),
    ]
    said += [(names, f"{{}} no {part} image, though others have") for part, names in _absent(items, classes, images)]
    return [sentence.format(_classes(names)) for names, sentence in said if names]


def _absent(items: Sequence[Item], classes: Sequence[str], images: Counter[int]) -> Iterator[tuple[str, list[str]]]:
    """Of each part that a data set brings, the classes it has no image of, but for those that are too small."""
    found: dict[str, set[int]] = {}
    for item in items:
        if item.split is not None:
            found.setdefault(item.split, set()).add(item.label)
    for part, present in sorted(found.items()):
        if len(found) > 1:
            yield part, [name for label, name in enumerate(classes) if label not in present and images[label] > 1]


def said_of_no_test(items: Iterable[Item], test: float) -> list[str]:
    """That nothing is tested, where there is no test part: a choice, and one to know of before a run."""
    if test > 0 or any(item.split == "test" for item in items):
        return []
    return [
        "data.test is 0: no image is tested on, and there will be no scores, intervals or calibration of test images"
    ]


def said_of_similar(groups: tuple[float, int, int], *, images: int) -> str:
    """What joining images that look alike came to: by which correlation, into how many groups, the largest of which."""
    threshold, count, largest = groups
    told = f"{images} images in {count} groups, the largest of {largest}"
    return f"images that look alike (correlation above {threshold:g}) stay together: {told}"


def said_of_groups(items: Sequence[Item]) -> list[str]:
    """That one group holds most images, where it does: a placeholder, as anonymised sets have it, and no patient."""
    groups = Counter(item.group for item in items if item.group is not None)
    if not groups or len(items) < _FEW:
        return []
    name, times = groups.most_common(1)[0]
    if times <= _LARGE * len(items):
        return []
    if name is not None and name.startswith(_ALIKE):
        told = f"{times} of {len(items)} images look alike, directly or through others, and stay in one part"
        return [f"{told}: raise data.similar"]
    if len(groups) < 2:
        return []
    told = f"group '{shown(name, most=_LONGEST)}' holds {times} of {len(items)} images, which stay in one part"
    return [f"{told}: if it is no patient, set data.group_by to what tells patients apart, or to none"]


def _where(classes: Sequence[str], images: Counter[int], times: int) -> list[str]:
    return [name for label, name in enumerate(classes) if images[label] == times]


def _classes(names: Sequence[str]) -> str:
    told = ", ".join(f"'{shown(name, most=_LONGEST)}'" for name in names[:_MOST_TOLD])
    more = f" and {len(names) - _MOST_TOLD} more" if len(names) > _MOST_TOLD else ""
    return f"class {told} has" if len(names) == 1 else f"classes {told}{more} have"


def said_of_ungrouped(count: int, images: int, group_by: str) -> tuple[str, ...]:
    """How many of the images lack what they are grouped by, where some do."""
    return (f"{count} of {images} images carry no {group_by}: each counts as a group of its own",) if count else ()
