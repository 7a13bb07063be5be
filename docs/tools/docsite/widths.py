"""Lines of code that fit the column of a page: a wider one is cut at the edge until somebody scrolls."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from docsite.places import named

WIDEST = 80
"""Letters of a line that a page shows at 1280 pixels, beside its lists of pages and contents."""

_FENCE = re.compile(r"^(```|~~~)")


def too_wide(pages: Iterable[Path]) -> list[str]:
    """Every line of code that is wider, with its place."""
    found = []
    for page in pages:
        inside = False
        for number, line in enumerate(page.read_text().splitlines(), start=1):
            if _FENCE.match(line):
                inside = not inside
            elif inside or line.startswith("    "):
                letters = len(line if inside else line[4:])
                if letters > WIDEST:
                    found.append(f"{named(page)}:{number}: {letters} letters of code; at most {WIDEST}: part the line")
    return found
