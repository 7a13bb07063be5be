"""A folder a model was saved to, as timm and MedVeil's exports lay it out: weights, and beside them what they expect.

Weights tell nothing of the numbers that pixels become. An export takes them from -1 to 1 whatever its architecture's
name says of the weights timm has under it; so what stands beside the weights goes before the name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medveil.bounded import SETTINGS, parse_json
from medveil.errors import FormatError, StorageError
from medveil.files import storage_error

WEIGHTS, BESIDE = "model.safetensors", "config.json"
_LARGEST_CHANNELS = 64


def weights_in(named: str) -> Path:
    """The file of weights that is named, by itself or by the folder it was saved to.

    Raises
    ------
    StorageError
        The folder has no weights.
    """
    path = Path(named).expanduser()
    if not named or not path.is_dir():
        return path
    if not (path / WEIGHTS).is_file():
        cure = f"an export of plain images has '{WEIGHTS}' in it; or name a weights file"
        raise StorageError("has no weights in it", where=path, cure=cure)
    return path / WEIGHTS


def expected_by(weights: Path) -> dict[str, list[float]]:
    """Channel means and deviations, ``"mean"`` and ``"std"``, that weights expect by what lies beside them.

    Empty where nothing lies there, or says nothing of it: timm reads them of the name then.

    Raises
    ------
    StorageError, FormatError
        What lies there cannot be read, or is not what timm and MedVeil write.
    """
    beside = weights.with_name(BESIDE)
    if weights.name != WEIGHTS or not beside.is_file():
        return {}
    try:
        with open(beside, "rb") as file:
            text = file.read(SETTINGS.length + 1)
    except OSError as error:
        raise storage_error(error, beside, "read what the weights expect") from error
    document = parse_json(text, where=beside)
    given = document.get("pretrained_cfg") if isinstance(document, dict) else None
    if not isinstance(given, dict):
        return {}
    return {name: _numbers(given[name], name, beside) for name in ("mean", "std") if given.get(name) is not None}


def _numbers(values: Any, name: str, where: Path) -> list[float]:
    few = isinstance(values, list) and len(values) <= _LARGEST_CHANNELS
    if few and all(type(each) in (int, float) for each in values):
        return [float(each) for each in values]
    cure = "give a folder as timm or MedVeil wrote it, or set model.mean and model.std and name a weights file"
    raise FormatError(f"its field 'pretrained_cfg.{name}' is no list of numbers", where=where, cure=cure)
