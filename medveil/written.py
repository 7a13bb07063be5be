"""Settings as a person types them: what an error or a check tells to write can be copied as it is."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from medveil.plain import shown
from medveil.yaml_core import written_yaml

_MOST = 32
# A class name of the contract, a path of Linux: what is longer is cut, and shows it.
_LONGEST = 256
_LONGEST_ALONE = 4096


def setting(key: str, value: str | Sequence[str], *, most: int = _MOST) -> str:
    """``KEY=VALUE`` as it goes behind a command: text as it is, lists in brackets; in quotes where a shell needs them.

    Parameters
    ----------
    key
        Dotted, as ``data.classes``.
    value
        A text, or a list of texts.
    most
        Of how many texts a list is told; where there are more, the cut shows.
    """
    if isinstance(value, str):
        return shlex.quote(f"{key}={shown(value, most=_LONGEST_ALONE)}")
    told = [_text(each, _LONGEST) for each in value[:most]] + (["..."] if len(value) > most else [])
    return shlex.quote(f"{key}=[{', '.join(told)}]")


def _text(value: str, most: int) -> str:
    """A text of a list, in YAML's double quotes where it would be read as more than that text."""
    return _yaml(value) if value.isprintable() and len(value) <= most else f'"{shown(value, most=most)}"'


def _yaml(value: str) -> str:
    made = written_yaml([value], flow=True, unicode=True).strip()[1:-1]
    # YAML's double quotes are JSON's, and a shell's single quotes go around them.
    return json.dumps(value, ensure_ascii=False) if made.startswith("'") else made
