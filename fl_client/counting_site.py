"""A hospital in a run that counts: its images as they are, without a model, a cipher or a store."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fl_client.data.partition import measured_parts
from fl_client.data.source import open_source
from fl_client.site import Site, SiteInRun
from fl_client.site_setup import SiteSetup
from medveil.contract import RunConfig
from medveil.counting import CLASSES, StatisticsConfig
from medveil.errors import ConfigError
from medveil.evaluating import ALL


class CountingSite(SiteInRun):
    """A hospital whose images are counted; opening it decodes none of them.

    Parameters
    ----------
    run, setup
        As of any site.

    Attributes
    ----------
    asked : StatisticsConfig
        What is counted.
    source : Source
        The images.
    indices : numpy.ndarray
        int64 (n,), those of the source that are this site's.

    Raises
    ------
    ConfigError, DataError, StorageError
        The images cannot be opened, or are of other classes than the run names.
    """

    def __init__(self, run: RunConfig, setup: SiteSetup, asked: StatisticsConfig) -> None:
        super().__init__(run, setup)
        self.asked = asked
        documents = setup.documents
        self.source = open_source(setup.data, kept_in=(documents,)) if setup.source is None else setup.source
        if self.source.hidden is not None:
            cure = "count where the originals are"
            raise ConfigError("the images came hidden, and nothing can be counted in them", where="data", cure=cure)
        if CLASSES in asked.histograms and list(self.source.classes) != run.classes:
            problem = f"this site has classes {list(self.source.classes)}"
            raise ConfigError(problem, where="classes", cure=f"the run expects {run.classes}")
        parts = measured_parts(self.source, setup.data, sites=setup.sites, index=setup.index, seed=run.seed, images=ALL)
        self.indices: npt.NDArray[np.int64] = np.asarray(parts.test, dtype=np.int64)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each of its images, int64 (n,)."""
        return np.array([self.source.items[i].label for i in self.indices.tolist()], dtype=np.int64)


def open_site(run: RunConfig, setup: SiteSetup) -> SiteInRun:
    """A site for whatever a run asks; errors as `Site` and `CountingSite`."""
    asked = run.counted
    return Site(run, setup) if asked is None else CountingSite(run, setup, asked)
