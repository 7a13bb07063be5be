"""The experiments that come with MedVeil, by name."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from medveil.errors import ConfigError
from medveil.files import read_bytes

_FOLDER = Path(__file__).parent / "conf"
_SUFFIX = ".yaml"
_YAML = {_SUFFIX, ".yml"}
_SENTENCE = re.compile(r"(?<!\.)\.(?:\s|$)")


def conf_files() -> dict[str, Path]:
    """The file of each experiment that comes with MedVeil, by its name."""
    return {path.stem: path for path in sorted(_FOLDER.glob(f"*{_SUFFIX}"))}


def find_conf(named: str) -> Path:
    """The file that a command line names: a file there is, or an experiment of MedVeil's by its name.

    Raises
    ------
    ConfigError
        There is neither; the nearest name is given.
    """
    path, known = Path(named), conf_files()
    if path.is_file():
        return path
    name = named.removesuffix(_SUFFIX)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(path.name.removesuffix(_SUFFIX), known, n=1, cutoff=0.5)
    guess = f"did you mean '{near[0]}'? " if near else ""
    listed = ", ".join(known)
    raise ConfigError(
        "no such file", where=path, cure=f"{guess}by name there are {listed}; 'medveil-sim init' prints one"
    )


def what_it_is(path: Path) -> str:
    """The first sentence of an experiment's own comment."""
    lines = read_bytes(path).decode("utf-8").splitlines()
    text = " ".join(line.removeprefix("#").strip() for line in lines[: _comment(lines)])
    return _SENTENCE.split(text, maxsplit=1)[0]


def _comment(lines: list[str]) -> int:
    """Lines of the comment before its first command line, which is indented."""
    ends = (index for index, line in enumerate(lines) if not line.startswith("# ") or line.startswith("#  "))
    return next(ends, len(lines))


def complete_name(prefix: str, **_: object) -> list[str]:
    """What a shell may complete the name of an experiment of MedVeil's to."""
    return [name for name in conf_files() if name.startswith(prefix)]


def complete_conf(prefix: str, **_: object) -> list[str]:
    """What a shell may complete the name of an experiment to: those of MedVeil's, and YAML files and folders here."""
    wanted = Path(f"{prefix}*")
    here = sorted(wanted.parent.glob(wanted.name))
    files = [f"{path}/" if path.is_dir() else str(path) for path in here if path.is_dir() or path.suffix in _YAML]
    return [*complete_name(prefix), *files]
