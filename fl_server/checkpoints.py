"""Checkpoints: the travelling tensors after each round, and what a resumed run needs to go on bit for bit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.numpy
from safetensors import SafetensorError

from medveil.errors import FormatError, IntegrityError, StorageError
from medveil.files import (
    check_format,
    make_folder,
    read_bytes,
    read_json,
    storage_error,
    sweep_parts,
    write_bytes,
    write_json,
)
from medveil.log import logger
from medveil.shapes import check_shape
from medveil.wire import Tensors

FORMAT = "medveil-checkpoint"
VERSION = 1
_MODEL, _STRATEGY = "model/", "strategy/"
_OWN_FOLDER, _OWN_FILE = 0o700, 0o600
_log = logger("server")


@dataclass(frozen=True)
class Checkpoint:
    """The federation after one round.

    Parameters
    ----------
    run
        UUID of the run.
    round
        The round it was written after.
    tensors
        The travelling tensors, fp32.
    state
        What the strategy remembers (`fl_server.strategies.state_of`), fp32.
    scalars
        Plain values: early stopping, lines of metrics, totals.
    """

    run: str
    round: int
    tensors: Tensors
    state: Tensors = field(default_factory=dict)
    scalars: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, checkpoint: Checkpoint, *, keep: int = 0, also: int | None = None) -> Path:
    """Write a checkpoint, readable by its owner alone; the sidecar, which makes it valid, is written last.

    Parameters
    ----------
    folder
        The run's ``checkpoints`` folder, made if missing.
    checkpoint
        What to write.
    keep
        Newest checkpoints to keep; 0 keeps all.
    also
        A round whose checkpoint is kept beside them.

    Returns
    -------
    Path
        The tensor file.

    Raises
    ------
    StorageError
        The disk is full or refuses the write; older checkpoints are untouched.
    """
    _own_folder(folder)
    path = folder / f"{_name(checkpoint.round)}.safetensors"
    named = {f"{_MODEL}{name}": array for name, array in checkpoint.tensors.items()}
    named |= {f"{_STRATEGY}{name}": array for name, array in checkpoint.state.items()}
    data = safetensors.numpy.save(named, metadata={"format": FORMAT, "run": checkpoint.run})
    write_bytes(path, data, mode=_OWN_FILE)
    write_json(
        path.with_suffix(".json"),
        {
            "format": FORMAT,
            "version": VERSION,
            "run": checkpoint.run,
            "round": checkpoint.round,
            "sha256": hashlib.sha256(data).hexdigest(),
            "scalars": checkpoint.scalars,
        },
        mode=_OWN_FILE,
    )
    if keep:
        stays = None if also is None else _name(also)
        for old in [each for each in _sidecars(folder)[:-keep] if each.stem != stays]:
            old.unlink(missing_ok=True)
            old.with_suffix(".safetensors").unlink(missing_ok=True)
    return path


def load(path: Path) -> Checkpoint:
    """Read one checkpoint by its tensor file or its sidecar.

    Raises
    ------
    IntegrityError
        It is cut or changed.
    FormatError
        It is of another format or a newer version.
    StorageError
        It cannot be read.
    """
    sidecar = path.with_suffix(".json")
    document = read_json(sidecar)
    check_format(document, name=FORMAT, newest=VERSION, where=sidecar)
    check_shape(document, {"run": str, "round": int, "sha256": str, "scalars": dict}, where=sidecar)
    data = read_bytes(path.with_suffix(".safetensors"))
    if hashlib.sha256(data).hexdigest() != document.get("sha256"):
        raise IntegrityError("is not what its checksum says", where=path.with_suffix(".safetensors"))
    try:
        named: Tensors = safetensors.numpy.load(data)
        return Checkpoint(
            run=str(document["run"]),
            round=int(document["round"]),
            tensors=_under(_MODEL, named),
            state=_under(_STRATEGY, named),
            scalars=dict(document["scalars"]),
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError("is not a whole checkpoint", where=sidecar) from error


def load_round(folder: Path, round_: int, *, run: str) -> Checkpoint:
    """The checkpoint of one round of a run; errors as `load`, and FormatError where it is of another run."""
    found = load(folder / f"{_name(round_)}.safetensors")
    if found.run != run:
        raise FormatError(f"is of run {found.run}", where=folder / f"{_name(round_)}.json", cure=f"this is run {run}")
    return found


def load_newest(folder: Path, *, run: str, skipped: list[str] | None = None) -> Checkpoint | None:
    """The newest checkpoint of a run that is whole; a damaged one is skipped, and the log says so.

    Parameters
    ----------
    folder
        The run's ``checkpoints`` folder.
    run
        UUID of the run.
    skipped
        What is wrong with each damaged one is added to it.

    Returns
    -------
    Checkpoint or None
        None where the folder has no checkpoint yet.

    Raises
    ------
    IntegrityError
        There are checkpoints, and none is whole.
    FormatError
        A checkpoint is of a newer version, or of another run.
    """
    if not folder.is_dir():
        return None
    sweep_parts(folder)
    sidecars = _sidecars(folder)
    for sidecar in reversed(sidecars):
        try:
            found = load(sidecar)
        except (IntegrityError, StorageError) as error:
            _log.warning("skipping a damaged checkpoint: %s", error)
            if skipped is not None:
                skipped.append(f"{sidecar.stem} {error.problem}")
            continue
        if found.run != run:
            raise FormatError(f"is of run {found.run}", where=sidecar, cure=f"this is run {run}")
        return found
    if sidecars:
        raise IntegrityError(f"none of {len(sidecars)} checkpoints is whole", where=folder, cure="start a new run")
    return None


def _own_folder(folder: Path) -> None:
    """Make the folder, or close one that an older MedVeil left open to others.

    A checkpoint of a policy whose stem travels under a key is key material (`models.policy`), and the server has no key
    to seal it with; the others show what was trained on.
    """
    make_folder(folder, mode=_OWN_FOLDER)
    try:
        if folder.stat().st_mode & 0o077:
            folder.chmod(_OWN_FOLDER)
    except OSError as error:
        raise storage_error(error, folder, "keep the folder to its owner") from error


def _name(round_: int) -> str:
    return f"round-{round_:04d}"


def _sidecars(folder: Path) -> list[Path]:
    return sorted(folder.glob("round-*.json"), key=lambda path: (len(path.name), path.name))


def _under(prefix: str, named: Tensors) -> Tensors:
    return {name.removeprefix(prefix): named[name] for name in sorted(named) if name.startswith(prefix)}
