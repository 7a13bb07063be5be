"""Making safetensors of a checkpoint of PyTorch's, once, offline, where its owner asks for it.

The one place of MedVeil that reads a pickle, with PyTorch's own reader of weights, which knows tables of numbers and
refuses what would run. It is measured before: an archive whose members are compressed, or tensors that claim more
numbers than the file has bytes for, could fill the memory.
"""

from __future__ import annotations

import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from medveil.bounded import word
from medveil.errors import ConfigError, FormatError, StorageError
from medveil.files import sha256_file, storage_error, write_bytes, write_json
from medveil.versions import medveil_version
from models.unpickled import PICKLED
from models.weight_files import LONGEST_NAME, MOST_TENSORS

FORMAT, VERSION = "medveil-converted-checkpoint", 1
_KERNEL = "patch_embed.proj.weight"
_PREFERRED = ("", "state_dict_ema", "model_ema", "ema", "teacher", "state_dict", "model", "module", "student")
"""Names under which training scripts keep weights: by themselves, or of several sets the averaged ones first."""
_DEPTH = 4
_MOST_LISTED = 64
_LARGEST_PROGRAM = 2**26
_SLACK = 2**20


@dataclass(frozen=True)
class Converted:
    """What was made: where it was found in the checkpoint, of how many tensors and numbers, and what was left out."""

    part: str
    tensors: int
    numbers: int
    others: tuple[str, ...]


def convert(source: Path, out: Path, *, part: str | None = None) -> Converted:
    """Write the weights of a checkpoint as safetensors, and a card beside them.

    Parameters
    ----------
    source
        What ``torch.save`` wrote.
    out
        The file to write; its card has the ending ``.card.json`` in the place of its own.
    part
        Under which name of the checkpoint the weights are, its levels joined by dots; None takes the usual one.

    Raises
    ------
    ConfigError
        `source` or `out` is of another kind, `out` is there already, or the checkpoint has no such part.
    FormatError
        It is damaged, claims more than it holds, holds no weights, or would have to run code.
    StorageError
        It cannot be read, or the disk refuses.
    """
    card = card_of(out)
    _refuse_names(source, out, card)
    _measure(source)
    parts = dict(_parts(_loaded(source), ""))
    chosen = _choose(parts, part, source)
    tensors = _own(parts[chosen], source)
    write_bytes(out, safetensors.torch.save(tensors, metadata={"format": "pt"}))
    others = tuple(name for name in parts if name != chosen)
    made = Converted(chosen, len(tensors), sum(each.numel() for each in tensors.values()), others)
    write_json(card, _card(source, out, made))
    return made


def card_of(out: Path) -> Path:
    """Where the card of such a file is."""
    return out.with_suffix(".card.json")


def _refuse_names(source: Path, out: Path, card: Path) -> None:
    if source.suffix.lower() in (".safetensors", ".npz"):
        raise ConfigError("is no pickle, and read as it is", where=source, cure="give it as model.pretrained")
    if source.suffix.lower() not in PICKLED:
        raise ConfigError("is no checkpoint by its name", where=source, cure=f"one that ends in {', '.join(PICKLED)}")
    if out.suffix != ".safetensors":
        raise ConfigError(f"'{out}' does not end in .safetensors", where="--out", cure="a name that does")
    for path in (out, card):
        if path.exists():
            raise ConfigError("is there already", where=path, cure="choose a new file")


def _measure(source: Path) -> None:
    """Refuse an archive that stands for more than its own size."""
    try:
        found = source.stat()
        archive = stat.S_ISREG(found.st_mode) and zipfile.is_zipfile(source)
    except FileNotFoundError:
        raise StorageError("no such file", where=source) from None
    except OSError as error:
        raise storage_error(error, source, "read the file") from error
    if not stat.S_ISREG(found.st_mode):
        raise StorageError("is no plain file", where=source)
    if not archive:
        return
    with zipfile.ZipFile(source) as opened:
        members = opened.infolist()
    packed = any(each.compress_type != zipfile.ZIP_STORED for each in members)
    program = max((each.file_size for each in members if each.filename.endswith("data.pkl")), default=0)
    if packed or program > _LARGEST_PROGRAM or sum(each.file_size for each in members) > found.st_size:
        raise FormatError("is an archive that claims more than it holds", where=source, cure="save it with torch.save")


def _loaded(source: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # What torch says to its own developers.
            warnings.simplefilter("ignore")
            return torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zipfile, torch and what a damaged file makes of them
        problem = "is damaged, or holds what would have to be run to be read"
        cure = "save the state dict alone: torch.save(model.state_dict(), FILE)"
        raise FormatError(problem, where=source, cure=cure) from error


def _parts(document: Any, name: str, depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Mappings of names to tensors, by where they are; those of optimisers, whose names are numbers, are none."""
    if not isinstance(document, Mapping) or depth > _DEPTH:
        return
    tensors = {key: each for key, each in document.items() if isinstance(key, str) and isinstance(each, Tensor)}
    if tensors:
        yield name, tensors
    for key, inner in list(document.items())[:MOST_TENSORS]:
        if isinstance(key, str):
            yield from _parts(inner, f"{name}.{key}" if name else key, depth + 1)


def _choose(parts: Mapping[str, Mapping[str, Tensor]], asked: str | None, source: Path) -> str:
    listed = ", ".join(word(each) or "''" for each in list(parts)[:_MOST_LISTED])
    if not parts:
        raise FormatError("holds no tensors by name", where=source, cure="give a checkpoint with a state dict")
    if asked is not None:
        if asked not in parts:
            raise ConfigError(f"the checkpoint has no '{word(asked)}'", where="--part", cure=f"one of {listed}")
        return asked
    likely = [name for name, tensors in parts.items() if any(each.endswith(_KERNEL) for each in tensors)]
    ranked = sorted(likely or parts, key=_rank)
    if len(ranked) > 1 and _rank(ranked[0]) == _rank(ranked[1]):
        raise ConfigError("holds several state dicts", where=source, cure=f"--part names one of {listed}")
    return ranked[0]


def _rank(name: str) -> int:
    first = name.split(".", maxsplit=1)[0]
    return _PREFERRED.index(first) if first in _PREFERRED else len(_PREFERRED)


def _own(tensors: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """Tensors as a file of theirs holds them, each with its own numbers."""
    odd = next((name for name, each in tensors.items() if not _is_plain(name, each)), None)
    if odd is not None or len(tensors) > MOST_TENSORS:
        what = f"at most {MOST_TENSORS} dense tensors with names of at most {LONGEST_NAME} characters"
        shown = "" if odd is None else f" ('{word(odd)}')"
        raise FormatError(f"is not made of {what}{shown}", where=source)
    claimed = sum(each.numel() * each.element_size() for each in tensors.values())
    if claimed > 2 * source.stat().st_size + _SLACK:
        raise FormatError("holds tensors that claim more numbers than it has", where=source)
    return {name: each.detach().clone(memory_format=torch.contiguous_format) for name, each in tensors.items()}


def _is_plain(name: str, tensor: Tensor) -> bool:
    dense = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta
    return dense and len(name) <= LONGEST_NAME


def _card(source: Path, out: Path, made: Converted) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": source.name,
        "source_sha256": sha256_file(source),
        "sha256": sha256_file(out),
        "part": made.part,
        "tensors": made.tensors,
        "numbers": made.numbers,
        "left_out": list(made.others[:_MOST_LISTED]),
        "medveil": medveil_version(),
        "torch": torch.__version__,
    }
