"""What is known of one image before it is decoded, and of a file that was left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from medveil.errors import DataError, MedVeilError
from medveil.plain import shown

UNLABELLED = ("unlabelled",)
"""The classes of images without labels: all of one that is none."""
_MOST_REASONS = 5
_MOST_NAMED = 3


class Item(NamedTuple):
    """One image of a source.

    `id` is unique within the source and stays the same between runs; `label` indexes `Source.classes`; images of one
    `group` (a patient) must not be separated; `split` is the official part (train, validation, test), if there is one;
    `site` is the hospital the file names, if it does.
    """

    id: str
    label: int
    group: str | None = None
    split: str | None = None
    site: str | None = None


class Skipped(NamedTuple):
    """A file that was left out, and why."""

    path: str
    reason: str


def said(error: MedVeilError) -> str:
    """Why a file is left out: what is wrong with it and what would be right, as `medveil-crypto` says it."""
    return " ".join((error.problem if error.cure is None else f"{error.problem}; {error.cure}").split())


def by_reason(left: Iterable[tuple[str, str]]) -> list[str]:
    """Files that are left out, in a few words however many they are: a phrase a reason, the commonest first.

    Parameters
    ----------
    left
        Name and reason of each.
    """
    names: dict[str, list[str]] = {}
    for name, reason in left:
        names.setdefault(reason, []).append(name)
    ordered = sorted(names.items(), key=lambda each: -len(each[1]))
    made = [f"{_some(found)} ({shown(reason)})" for reason, found in ordered[:_MOST_REASONS]]
    more = sum(len(found) for _, found in ordered[_MOST_REASONS:])
    return [*made, *([f"{more} more for other reasons"] if more else [])]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{', '.join(shown(name) for name in names[:_MOST_NAMED])}{more}"


class OneClassError(DataError):
    """Images of one class alone, where nothing names the others: no task by itself, and a site's part of one.

    `found` is the class.
    """

    found: str = ""


def one_class(problem: str, found: str, *, where: object, cure: str | None = None) -> OneClassError:
    """The error for images that are all of the class `found`."""
    error = OneClassError(problem, where=str(where), cure=cure)
    error.found = found
    return error


def group_names(items: Iterable[Item]) -> dict[str, str]:
    """What names the group of each image, by the image's id: the id of its first image, its own where it has no group.

    So a group is called the same at every site and in every run, and no patient is named.
    """
    first: dict[str, str] = {}
    return {item.id: item.id if item.group is None else first.setdefault(item.group, item.id) for item in items}
