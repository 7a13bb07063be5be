"""One pass over one data set: every element, at every depth, meets its action."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom import DataElement, Dataset, Sequence
from pydicom.tag import BaseTag

from crypto.deid.actions import Action, action_for, compatible, standard_vr
from crypto.deid.dates import kept_time, shifted_date, shifted_datetime
from crypto.deid.private import PrivateName, safe_tags
from crypto.deid.pseudonyms import Pseudonyms
from crypto.deid.table import chosen as chosen_action
from crypto.deid.table import code_of
from crypto.deid.values import capped_age, dummy, empty, name_of, plausible, replace, texts, texts_of

DEEPEST: Final = 32
"""Sequences nested deeper are removed: no IOD comes near, and a file made to exhaust the stack shall not succeed."""

_PIXELS: Final = 0x7FE0
_PATIENT_NAME: Final = 0x00100010
_ITEM: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
_FREE_TEXT: Final = frozenset({"LT", "ST", "UC", "UT"})
_SHIFTED: Final = {"DA": shifted_date, "DT": shifted_datetime, "TM": lambda value, _days: kept_time(value)}


def _in_a_code(tag: BaseTag) -> bool:
    """Whether an attribute is part of a code or its coding scheme, whose text is a publisher's."""
    return tag.group == 0x0008 and 0x0100 <= tag.element <= 0x0124


@dataclass
class Pass:
    """The state of one pass, and what it did: names alone, for a value never leaves a data set.

    Parameters
    ----------
    pseudonyms
        The site's.
    days
        Added to dates.
    keep
        Tags of attributes that stay as they are.
    safe
        Private attributes that stay.
    """

    pseudonyms: Pseudonyms
    days: int
    keep: Collection[int]
    safe: Collection[PrivateName]
    removed: dict[str, None] = field(default_factory=dict)
    replaced: dict[str, None] = field(default_factory=dict)
    kept: dict[int, str] = field(default_factory=dict)
    free_text: dict[str, None] = field(default_factory=dict)

    def clean(self, dataset: Dataset, *, depth: int = 0, strict: bool = False) -> None:
        """Clean a data set and all items in it, in place.

        An element that cannot be read is removed: what nobody can read, nobody can call clean.
        """
        safe = safe_tags(dataset, self.safe)
        for tag in sorted(dataset.keys()):
            if tag.element == 0:
                dataset.pop(tag)  # a group length, which the changes below make wrong
            elif tag.group == _PIXELS:
                continue  # never read here: they can be larger than memory, and are hidden, not cleaned
            elif (action := self._action(tag, tag in safe, strict=strict)) is Action.REMOVE:
                self._remove(dataset, tag)
            else:
                try:
                    self._element(dataset, tag, action, depth=depth, strict=strict)
                except Exception:  # pydicom raises nearly anything for what broken files hold
                    self._remove(dataset, tag)

    def _action(self, tag: BaseTag, safe: bool, *, strict: bool) -> Action:
        if tag.is_private:
            return Action.KEEP if safe else Action.REMOVE
        return Action.KEEP if tag in self.keep else action_for(int(tag), strict=strict)

    def _element(self, dataset: Dataset, tag: BaseTag, action: Action, *, depth: int, strict: bool) -> None:
        element = dataset[tag]
        vr = element.VR if tag.is_private else standard_vr(int(tag)) or element.VR
        if vr == "SQ" and action is not Action.EMPTY:
            self._sequence(dataset, element, depth=depth, strict=strict or action is Action.DUMMY)
        elif action is not Action.KEEP:
            self._value(dataset, element, vr, action)
        elif tag.is_private:
            self._private(dataset, element)
        elif tag in self.keep:
            self._keep(dataset, element)
        elif not compatible(element.VR, vr) or not plausible(element):
            self._remove(dataset, tag)
        elif vr in _FREE_TEXT and element.value and not _in_a_code(tag):
            self.free_text[name_of(tag)] = None

    def _sequence(self, dataset: Dataset, element: DataElement, *, depth: int, strict: bool) -> None:
        if not isinstance(element.value, Sequence) or depth >= DEEPEST:
            self._remove(dataset, element.tag)
            return
        if element.tag in self.keep and element.value:
            self.kept[int(element.tag)] = name_of(element.tag)
        for item in element.value:
            self.clean(item, depth=depth + 1, strict=strict)

    def _private(self, dataset: Dataset, element: DataElement) -> None:
        if isinstance(element.value, bytes) and element.value.startswith(_ITEM):
            self._remove(dataset, element.tag)  # a sequence that the private dictionary does not know as one
        elif element.VR in {"DA", "DT"}:
            self._value(dataset, element, element.VR, Action.SHIFT)
        elif element.VR == "UI":
            self._value(dataset, element, element.VR, Action.UID)

    def _keep(self, dataset: Dataset, element: DataElement) -> None:
        values = texts(element.value)
        if values is None:
            self._remove(dataset, element.tag)  # items under a tag that has none
        elif not plausible(element):
            self._remove(dataset, element.tag)
        elif values:
            self._keep_values(dataset, element, values)

    def _keep_values(self, dataset: Dataset, element: DataElement, values: list[str]) -> None:
        self.kept[int(element.tag)] = name_of(element.tag)
        if element.VR == "AS" and (capped := [capped_age(each) for each in values]) != values:
            self._replace(dataset, element.tag, "AS", capped)

    def _value(self, dataset: Dataset, element: DataElement, vr: str, action: Action) -> None:
        values = texts(element.value)
        if values == []:
            return
        match action:
            case Action.EMPTY:
                self._replace(dataset, element.tag, vr, empty(vr))
            case Action.DUMMY:
                self._replace(dataset, element.tag, vr, dummy(int(element.tag), vr))
            case _:
                others = self._others(dataset, element.tag, vr, action, values)
                if others != values or vr != element.VR:
                    self._converted(dataset, element.tag, vr, others)

    def _others(
        self, dataset: Dataset, tag: BaseTag, vr: str, action: Action, values: list[str] | None
    ) -> list[str | None]:
        """What stands for each value, None where nothing can."""
        if values is None:
            return [None]
        if action is Action.UID:
            return [self.pseudonyms.uid(each) for each in values]
        if action is Action.SHIFT:
            return [_SHIFTED[vr](each, self.days) for each in values]
        if tag == _PATIENT_NAME and any(identifiers := texts_of(dataset, "PatientID")):
            # Two spellings of a name, or two patients of one name, would else become two patients, or one.
            return [f"ANON^{self.pseudonyms.of('PatientID', identifiers[0])}"]
        return [self.pseudonyms.of(name_of(tag), each) for each in values]

    def _converted(self, dataset: Dataset, tag: BaseTag, vr: str, others: list[str | None]) -> None:
        if None in others:
            self._without_value(dataset, tag, vr)
        else:
            self._replace(dataset, tag, vr, others if len(others) > 1 else others[0])

    def _without_value(self, dataset: Dataset, tag: BaseTag, vr: str) -> None:
        """What becomes of a date that is none: as the table says where dates are not retained."""
        code = code_of(int(tag))
        action = "X" if code is None or tag.is_private else chosen_action(code)
        if action == "D":
            self._replace(dataset, tag, vr, dummy(int(tag), vr))
        elif action == "Z":
            self._replace(dataset, tag, vr, empty(vr))
        else:
            self._remove(dataset, tag)

    def _replace(self, dataset: Dataset, tag: BaseTag, vr: str, value: Any) -> None:
        replace(dataset, tag, vr, value)
        self.replaced[name_of(tag)] = None

    def _remove(self, dataset: Dataset, tag: BaseTag) -> None:
        if tag in dataset:
            del dataset[tag]  # `pop` would leave pydicom's note of a private block
        self.removed[name_of(tag)] = None
