"""Heads that one side's audit log holds of another's: handed over in a file, they show what a chain alone cannot.

Server and sites tell each other their heads in every message. Who cuts or rewrites the end of a log has to do the same
in every log that holds its heads.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medveil.audit import ANSWERED, ASKED, REFUSED, Head, Record
from medveil.errors import ConfigError, FormatError
from medveil.files import check_format, read_json, write_json

FORMAT = "medveil-heads"
VERSION = 1
SERVER = "server"
Kept = dict[str, list[Head]]


def site(name: str) -> str:
    """What a site's heads are filed under."""
    return f"site {name}"


def kept_in(records: Iterable[Record]) -> Kept:
    """The heads of others that a log holds, by whose they are; a server holds its sites', a site the server's.

    All are kept: a log that was rewritten before it sent its newest head still differs from an older one.
    """
    found: Kept = {}
    for record in records:
        details = record["details"]
        head = details.get("head")
        if not isinstance(head, str):
            continue
        if record["event"] == ASKED:
            owner = SERVER
        elif record["event"] in {ANSWERED, REFUSED} and isinstance(details.get("site"), str):
            owner = site(details["site"])
        else:
            continue
        found.setdefault(owner, []).append(Head.parse(head))
    return found


def save_heads(path: Path, kept: Kept, *, kept_by: str) -> None:
    """Write heads for those whose logs they are of (ConfigError where there is none)."""
    if not kept:
        raise ConfigError("holds no heads of others yet", where="audit heads", cure="there are some after a run")
    heads = {owner: [str(each) for each in of] for owner, of in sorted(kept.items())}
    write_json(path, {"format": FORMAT, "version": VERSION, "kept_by": kept_by, "heads": heads})


def load_heads(path: Path, *, owner: str) -> tuple[str, list[Head]]:
    """Read who kept the heads of a log, and these.

    Parameters
    ----------
    owner
        `SERVER`, or what `site` makes of a name.

    Raises
    ------
    StorageError, FormatError
        There is no such file, or it is another one.
    ConfigError
        It holds no head of this owner's.
    """
    document = read_json(path)
    check_format(document, name=FORMAT, newest=VERSION, where=path)
    kept_by, heads = document.get("kept_by"), document.get("heads")
    if not isinstance(kept_by, str) or not isinstance(heads, dict):
        raise FormatError("is not a list of heads", where=path, cure="'audit heads --out FILE' makes one")
    own = heads.get(owner)
    if not isinstance(own, list) or not own:
        raise ConfigError(
            f"holds no head of {owner}", where=path, cure=f"it holds {', '.join(sorted(heads)) or 'none'}"
        )
    return " ".join(kept_by.split())[:80], [Head.parse(each) for each in own]
