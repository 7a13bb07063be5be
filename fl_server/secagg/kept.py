"""An attempt that sites agreed to, on the server's disk: a server that dies before it opens it finishes it afterwards.

Two files: the sum under its masks, and beside it, written last, the document that makes it valid. The document also
holds what the sites' replies said besides, for nobody asks them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from fl_server.recorder import HEARD
from fl_server.secagg.aggregator import Agreed
from medveil.errors import FederationError, IntegrityError
from medveil.files import make_folder, read_bytes, write_bytes, write_json
from medveil.secagg import records
from medveil.secagg.members import members_in, members_record
from medveil.secagg.rounds import Offered, Task
from medveil.shapes import read_document

FORMAT = "medveil-agreed-sum"
VERSION = 1
_SUM, _SUMS = "sum", "sums"
_TABLE = {str: [(str, int)]}
_SHAPE = {
    "run": str,
    "round": int,
    "attempt": int,
    "content": str,
    "members": _TABLE,
    "offers": _TABLE,
    "sealed": {str: _TABLE},
    "left": _TABLE,
    "digest": str,
    "heard?": HEARD,
    "lost?": {str: str},
}
_CURE = "resume from the checkpoint before it: the round is repeated with the same sites"


class Kept(NamedTuple):
    """What lies on the disk.

    Attributes
    ----------
    agreed : Agreed
        The attempt.
    heard : dict or None
        What replies said besides, as `fl_server.recorder.Recorder.heard`; None where an older MedVeil kept none of it.
    lost : dict of str to str
        The reason for each site that was asked and is not in the sum.
    """

    agreed: Agreed
    heard: dict[str, Any] | None
    lost: dict[str, str]


def save(path: Path, agreed: Agreed, *, heard: Mapping[str, Any], lost: Mapping[str, str]) -> None:
    """Write an attempt down, readable by its owner alone.

    Parameters
    ----------
    path
        Of the document; the sum lies beside it.
    agreed, heard, lost
        As in `Kept`.

    Raises
    ------
    StorageError
        The disk refuses.
    """
    make_folder(path.parent, mode=0o700)
    data = safetensors.numpy.save({_SUM: agreed.residues, _SUMS: agreed.sums})
    write_bytes(_beside(path), data, mode=0o600)
    task = agreed.task
    document = {
        "format": FORMAT,
        "version": VERSION,
        "run": task.run,
        "round": task.number,
        "attempt": task.attempt,
        "content": task.content.hex(),
        "members": _plain(members_record(task.joins)),
        "offers": _plain(records.offers_record(each.offer for each in agreed.offers.values())),
        "sealed": {name: _plain(records.sealed_record(each.sealed)) for name, each in sorted(agreed.offers.items())},
        "left": _plain(records.left_record(agreed.survivors, agreed.signatures)),
        "digest": hashlib.sha256(data).hexdigest(),
        "heard": dict(heard),
        "lost": dict(lost),
    }
    write_json(path, document, mode=0o600)


def load(path: Path) -> Kept:
    """Read what `save` wrote; whether its signatures hold, `Aggregator.finishing` sees.

    Raises
    ------
    StorageError, FormatError
        It is missing, or of a newer version.
    IntegrityError
        One of the two files is not whole.
    """
    document = read_document(path, _SHAPE, name=FORMAT, newest=VERSION)
    data = read_bytes(_beside(path))
    if hashlib.sha256(data).hexdigest() != document["digest"]:
        raise IntegrityError("is not the sum that was agreed to", where=_beside(path), cure=_CURE)
    try:
        agreed = _agreed(document, safetensors.numpy.load(data))
    except (FederationError, SafetensorError, ValueError, KeyError):
        raise IntegrityError("is not whole", where=path, cure=_CURE) from None
    return Kept(agreed, document.get("heard"), document.get("lost", {}))


def remove(path: Path) -> None:
    """Remove what `save` wrote, where it is there; first the document, which makes the other valid."""
    for each in (path, _beside(path)):
        each.unlink(missing_ok=True)


def _agreed(document: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]) -> Agreed:
    content = bytes.fromhex(document["content"])
    joins = tuple(members_in(_bytes(document["members"])))
    offers = records.offers_in(_bytes(document["offers"]))
    sealed = {name: records.sealed_in(_bytes(each)) for name, each in document["sealed"].items()}
    survivors, signatures = records.left_in(_bytes(document["left"]))
    residues, sums = arrays[_SUM], arrays[_SUMS]
    if residues.dtype != np.uint32 or sums.dtype != np.uint64 or residues.ndim != 1 or sums.ndim != 1:
        raise ValueError("other numbers than were saved")
    return Agreed(
        Task(document["run"], document["round"], document["attempt"], content, joins),
        {each.name: Offered(each, sealed[each.name]) for each in offers},
        signatures,
        tuple(survivors),
        residues,
        sums,
    )


def _beside(path: Path) -> Path:
    return path.with_suffix(".safetensors")


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [each.hex() if isinstance(each, bytes) else each for each in column] for name, column in record.items()
    }


def _bytes(record: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of texts are bytes in hex, but for the names (ValueError)."""
    return {
        name: [bytes.fromhex(each) if isinstance(each, str) and name != "site" else each for each in column]
        for name, column in record.items()
    }
