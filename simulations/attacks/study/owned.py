"""The models of a finished run, as their owners use them: each site's model, key and hidden test images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fl_client.config import TrainConfig
from fl_client.data.rows import HeldRows
from fl_client.data.stored import StoredPart
from fl_client.simulated_host import simulated_site
from fl_client.site import Site
from fl_client.site_model import model_after
from fl_client.training import predict
from fl_server.checkpoints import Checkpoint, load_newest
from medveil.config import from_mapping
from medveil.errors import ConfigError
from simulations.config import ExperimentConfig
from simulations.folders import MANIFEST, read_manifest, refuse_taken
from simulations.plan import make_plan

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Owned:
    """One site's model with the hidden images it is tested on.

    Attributes
    ----------
    site : Site
        The site, with its key.
    checkpoint : Checkpoint
        The travelling tensors after the run's newest round.
    """

    site: Site
    checkpoint: Checkpoint

    @property
    def part(self) -> StoredPart:
        """The site's hidden test images."""
        found = self.site.store.part("test")
        assert isinstance(found, StoredPart)
        return found

    @property
    def hidden(self) -> Pixels:
        """Ciphertexts of the test images, (n, C, H, W)."""
        return self.part.images.view(0)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Classes of the test images, int64 (n,)."""
        return self.part.labels

    def predict(self, hidden: Pixels) -> Floats:
        """Class probabilities (n, classes) of ciphertexts in the place of the test images."""
        model = model_after(self.site, self.checkpoint.round, self.checkpoint.tensors)
        config = from_mapping(TrainConfig, self.site.run.train, where="train")
        return predict(model, replace(self.part, images=HeldRows(hidden[:, None])), config).astype(np.float64)


def owned_models(run: Path) -> list[Owned]:
    """Each site of a run of medveil-sim with its model after the newest round.

    Raises
    ------
    ConfigError
        It is no such run, has no checkpoint, or the data changed since.
    """
    return _opened(run.resolve())


@lru_cache(maxsize=1)
def _opened(run: Path) -> list[Owned]:
    manifest = read_manifest(run)
    refuse_taken(run)
    config = from_mapping(ExperimentConfig, manifest["experiment"], where=str(run / MANIFEST))
    plan = make_plan(config, run, run=manifest["run"])
    checkpoint = load_newest(run / "checkpoints", run=manifest["run"])
    if checkpoint is None:
        raise ConfigError("has no checkpoint", where=run, cure="attack a run that came through a round")
    return [Owned(simulated_site(plan.run, plan.sites, index), checkpoint) for index in range(plan.sites.sites)]
