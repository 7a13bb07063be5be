"""What keeps a site from its server: one answer, for `check`, `start`, `status` and the site's own log.

The node says little of it: Flower's tries again in silence where the server is away or its certificate does not count,
and ends without a word of the clock where that is off. So the server is greeted the way the node goes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from fl_client.deployment import node_log
from fl_client.deployment.greeting import Greeting, greet, refuse_clock
from fl_client.deployment.own_files import OwnFiles
from medveil import node_keys
from medveil.certificates import load_certificate
from medveil.errors import MedVeilError, StorageError

LEAST_FREE = 10**8
"""Bytes without which nothing can be kept: logs, stems and the store of a run."""


class Free(NamedTuple):
    """Bytes that are free, and where."""

    bytes: int
    place: Path


def greeting_of(files: OwnFiles) -> Greeting:
    """Greet the site's server as its node would; errors as `greet`."""
    return greet(files.config.server, files.path(files.config.ca), files.environment())


def refuse_unready(files: OwnFiles) -> None:
    """Refuse to start a site that could not be let in, whatever its server does.

    Raises
    ------
    StorageError, FormatError, ConfigError
        The node's key or the authority's certificate is missing or none.
    """
    node_keys.load_private(files.path(files.config.node_key))
    load_certificate(files.path(files.config.ca))


def refuse_no_images(files: OwnFiles) -> None:
    """Refuse a site whose ``data.path`` is not there (StorageError)."""
    path = Path(str(files.data.path))
    if not path.exists():
        cure = "set data.path to the folder or file of the images, and see that it is mounted"
        raise StorageError("the images are not there", where=path, cure=cure)


def refuse_full_disk(files: OwnFiles, *, needed: int = LEAST_FREE) -> Free:
    """What is free where the site keeps its state; a disk without room for what it needs is refused (StorageError)."""
    place = next(path for path in (files.state, *files.state.parents) if path.exists())
    free = Free(shutil.disk_usage(place).free, place)
    if free.bytes < max(needed, LEAST_FREE):
        problem = f"{free.bytes / 1e9:.1f} GB free at {place}, {max(needed, LEAST_FREE) / 1e9:.2f} GB are needed"
        raise StorageError(problem, cure="free some space, or name another 'state_dir'")
    return free


def warnings_of(files: OwnFiles) -> list[str]:
    """What would keep a site that starts from training."""
    found = []
    for refuse in (refuse_no_images, refuse_full_disk):
        try:
            refuse(files)
        except MedVeilError as error:
            found.append(str(error))
    return found


def why_not_in(files: OwnFiles, *, let_in: bool = False) -> str:
    """Why the site's node is not in session with its server.

    Parameters
    ----------
    files
        The site.
    let_in
        Whether the node is known to have been let in before it ended.
    """
    known = node_log.known_reason(files.node_log)
    return known or _what_stops(files) or node_log.why_it_ended(files.node_log, let_in=let_in)


def _what_stops(files: OwnFiles) -> str | None:
    try:
        refuse_clock(greeting_of(files), server=files.config.server)
    except MedVeilError as error:
        return error.problem if error.cure is None else f"{error.problem}; {error.cure}"
    return None
