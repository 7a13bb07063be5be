"""Weights that an export of MedVeil's wrote, as weights to begin with.

Its patch embedding reads ``(2 v - maxval) / maxval``, whatever the checkpoint it once began with was made for: what
that expected was folded in (`models.checkpoint.fold_normalisation`), and must not be a second time. The file says whose
it is itself, in the header of its safetensors; one of version 1 by the ``config.json`` beside it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medveil.bounded import SETTINGS, Bounds, parse_json
from medveil.errors import ConfigError, IntegrityError, MedVeilError
from medveil.files import check_format
from medveil.plain import shown
from models.hashes import tensors_hash
from models.pretrained_header import EXPORT
from models.pretrained_header import FORMAT as PRETRAINED
from models.pretrained_header import VERSION as PRETRAINED_VERSION
from models.saved import weights_in

FORMAT = "medveil-model"
VERSION = 5
"""Version 5 says of how many views answers were means. Version 4 names what timm makes the model with as timm does, and
says what timm needs to load it. Version 3 says how the key became the cipher. Version 2 added a checksum, and to the
input the shortest side, how images are prepared and who else hid them."""
CONFIG = EXPORT
PLAIN = "plain"
EXPECTED = 0.5
"""Mean and deviation of pixels from 0 to 1 that bring them to ``(2 v - maxval) / maxval``."""
LARGEST_HEADER = 2**20
HEADER = Bounds(length=LARGEST_HEADER, depth=SETTINGS.depth, values=2**17)
"""Of a safetensors file: some ten values a tensor, and some twelve tensors a block."""
_SUFFIX = ".safetensors"
_AGAIN = "export the model anew"
_LONGEST_CLASS, _MOST_TOLD = 60, 32


def is_export(path: Path) -> bool:
    """Whether a weights file is of an export of a model of plain images, or what pre-training left.

    Raises
    ------
    FormatError
        It is of an export of a newer version.
    ConfigError
        It is of one that reads hidden images: its stem is in a key's domain.
    OSError
        It cannot be read.
    """
    if path.suffix.lower() != _SUFFIX:
        return False
    document = _carried(path) or _beside(path)
    if document is None:
        return False
    pretrained = document.get("format") == PRETRAINED
    name, newest = (PRETRAINED, PRETRAINED_VERSION) if pretrained else (FORMAT, VERSION)
    check_format(document, name=name, newest=newest, where=path)
    if document.get("domain") != PLAIN:
        raise ConfigError("is of a model that reads hidden images", where=path, cure="give its export of plain images")
    return True


def refuse_changed(path: Path, tensors: Mapping[str, Any], heads: int) -> None:
    """Refuse what pre-training left where it is not what its header says; weights of others say nothing of it.

    Parameters
    ----------
    path
        A weights file.
    tensors
        What it holds.
    heads
        Of the model they are for: of all its sizes, the one that no tensor tells.

    Raises
    ------
    IntegrityError
        A tensor was changed.
    ConfigError
        It is of a model of other heads.
    """
    document = _carried(path) if path.suffix.lower() == _SUFFIX else None
    if document is None or document.get("format") != PRETRAINED:
        return
    found = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
    if document.get("sha256") != tensors_hash(found):
        raise IntegrityError("is not what its checksum says", where=path, cure="a whole copy, or pre-train anew")
    theirs = document.get("heads")
    if theirs != heads:
        problem = f"is of a model of {theirs if type(theirs) is int else 'other'} heads, and the run's has {heads}"
        raise ConfigError(problem, where=path, cure=f"model.heads={theirs if type(theirs) is int else '...'}")


def card_in(path: Path) -> dict[str, Any]:
    """What weights say of what made them, in their maker's words; empty where they say nothing.

    Parameters
    ----------
    path
        A weights file. Nothing of it is loaded but the header, within its bounds, and nothing is believed.

    Raises
    ------
    IntegrityError
        It is damaged in what it says.
    OSError
        It cannot be read.
    """
    document = _carried(path) if path.suffix.lower() == _SUFFIX else None
    card = {} if document is None else document.get("card", {"run": document.get("run", "not stated")})
    return card if isinstance(card, dict) else {}


def refuse_other_classes(pretrained: str, classes: Sequence[str]) -> None:
    """Refuse an export whose classes are others, or in another order; weights of others tell of none.

    Parameters
    ----------
    pretrained
        Weights as `models.config.ModelConfig.pretrained` names them.
    classes
        Of the run, in the order of its logits; none where they are not known yet.

    Raises
    ------
    ConfigError
        They are not those the export tells of.
    """
    path = weights_in(pretrained)
    if not classes or path.suffix.lower() != _SUFFIX or not path.is_file():
        return
    named = (_carried(path) or _beside(path) or {}).get("classes")
    if isinstance(named, list) and [str(each) for each in named] != list(classes):
        theirs = ", ".join(shown(str(each), most=_LONGEST_CLASS) for each in named[:_MOST_TOLD])
        problem = "names other classes than this run, or in another order"
        raise ConfigError(problem, where="model.pretrained", cure=f"as the export has them: {theirs}")


def refuse_other_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None, *, where: Path) -> None:
    """Refuse a mean or deviation that an export does not expect (ConfigError): it would be folded in a second time."""
    for name, given in (("mean", mean), ("std", std)):
        if given is not None and any(value != EXPECTED for value in given):
            problem = f"is {list(given)}, and {where} was exported by MedVeil, which folded into it what it expects"
            raise ConfigError(problem, where=f"model.{name}", cure=f"leave it unset, or {EXPECTED:g} for every channel")


def _carried(path: Path) -> dict[str, Any] | None:
    """What a safetensors file's header says of its model; None where it says nothing of ours."""
    with open(path, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        data = stream.read(min(size, LARGEST_HEADER))
    try:
        header = parse_json(data, where=path, bounds=HEADER)
    except MedVeilError:
        # It is no safetensors file, or one with a header none of ours has: whoever loads it says so.
        return None
    words = header.get("__metadata__") if isinstance(header, dict) else None
    told = words.get("medveil") if isinstance(words, dict) else None
    if told is None:
        return None
    document = parse_json(told, where=path) if isinstance(told, str) else None
    if not isinstance(document, dict):
        raise IntegrityError("is damaged in what it says of its model", where=path, cure=_AGAIN)
    return document


def _beside(path: Path) -> dict[str, Any] | None:
    """The ``config.json`` beside the weights, if it is an export's and of this very file."""
    try:
        with open(path.with_name(CONFIG), "rb") as stream:
            document = parse_json(stream.read(LARGEST_HEADER + 1), where=path)
    except (OSError, MedVeilError):
        return None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    named = document.get("sha256")
    if not isinstance(named, dict):
        return None
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    return document if found in named.values() else None
