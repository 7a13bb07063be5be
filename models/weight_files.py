"""Files of weights, read as a stranger's: measured before anything is built of them, and never unpickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from medveil import npz
from medveil.bounded import parse_json
from medveil.errors import DataError, FormatError, MedVeilError, StorageError
from medveil.files import storage_error
from models.exported import HEADER, LARGEST_HEADER
from models.fits import sizes_of
from models.states import Unwrapped, unwrapped
from models.unpickled import check_beginning_of

MOST_TENSORS = 2**14
"""Of a file; a Transformer of 80 blocks has some thousand."""
LONGEST_NAME = 512
_LARGEST_FILE = 2**36
_NPZ_PREFIXES = ("", "opt/target/", "params/", "params/img/")
_SIZES = {"in_chans": (1, 2**8), "num_classes": (0, 2**16), "depth": (1, 2**10)}
"""Least and most of what a weights file tells of its model; ImageNet-21k has 21,843 classes."""
_WHOLE = "give a whole .safetensors file"


def check_readable(path: Path) -> None:
    """Refuse a file that is not there, cannot be read, or is a pickle (StorageError, FormatError)."""
    try:
        check_beginning_of(path)
        size = path.stat().st_size
    except FileNotFoundError:
        raise StorageError("no such weights file", where=path) from None
    except OSError as error:
        raise storage_error(error, path, "read the weights") from error
    if size > _LARGEST_FILE:
        raise FormatError(f"has {size} bytes, and weights are read up to {_LARGEST_FILE}", where=path)


def read_state(path: Path) -> tuple[Unwrapped, dict[str, int]]:
    """A state dict in a safetensors file without its wrappings, and the sizes it tells of its model.

    Raises
    ------
    FormatError
        It is no safetensors file, is cut short, or holds no weights, more of them than any model has, or sizes that
        none has.
    """
    _refuse_header(path)
    try:
        state: dict[str, Tensor] = safetensors.torch.load_file(path)
    except Exception as error:  # safetensors raises types of its own, and KeyError for a type torch has not
        raise FormatError(f"cannot be read as weights: {short(error)}", where=path, cure=_WHOLE) from error
    if not state:
        raise FormatError("holds no tensors", where=path, cure="give a state dict")
    taken = unwrapped(state)
    found = sizes_of(taken.state)
    weight = taken.state.get("patch_embed.proj.weight")
    if weight is not None and weight.ndim == 4:
        head = taken.state.get("head.weight")
        found |= {"in_chans": weight.shape[1], "num_classes": _first((0,) if head is None else head.shape)}
    _refuse_sizes(found, path)
    return taken, found


def read_archive(path: Path) -> dict[str, int]:
    """The sizes that an archive of Google's ViT tells of its model, without reading its numbers.

    Raises
    ------
    FormatError
        It is none, or tells sizes no model has.
    """
    try:
        shapes = npz.shapes(path)
    except DataError as error:
        raise FormatError(error.problem, where=path, cure="give a whole .npz file") from None
    prefix = next((each for each in _NPZ_PREFIXES if len(shapes.get(f"{each}embedding/kernel", ())) == 4), None)
    if prefix is None:
        raise FormatError("is not a Google ViT archive", where=path, cure="it needs an 'embedding/kernel' of 4 axes")
    stacked = shapes.get(f"{prefix}Transformer/encoderblock/LayerNorm_0/scale")
    blocks = {key.split("encoderblock_")[1].split("/")[0] for key in shapes if "encoderblock_" in key}
    found = {
        "in_chans": shapes[f"{prefix}embedding/kernel"][2],
        "width": shapes[f"{prefix}embedding/kernel"][3],
        "num_classes": _first(shapes.get(f"{prefix}head/bias", (0,))),
        "depth": stacked[0] if stacked else len(blocks),
    }
    _refuse_sizes(found, path)
    return found


def short(error: Exception, limit: int = 240) -> str:
    """What another library says, on one line and cut."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]} ..."


def _refuse_header(path: Path) -> None:
    with open(path, "rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        data = stream.read(min(size, LARGEST_HEADER))
    if size > LARGEST_HEADER:
        raise FormatError(f"cannot be read as weights: it claims a header of {size} bytes", where=path, cure=_WHOLE)
    try:
        header: Any = parse_json(data, where=path, bounds=HEADER)
    except MedVeilError as error:
        raise FormatError(f"cannot be read as weights: {error.problem}", where=path, cure=_WHOLE) from None
    if not isinstance(header, dict) or len(header) > MOST_TENSORS or any(len(each) > LONGEST_NAME for each in header):
        problem = f"is no list of at most {MOST_TENSORS} tensors with names of at most {LONGEST_NAME} characters"
        raise FormatError(f"cannot be read as weights: its header {problem}", where=path, cure=_WHOLE)


def _first(shape: Sequence[int]) -> int:
    """Classes of a head's tensor, by its first axis; one that has none tells none, and is no head either."""
    return shape[0] if shape else -1


def _refuse_sizes(found: dict[str, int], where: Path) -> None:
    """Refuse sizes that no weights have, before a model of them is built: an empty tensor may claim any."""
    for name, (least, most) in _SIZES.items():
        if not least <= found.get(name, least) <= most:
            problem = f"claims sizes no weights have ({name} is not {least} to {most})"
            raise FormatError(problem, where=where, cure="give a whole weights file")
