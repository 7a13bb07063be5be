"""What a model is worth at a place: one run of the experiment, and its test accuracy; the run itself is not kept."""

from __future__ import annotations

import dataclasses
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_server.summary import read_summary
from medveil.errors import ConfigError, FederationError, PolicyError
from medveil.files import write_json
from medveil.shapes import check_shape, read_document
from simulations.attacks.tradeoff.places import Place
from simulations.config import ExperimentConfig
from simulations.engines.inprocess import run_inprocess
from simulations.plan import make_plan
from simulations.run import check_model

FORMAT, VERSION = "medveil-utility", 1
MEASURED, REFUSED, FAILED = "measured", "refused", "failed"
_NUMBER = (float, None)
_SHAPE = {
    "place": str,
    "seed": int,
    "state": str,
    "reason": str,
    "accuracy": _NUMBER,
    "balanced_accuracy": _NUMBER,
    "auroc": _NUMBER,
    "majority_rate": _NUMBER,
    "n": int,
    "seconds": float,
}


@dataclass(frozen=True)
class Utility:
    """One run.

    Attributes
    ----------
    place, seed : str, int
        Where, and the run's seed.
    state, reason : str
        Measured; refused, where MedVeil runs nothing of the kind; or failed; and why.
    accuracy, balanced_accuracy, auroc, majority_rate : float or None
        On the sites' test images, the mean over sites weighted by their images; AUROC has no sum, and is None there.
    n : int
        Test images.
    seconds : float
        It took.
    """

    place: str
    seed: int
    state: str
    reason: str = ""
    accuracy: float | None = None
    balanced_accuracy: float | None = None
    auroc: float | None = None
    majority_rate: float | None = None
    n: int = 0
    seconds: float = 0.0

    def write(self, path: Path) -> None:
        """Write it (StorageError where the disk refuses)."""
        write_json(path, {"format": FORMAT, "version": VERSION, **dataclasses.asdict(self)})


def read_utility(path: Path) -> Utility:
    """Read it back (StorageError, FormatError, IntegrityError where it is none)."""
    document = read_document(path, _SHAPE, name=FORMAT, newest=VERSION)
    check_shape(document, _SHAPE, where=path)
    return Utility(**{name: document[name] for name in _SHAPE})


def run_at(config: ExperimentConfig, place: Place, *, seed: int, running: Path) -> Utility:
    """Run an experiment at a place; why it cannot be run there, or did not finish, is an outcome too.

    Parameters
    ----------
    config
        The experiment.
    place
        Where.
    seed
        Of the run.
    running
        Folder it may lie in while it runs; it is removed.
    """
    began = time.perf_counter()
    made = Utility(place.label, seed, MEASURED)
    shutil.rmtree(running, ignore_errors=True)
    try:
        experiment = place.applied(config)
        experiment.seed = seed
        plan = make_plan(experiment, running)
        check_model(plan)
    except (ConfigError, PolicyError) as error:
        return dataclasses.replace(made, state=REFUSED, reason=str(error))
    try:
        run_inprocess(plan)
        found = read_summary(running / "summary.json")
    except (ConfigError, PolicyError) as error:
        return dataclasses.replace(made, state=REFUSED, reason=str(error))
    except FederationError as error:
        return dataclasses.replace(made, state=FAILED, reason=str(error), seconds=time.perf_counter() - began)
    finally:
        shutil.rmtree(running, ignore_errors=True)
    return dataclasses.replace(made, **_scores(found), seconds=time.perf_counter() - began)


def _scores(found: dict[str, Any]) -> dict[str, Any]:
    names = ("accuracy", "balanced_accuracy", "auroc", "majority_rate")
    return {**{name: found.get(name) for name in names}, "n": found.get("n") or 0}
