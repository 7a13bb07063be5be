"""Tables in a record of Flower's, which holds no lists within lists: a list a column, each cell bounded before use.

A record comes from the other side, so that it may be anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from medveil.errors import FederationError
from medveil.secagg.roster import MOST

Is: TypeAlias = Callable[[object], bool]
_LONGEST_NAME = 64
_MOST_NUMBER = 2**62
_SAME = "server and site need the same MedVeil"


def is_name(value: object) -> bool:
    """Whether it may name a site; that there is one is another question."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME


def is_number(value: object) -> bool:
    """Whether it is a whole number, 0 or more."""
    return type(value) is int and 0 <= value <= _MOST_NUMBER


def is_bytes(*lengths: int) -> Is:
    """Whether it is so many bytes."""
    return lambda value: isinstance(value, bytes) and len(value) in lengths


def table(rows: Iterable[Sequence[Any]], names: Iterable[str]) -> dict[str, Any]:
    """Rows as columns of these names."""
    listed = list(rows)
    return {name: [row[place] for row in listed] for place, name in enumerate(names)}


def rows_in(record: Mapping[str, Any], kinds: Mapping[str, Is], *, what: str) -> list[tuple[Any, ...]]:
    """The rows of a table, in the order of `kinds`.

    Parameters
    ----------
    record
        What came; it must hold these columns and nothing else.
    kinds
        What each column's cells are. The first names the rows, none twice.
    what
        What the record is called, for the error.

    Raises
    ------
    FederationError
        It is nothing of the kind, or longer than any roster.
    """
    columns = [record.get(name) for name in kinds]
    lists = [each for each in columns if isinstance(each, list)]
    if record.keys() != kinds.keys() or len(lists) != len(kinds) or len({len(each) for each in lists}) != 1:
        raise _odd(what)
    if len(lists[0]) > MOST:
        raise _odd(what)
    right = all(all(map(is_kind, cells)) for is_kind, cells in zip(kinds.values(), lists, strict=True))
    if not right or len(set(lists[0])) != len(lists[0]):
        raise _odd(what)
    return list(zip(*lists, strict=True))


def fields_in(record: Mapping[str, Any], kinds: Mapping[str, Is], *, what: str) -> list[Any]:
    """The values of a record that has these fields and nothing else, in their order (FederationError otherwise)."""
    if record.keys() != kinds.keys() or not all(is_kind(record[name]) for name, is_kind in kinds.items()):
        raise _odd(what)
    return [record[name] for name in kinds]


def _odd(what: str) -> FederationError:
    return FederationError(f"its record '{what}' is not what it should be", cure=_SAME)
