"""What somebody else sent, in an error of ours: short, in ASCII, and never built in full first."""

from __future__ import annotations

LONGEST = 64
_LARGEST = 2**64
_ITEMS = 6


def shown_value(value: object) -> str:
    """A value as Python would write it, cut where it is long.

    Parameters
    ----------
    value
        Anything; what is no text, number or list of such is shown by its type alone.

    Returns
    -------
    str
        Printable ASCII, some 500 letters at most.
    """
    if isinstance(value, str):
        return f"{value[:LONGEST]!a}{'...' if len(value) > LONGEST else ''}"
    if isinstance(value, list | tuple):
        return _items(value)
    if isinstance(value, int) and not -_LARGEST < value < _LARGEST:
        # Python itself refuses to write one of more than 4,300 digits.
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, int | float):
        return repr(value)
    return f"of type {type(value).__name__[:LONGEST]!a}"


def _items(value: list[object] | tuple[object, ...]) -> str:
    first = ["a list" if isinstance(each, list | tuple) else shown_value(each) for each in value[:_ITEMS]]
    more = [f"... {len(value)} in all"] if len(value) > _ITEMS else []
    opening, closing = ("(", ")") if isinstance(value, tuple) else ("[", "]")
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    return f"{opening}{', '.join([*first, *more])}{comma}{closing}"
