"""The text of a page without what is no prose: code, figures, comments, marks."""

from __future__ import annotations

import re
from collections.abc import Iterator

_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
_RESULTS = re.compile(r"^<!-- (results|measured|rows)\b.*?^<!-- /\1 -->", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_INDENTED = re.compile(r"^ {4}(?! *[-*0-9]).*$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def without_code(text: str) -> str:
    """The page with code blocks, tables of results and comments blanked, every line where it was."""
    for pattern in (_FENCE, _RESULTS, _COMMENT, _INDENTED):
        text = pattern.sub(lambda match: "\n" * match[0].count("\n"), text)
    return text


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, items of lists and rows of tables, each with the number of its first line."""
    gathered: list[str] = []
    first = 0
    for number, line in enumerate([*without_code(text).splitlines(), ""], start=1):
        stripped = line.strip()
        begins = not stripped or stripped[0] in "|#" or re.match(r"([-*]|\d+\.) ", stripped)
        if begins and gathered:
            yield first, _plain(" ".join(gathered))
            gathered = []
        if stripped.startswith("|"):
            yield number, _plain(stripped.strip("|"))
        elif stripped and not stripped.startswith("#"):
            first = first if gathered else number
            gathered.append(re.sub(r"^([-*]|\d+\.) +", "", stripped))


def _plain(text: str) -> str:
    return re.sub(r"[*`_]", "", _LINK.sub(r"\1", text)).strip()
