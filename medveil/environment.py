"""The environment of Flower's processes: offline, with a Flower home of their own, and our programs on the path."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from medveil.flower import OFFLINE

HERE = "127.0.0.1"
_DIRECT = (HERE, "localhost", "::1")


def flower_environment(home: Path, **more: str) -> dict[str, str]:
    """Make the environment of this process fit for Flower's programs.

    Parameters
    ----------
    home
        Flower's own folder; it must not be shared with another consortium or site.
    **more
        Further variables.
    """
    programs = str(Path(sys.executable).parent)
    proxied = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    # A proxy for the way out must not be asked for this machine.
    direct = ",".join(dict.fromkeys([*(each for each in proxied.split(",") if each), *_DIRECT]))
    return {
        **os.environ,
        **OFFLINE,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(home),
        "NO_PROXY": direct,
        "no_proxy": direct,
        **more,
    }
