"""Which files weights are read from, and that none of them is a pickle.

A pickle is a program that makes objects: who loads one runs it. Weights are tables of numbers and need none, so MedVeil
reads safetensors, and the archives of Google's ViT, which hold plain arrays. What PyTorch's `torch.save` wrote is a
pickle; `medveil-sim convert-checkpoint` makes a safetensors file of it, once, where its owner asks for that.
"""

from __future__ import annotations

from pathlib import Path

from medveil.bounded import word
from medveil.errors import ConfigError, FormatError

READ = (".safetensors", ".npz")
PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".pickle")
_HEADS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
"""How a file of `torch.save` begins: a ZIP archive around a pickle, or before PyTorch 1.6 the pickle itself."""
_LARGEST_HEADER = 100_000_000
"""Of safetensors' own format, in bytes."""
_LONGEST = 256


def refuse_pickled(path: Path, *, where: str = "model.pretrained") -> None:
    """Refuse a file that is a pickle by its name, before it is looked for (ConfigError, with the command for it)."""
    if path.suffix.lower() in PICKLED:
        problem = f"'{word(path, _LONGEST)}' is a pickle by its name, and nothing is unpickled"
        raise ConfigError(problem, where=where, cure=conversion(path))


def check_suffix(path: Path) -> None:
    """Refuse a file that is none of weights by its name, a pickle among them (ConfigError)."""
    refuse_pickled(path)
    if path.suffix.lower() not in READ:
        cure = f"'false', 'true' or a path ending in {', '.join(READ)}"
        raise ConfigError(f"'{word(path, _LONGEST)}' is no weights file", where="model.pretrained", cure=cure)


def check_beginning_of(path: Path) -> None:
    """Refuse a pickle under another name (FormatError); errors of the disk pass."""
    with open(path, "rb") as file:
        head = file.read(9)
    if path.suffix.lower() != ".npz" and head.startswith(_HEADS) and not _is_length(head):
        raise FormatError("is a pickle by its first bytes, and nothing is unpickled", where=path, cure=conversion(path))


def _is_length(head: bytes) -> bool:
    """Whether it is the length of a safetensors header and that header's first letter: a length may look like all."""
    return int.from_bytes(head[:8], "little") <= _LARGEST_HEADER and head[8:] == b"{"


def conversion(path: Path) -> str:
    """The command that makes of a pickle what is read, in words; its name has to say what it is first."""
    made, named = path.with_suffix(".safetensors"), path.suffix.lower() in PICKLED
    source, renamed = (path, "") if named else (path.with_suffix(PICKLED[0]), f"call it {path.stem}{PICKLED[0]}: ")
    command = f"medveil-sim convert-checkpoint {word(source, _LONGEST)} --out {word(made.name)}"
    return f"{word(renamed)}'{command}' makes a file that is read"
