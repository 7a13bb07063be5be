"""Removal of elements from a data set and from the items of its sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag

from crypto.dicom.authentic import vr_of


def remove(dataset: Dataset, unwanted: Callable[[BaseTag], bool]) -> None:
    """Delete every element whose tag is unwanted, at any depth."""
    for each in datasets(dataset):
        for tag in [tag for tag in tags(each) if unwanted(tag)]:
            del each[tag]


def datasets(dataset: Dataset) -> Iterator[Dataset]:
    """The data set itself and all items of its sequences, outer ones first. Other elements stay undecoded."""
    yield dataset
    for tag in tags(dataset):
        # An outer caller may have deleted it meanwhile.
        if tag in dataset and vr_of(dataset.get_item(tag)) == "SQ":
            for item in dataset[tag].value or ():
                yield from datasets(item)


def tags(dataset: Dataset) -> list[BaseTag]:
    """The tags of a data set; iterating over it would decode its elements."""
    return list(dataset.keys())


def tags_of(*keywords: str) -> frozenset[int]:
    """The tags of keywords."""
    found = {keyword: tag_for_keyword(keyword) for keyword in keywords}
    unknown = [keyword for keyword, tag in found.items() if tag is None]
    if unknown:
        raise ValueError(f"{unknown} are no DICOM keywords")
    return frozenset(tag for tag in found.values() if tag is not None)
