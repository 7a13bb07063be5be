"""A run folder as an object: what the run was, what it measured and answered, and the models it left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_server.checkpoints import Checkpoint, load_newest, load_round
from fl_server.metrics import read_lines
from fl_server.summary import read_summary
from medveil.called import typed
from medveil.config import from_mapping
from medveil.errors import ConfigError, StorageError
from medveil.values import shown_value
from simulations.config import ABSENT, ExperimentConfig
from simulations.folders import MANIFEST, read_manifest
from simulations.frames import frame
from simulations.left_out import LeftOut, read_left_out
from simulations.predictions import Predictions, load_predictions

if TYPE_CHECKING:
    from pandas import DataFrame

    from models.vits import VisionTransformer

_SUMMARY = "summary.json"


@dataclass(frozen=True, eq=False)
class Run:
    """A run of `medveil-sim`, finished or not. Everything is read from its folder when it is asked for.

    Attributes
    ----------
    folder : Path
        The run folder.
    manifest : dict
        What ``manifest.json`` said when the run was loaded.
    """

    folder: Path
    manifest: dict[str, Any] = field(repr=False)

    @property
    def status(self) -> str:
        """``finished``, ``stopped-early``, ``running``, ``failed`` or ``interrupted``."""
        return str(self.manifest.get("status", "unknown"))

    @property
    def experiment(self) -> ExperimentConfig:
        """The experiment as it was resolved: what was left open is filled in."""
        found = self.manifest.get("experiment")
        if found is None:
            raise ConfigError("was not made by medveil-sim", where=self.folder, cure="ask the server's own files")
        return from_mapping(ExperimentConfig, found, where=str(self.folder / MANIFEST))

    @property
    def summary(self) -> dict[str, Any]:
        """What the run came to: accuracy, balanced_accuracy, auroc, intervals, per site, thief, bytes, seconds.

        Raises
        ------
        ConfigError
            The run has not ended.
        """
        path = self.folder / _SUMMARY
        if not path.is_file():
            cure = f"go on with it: resume({str(self.folder)!r})"
            raise ConfigError(f"has no summary yet ({self.status})", where=self.folder, cure=cure)
        return read_summary(path)

    @property
    def report(self) -> Path:
        """The run's page."""
        return self.folder / "report.html"

    @property
    def partial(self) -> bool:
        """Whether a site was left out of a round or of the evaluation."""
        return unmeant(self.manifest)

    @property
    def left_out(self) -> list[LeftOut]:
        """Files that could not be read, each with its site and the reason."""
        return read_left_out(self.folder)

    def records(self) -> list[dict[str, Any]]:
        """What was measured: one dict a (round, site, phase), in the order it came.

        Returns
        -------
        list of dict
            ``round``, ``site`` (``"all"`` for means over sites), ``phase`` (``"train"``, ``"validation"``, ``"test"``),
            ``loss`` in nats, ``accuracy``, ``balanced_accuracy``, ``auroc``, ``n`` images, ``seconds``, ``bytes_up``,
            ``bytes_down``; None where a number is not defined.

        Raises
        ------
        IntegrityError
            A line is damaged.
        """
        return read_lines(self.folder / "metrics.jsonl")

    def metrics(self) -> DataFrame:
        """`records` as a pandas DataFrame, a row each.

        Raises
        ------
        ConfigError
            pandas is not installed: it is the extra ``medveil[pandas]``.
        """
        return frame(self.records(), cure="take 'records()'")

    def predictions(self) -> dict[str, Predictions]:
        """What each site's model answered about its test images, by site; empty before the run has ended.

        Raises
        ------
        IntegrityError
            A file is damaged.
        ConfigError
            Where a site is asked for that is not there.
        """
        return load_predictions(self.folder)

    def rounds(self) -> list[int]:
        """The rounds of which there is a checkpoint, in order."""
        files = (self.folder / "checkpoints").glob("round-*.json")
        return sorted(int(number) for each in files if (number := each.stem.removeprefix("round-")).isdecimal())

    @typed
    def checkpoint(self, round: int | None = None) -> Checkpoint:  # noqa: A002 - the field's own name for it
        """The travelling tensors after a round, float32 arrays by name, and what the strategy remembered.

        Parameters
        ----------
        round
            None is the newest that is whole.

        Raises
        ------
        ConfigError
            The run came through no round.
        StorageError, IntegrityError
            There is no such round, or its file is damaged.
        """
        folder, uuid = self.folder / "checkpoints", str(self.manifest["run"])
        kept = self.rounds()
        if round is not None and kept and round not in kept:
            problem, cure = f"has no checkpoint of round {shown_value(round)}", f"one of {', '.join(map(str, kept))}"
            raise StorageError(problem, where=self.folder, cure=cure)
        found = load_newest(folder, run=uuid) if round is None or not kept else load_round(folder, round, run=uuid)
        if found is None:
            raise ConfigError("came through no round yet", where=self.folder, cure="go on with it")
        return found

    @typed
    def model(self, site: str | None = None, *, domain: str = "plain") -> VisionTransformer:
        """The model of one site; see `simulations.api.load_model`."""
        from simulations.asked_models import timm_model  # noqa: PLC0415 - scipy and more load here

        return timm_model(self.folder, site=site, domain=domain)


def unmeant(manifest: Mapping[str, Any]) -> bool:
    """Whether a site was left out of a round that was to have part in it: one that is simulated as away was not."""
    return any(not any(why in each["reason"] for why in ABSENT) for each in manifest.get("left_out") or [])


@typed
def load_run(folder: str | Path) -> Run:
    """Load a run folder, of a run that finished or is still going on.

    Raises
    ------
    ConfigError
        It is no run folder.
    IntegrityError, FormatError
        Its manifest is damaged, or of a newer version.
    """
    path = Path(folder)
    return Run(path, read_manifest(path))
