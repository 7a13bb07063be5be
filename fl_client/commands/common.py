"""What several commands share: which site, and where its passphrases come from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from medveil.errors import ConfigError
from medveil.plain import tell

if TYPE_CHECKING:
    from fl_client.deployment.own_files import OwnFiles

PROG = "medveil-site"
DEFAULT = Path("site.yaml")
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def site_of(arguments: argparse.Namespace) -> OwnFiles:
    """The site; a certificate that expires soon is said on the way."""
    from fl_client.deployment.own_files import load_site  # noqa: PLC0415
    from medveil.certificates import expiry_warning, load_certificate  # noqa: PLC0415

    files = load_site(arguments.site)
    authority = files.path(files.config.ca)
    if authority.exists():
        cure = "ask the coordinator for a new invitation"
        warned = expiry_warning(load_certificate(authority), "the authority's certificate", cure=cure)
        if warned is not None:
            tell(f"warning: {warned}", error=True)
    return files


def refuse_while_running(files: OwnFiles, *, where: str, doing: str) -> None:
    """Refuse what a running site must not meet (ConfigError); `doing` says what it may be about."""
    from fl_client.deployment.supervisor import SUPERVISOR  # noqa: PLC0415
    from medveil import processes  # noqa: PLC0415

    if processes.running(files.record(SUPERVISOR)) is not None:
        raise ConfigError(f"this site runs, and {doing}", where=where, cure=f"{PROG} stop")


def confirm(question: str, *, where: str, does: str = "remove", done: str = "removed") -> None:
    """Let a person say yes before something is done; without one there must be `--yes` (ConfigError)."""
    if not sys.stdin.isatty():
        raise ConfigError("there is no terminal to ask on", where=where, cure=f"--yes {does}s it without being asked")
    tell(f"{question} [y/N] ", end="", error=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ConfigError(f"nothing was {done}", where=where, cure=f"answer y to {does} it")


class Passphrases:
    """Reads each passphrase once, and can hand on what was read."""

    def __init__(self, read: Callable[[Path | None], str]) -> None:
        self._read = read
        self.read_so_far: dict[str, str] = {}

    def __call__(self, named: Path | None) -> str:
        """The passphrase in a file, or of no file: then a credential's, the environment's or the terminal's."""
        key = "" if named is None else str(named)
        if key not in self.read_so_far:
            self.read_so_far[key] = self._read(named)
        return self.read_so_far[key]
