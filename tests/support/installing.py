"""Install MedVeil with an extra: ``python tests/support/installing.py EXTRA``, by uv, in a sixth of pip's time.

uv does not read pip's settings, so it is told them. Where it cannot be had or does not get through, pip does it all.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
OPTIONS = {"constraint", "index-url", "extra-index-url", "find-links", "no-index"}
_PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "-c", "constraints.txt"]


def pips_settings(listed: str) -> dict[str, str]:
    """What ``pip config list`` prints, by the names of its options; what the environment says counts most."""
    lines = sorted((line for line in listed.splitlines() if "=" in line), key=lambda line: line.startswith(":env:"))
    rows = (line.partition("=") for line in lines)
    return {name.rpartition(".")[2]: str(ast.literal_eval(value)) for name, _, value in rows}


def sources(settings: dict[str, str]) -> list[str]:
    """The same places to look for packages, and what they are held to, as options of uv."""
    made = ["--index-strategy", "unsafe-best-match"]
    for name in sorted(OPTIONS & settings.keys()):
        if name == "no-index":
            made += ["--no-index"] if settings[name].lower() in {"1", "true", "yes", "on"} else []
        else:
            made += [word for place in settings[name].split() for word in (f"--{name}", place)]
    return made


def main(extra: str) -> int:
    """Install it; the exit code of whoever did."""
    wanted = ["-c", "constraints.txt", "-e", f".[{extra}]"]
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    settings = pips_settings(listed.stdout)
    environment = {"SSL_CERT_FILE": settings["cert"], **os.environ} if "cert" in settings else dict(os.environ)
    if subprocess.run([*_PIP, "uv"], cwd=CHECKOUT, check=False).returncode == 0:
        uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--python", sys.executable]
        done = subprocess.run([*uv, *sources(settings), *wanted], cwd=CHECKOUT, env=environment, check=False)
        if done.returncode == 0:
            return 0
        print("uv did not get through; pip does it")
    return subprocess.run([*_PIP, *wanted[2:]], cwd=CHECKOUT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
