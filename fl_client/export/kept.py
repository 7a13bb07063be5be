"""The whole model a site keeps of a run: what the server sent last for measuring, behind the site's own stem.

It is one file a run, sealed under the site's key, because an adapted stem is the key in another form. It is written
when a run is evaluated, together with what is known of it then (`facts`), so that nothing has to be opened or measured
again to export it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load, save
from torch import Tensor

from crypto.keys import Key
from crypto.sealed import seal, unseal
from fl_client.export.held import SUFFIX
from medveil.contract import RunConfig
from medveil.errors import IntegrityError
from medveil.files import check_format, make_folder, read_bytes, write_bytes

FORMAT = "medveil-kept-model"
VERSION = 1


@dataclass(frozen=True)
class KeptModel:
    """A whole model, float32, with what the site knew when it kept it (plain data)."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    @property
    def run(self) -> RunConfig:
        """The run it came of."""
        return RunConfig.from_json(json.dumps(self.facts["run_config"]), where="the kept model")

    @property
    def temperature(self) -> float:
        """What its logits are divided by."""
        return float(self.facts["calibration"]["temperature"])


def keep(folder: Path, key: Key, kept: KeptModel) -> Path:
    """Seal a model into a folder, in the place of the run's earlier one.

    Raises
    ------
    StorageError
        The disk refuses; the earlier one stays.
    """
    run = str(kept.facts["run_config"]["run"])
    facts = json.dumps({"format": FORMAT, "version": VERSION, **kept.facts}, allow_nan=False).encode()
    tensors = {name: _at_rest(tensor) for name, tensor in kept.tensors.items()}
    plain = len(facts).to_bytes(4, "big") + facts + save(tensors)
    make_folder(folder, mode=0o700)
    path = folder / f"{run}{SUFFIX}"
    write_bytes(path, seal(key.subkey("state"), plain, associated=_bound(run)), mode=0o600)
    return path


def open_kept(path: Path, keys: Iterable[Key]) -> KeptModel:
    """Open a kept model with the site's keys, rotated ones included.

    Raises
    ------
    IntegrityError, FormatError
        No key opens it, or it was changed, or it is of a newer version.
    """
    sealed, refused = read_bytes(path), None
    for key in keys:
        try:
            plain = unseal(key.subkey("state"), sealed, associated=_bound(path.stem))
            break
        except IntegrityError as error:
            refused = error
    else:
        assert refused is not None
        raise IntegrityError(refused.problem, where=path, cure=refused.cure)
    size = int.from_bytes(plain[:4], "big")
    facts = json.loads(plain[4 : 4 + size])
    check_format(facts, name=FORMAT, newest=VERSION, where=path)
    return KeptModel(dict(load(plain[4 + size :])), facts)


def _at_rest(tensor: Tensor) -> Tensor:
    """On the CPU, numbers in single precision; the order of rows of a rotary table is whole numbers, and stays so."""
    found = tensor.detach().cpu().contiguous()
    return found.float() if found.is_floating_point() else found


def _bound(run: str) -> bytes:
    return f"{FORMAT}/{VERSION}/{run}".encode()
