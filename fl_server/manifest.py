"""manifest.json: what a run was, where it was made and how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fl_server.config import ServerSettings
from medveil import processes
from medveil.basis import changed, differences
from medveil.claims import claimed
from medveil.config import to_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError, DrainedError, StorageError
from medveil.files import make_folder, write_json
from medveil.log import logger
from medveil.predicting import PredictConfig
from medveil.secagg.config import SecAggConfig
from medveil.shapes import read_document
from medveil.training import TrainConfig
from medveil.versions import environment
from models.config import ModelConfig

FORMAT = "medveil-manifest"
VERSION = 1
MANIFEST = "manifest.json"
ENDED = ("finished", "stopped-early")
"""States a run does not come back from."""
WRITER = ".writer"
_WRITER_S = 15.0
"""Seconds to wait for another writer: a server's app that was told to end takes some."""
_MAY_CHANGE = (
    "min_sites",
    "min_updates",
    "wait_for_sites",
    "prepare_deadline",
    "round_deadline",
    "keep_checkpoints",
    "patience",
    "tensorboard",
    "mlflow",
)
"""Settings of the server that do not change what a round makes of the updates it gets."""
OTHER = "put back what it began with and go on, or start a new run"
_log = logger("server")


_SHAPE = {
    "run": str,
    "name": str,
    "status": str,
    "stage?": (str, None),
    "error?": (str, None),
    "went_on?": (str, None),
    "process?": ({"pid?": int, "began?": str}, None),
    "phase?": ({"kind": str, "round": int, "sites": [str]}, None),
    "model?": (
        {
            "name": str,
            **dict.fromkeys(("width", "depth", "heads", "patch", "parameters"), int),
            **dict.fromkeys(("trained?", "bytes_a_round?"), int),
            "named": {str: int},
        },
        None,
    ),
    "run_config": {"rounds": int, "secagg?": {"on": bool, "bits": int, "clip": float, "colluding": int}},
    "basis?": {str: str},
    "site_bases?": {str: str},
    "server": dict,
    "sites": [{"site": str}],
    "left_out": [{"round": int, "site": str, "reason": str}],
    "resumed": [str],
    "attempts?": {str: int},
    "sums?": [{"round": int, "sites": [str], "clipped": int}],
    "lengthened?": [{"at": str, "from": int, "to": int, "after": (int, None)}],
}


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a run.

    Raises
    ------
    StorageError, FormatError, IntegrityError
        It is missing, another file, of a newer version, or a field of it is not what it was written as.
    """
    return read_document(path, _SHAPE, name=FORMAT, newest=VERSION)


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the one process that writes what a run leaves: manifest, metrics, checkpoints, summary.

    Whoever submitted the run may be gone while its server's app goes on, so it is the app that holds this.

    Raises
    ------
    StorageError
        Another process writes there and did not end within some seconds; which one and since when.
    """
    with claimed(folder / WRITER, seconds=_WRITER_S, patient=True, cure="wait for its end, or end it: kill {pid}"):
        yield


def note_interrupted(folder: Path) -> None:
    """Write into a run's manifest that it was interrupted, where the process that wrote it was ended and could not."""
    if not (folder / MANIFEST).is_file():
        return
    with writing(folder):
        manifest = Manifest(folder)
        manifest.document = read_manifest(manifest.path)
        if manifest.document["status"] == "running":
            manifest.end("interrupted")


class Manifest:
    """The manifest of one run folder, rewritten whenever something is known.

    Parameters
    ----------
    folder
        The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / MANIFEST
        self.document: dict[str, Any] = {}

    def begin(self, run: RunConfig, settings: ServerSettings, *, device: str) -> None:
        """Make the manifest of a new run.

        Raises
        ------
        ConfigError
            The folder already holds a run.
        """
        if self.path.exists():
            raise ConfigError(
                "the folder already holds a run", where=self.path.parent, cure="resume it, or choose another folder"
            )
        make_folder(self.path.parent)
        self.document = {
            "format": FORMAT,
            "version": VERSION,
            "run": run.run,
            "name": run.name,
            "seed": run.seed,
            "status": "running",
            "stage": "",
            "phase": None,
            "process": _this_process(),
            "started": _now(),
            "ended": None,
            "device": device,
            "environment": environment(),
            "run_config": dataclasses.asdict(run),
            "server": to_mapping(settings.server),
            "experiment": settings.experiment,
            "basis": dict(settings.basis),
            "sites": [],
            "weights": {},
            "site_bases": {},
            "held": [],
            "left_out": [],
            "resumed": [],
            "went_on": None,
            "error": None,
        }
        self._write()

    def reopen(self, run: RunConfig, settings: ServerSettings) -> bool:
        """Take up the manifest of an interrupted run, or of one that is to go on for more rounds than it had.

        Returns
        -------
        bool
            False where the run has ended and there is nothing to resume.

        Raises
        ------
        ConfigError
            There is no run in the folder, or it was run with other settings.
        """
        if not self.path.exists():
            raise ConfigError("the folder holds no run to resume", where=self.path.parent)
        self.document = read_manifest(self.path)
        before = self.document["run_config"]["rounds"]
        if self.document["status"] in ENDED and run.rounds <= before:
            return False
        # More rounds than it had are no other run.
        asked = dataclasses.asdict(run) | {"rounds": min(run.rounds, before)}
        self._refuse_other(_told(asked), _told(self.document["run_config"]))
        kept = {name: value for name, value in to_mapping(settings.server).items() if name not in _MAY_CHANGE}
        self._refuse_other(kept, self.document["server"])
        self.document |= {"status": "running", "stage": "", "process": _this_process(), "ended": None, "error": None}
        self.document |= {"went_on": None, "phase": None}
        if run.rounds > before:
            self._lengthen(run.rounds, settings)
        self.document["server"] = to_mapping(settings.server)
        self.document["resumed"].append(_now())
        self._write()
        return True

    def _lengthen(self, rounds: int, settings: ServerSettings) -> None:
        said = {"at": _now(), "from": self.document["run_config"]["rounds"], "to": rounds, "after": None}
        self.document["lengthened"] = [*self.document.get("lengthened", []), said]
        self.document["run_config"]["rounds"] = rounds
        self.document["experiment"] = settings.experiment

    def lengthened_after(self, round_: int) -> bool:
        """Whether the run was given its newest rounds after this one; the first round asked about is written down."""
        newest = next(reversed(self.document.get("lengthened", [])), None)
        if newest is None:
            return False
        if newest["after"] is None:
            newest["after"] = round_
            self._write()
        return bool(newest["after"] == round_)

    def stand_on(self, parts: Mapping[str, str]) -> None:
        """Fix what the run stands on, as far as this end knows it, or refuse something else than it began with.

        Parameters
        ----------
        parts
            Digests by their names in `medveil.basis`. What an older manifest does not tell of is taken as it is.

        Raises
        ------
        BasisError
            Says which parts differ.
        """
        known = self.document.get("basis", {})
        differing = differences(known, parts)
        if differing:
            raise changed(differing, where=self.path.parent, cure=OTHER)
        unknown = [name for name in parts if name not in known]
        if unknown and self.document["resumed"]:
            _log.warning("the manifest does not tell with which %s the run began: not compared", " and ".join(unknown))
        self.update(basis={**known, **parts})

    def update(self, **values: Any) -> None:
        """Set fields and write."""
        self.document |= values
        self._write()

    def end(self, status: str, *, error: str | None = None) -> None:
        """Write how the run ended."""
        self.update(status=status, ended=_now(), error=error, phase=None)

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Write down a failure or an interrupt of the block, and let it pass on."""
        try:
            yield
        except BaseException as error:
            ended = isinstance(error, KeyboardInterrupt | SystemExit)
            status = "interrupted" if ended or isinstance(error, DrainedError) else "failed"
            try:
                self.end(status, error=None if ended else _text(error))
            except StorageError as refused:
                # The error that stopped the run is the one to tell.
                _log.info("%s", refused)
            raise

    def _refuse_other(self, now: dict[str, Any], before: dict[str, Any]) -> None:
        for name, value in now.items():
            # A field that a newer MedVeil added has its default in an older run.
            if before.get(name, value) != value:
                started = f"the run was started with {before[name]!r}"
                raise ConfigError(f"'{name}' is {value!r}", where=self.path.parent, cure=started)

    def _write(self) -> None:
        write_json(self.path, self.document)


def _told(run: dict[str, Any]) -> dict[str, Any]:
    """A run's configuration with what one of an older MedVeil means by saying nothing of a setting."""
    sections: dict[str, dict[str, Any]] = {
        "cipher": {"derivation": 1},
        "privacy": {},
        "train": to_mapping(TrainConfig()),
        "model": to_mapping(ModelConfig()),
    }
    sections |= {"predict": to_mapping(PredictConfig()), "secagg": to_mapping(SecAggConfig())}
    return {"roster": "", **run, **{name: {**unsaid, **run.get(name, {})} for name, unsaid in sections.items()}}


def _text(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def _this_process() -> dict[str, Any]:
    """Who writes: whoever finds a run that says it is running can see whether it is."""
    return {"pid": os.getpid(), "began": processes.began(os.getpid())}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
