"""Words that no line parts: options and names at their hyphens, as `--seal`, and an interval between its ends."""

from __future__ import annotations

import re

LONGEST = 28
"""Letters of a word that is kept whole: a longer one would not fit beside others on a telephone."""

_BLOCK = re.compile(r"(<pre.*?</pre>)", re.DOTALL)
_CODE = re.compile(r"(<code>)([^<]*)(</code>)")
_HYPHENATED = re.compile(r"[^\s<>&;]*-[^\s<>&;]*")
_INTERVAL = re.compile(r"\[[-+−]?[\d.]+, [-+−]?[\d.]+\](?![^<]*</code>)")


def keep_whole(html: str) -> str:
    """The same page, intervals and short words with hyphens in inline code marked as ``whole``; blocks of code stay."""
    parts = _BLOCK.split(html)
    return "".join(
        each if number % 2 else _INTERVAL.sub(_whole, _CODE.sub(_marked, each)) for number, each in enumerate(parts)
    )


def _marked(found: re.Match[str]) -> str:
    return found[1] + _HYPHENATED.sub(_whole, found[2]) + found[3]


def _whole(word: re.Match[str]) -> str:
    return f'<span class="whole">{word[0]}</span>' if len(word[0]) <= LONGEST else word[0]
