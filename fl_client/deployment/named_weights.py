"""How a site names the pre-trained weights that runs may begin from."""

from __future__ import annotations

import re
from pathlib import Path

from medveil.config import check_setting

ANY = "any"
WHERE = "limits.weights"
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


def check_weights(named: list[str], where: str | Path) -> None:
    """Refuse a limit that is no list of digests, and not ``any`` alone (ConfigError)."""
    for each in named:
        right = each == ANY or _DIGEST.fullmatch(each) is not None
        check_setting(right, WHERE, each, f"the SHA-256 of a file, 64 hex digits, or {ANY}", where)
    check_setting(ANY not in named or len(named) == 1, WHERE, named, f"digests, or {ANY} alone", where)
