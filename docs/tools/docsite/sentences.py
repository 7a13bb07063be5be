"""No sentence twice: what is said in one place is linked from the others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from docsite.places import named
from docsite.prose import blocks

_END = re.compile(r"(?<=[.!?])[\"')]*\s+|\s\|\s")
_LEAST, _LEAST_OF_A_CELL = 6, 10
"""Words that may not be said twice; shorter sentences are formulas ('It says so.'), and cells of a table are alike."""


def repeated(pages: Iterable[Path]) -> list[str]:
    """Every sentence that stands twice, with both places."""
    seen: dict[str, str] = {}
    found = []
    for page in pages:
        for line, text in blocks(page.read_text()):
            for sentence in _END.split(text):
                words = re.findall(r"[^\W\d_]+", sentence.lower())
                if len(words) < (_LEAST if sentence.endswith((".", "!", "?")) else _LEAST_OF_A_CELL):
                    continue
                place, key = f"{named(page)}:{line}", " ".join(words)
                if key in seen:
                    found.append(f"{place}: says again what {seen[key]} says: {sentence[:100]}")
                seen.setdefault(key, place)
    return found
