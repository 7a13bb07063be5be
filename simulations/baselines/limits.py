"""What a baseline cannot do, said before anything of a run is made."""

from __future__ import annotations

from typing import Any

import numpy as np

from fl_client.data.partition import site_parts
from fl_client.data.source import open_source
from medveil.errors import ConfigError
from simulations.baselines.names import CNN, NEAREST, SVM
from simulations.plan import Plan

MOST_WORK = 2e14
"""Products of two pixels that a nearest neighbour may ask for; more would take a core some hours."""
MOST_IMAGES = 30_000
"""Training images of a support vector machine, whose time grows with their square at least."""
SMALLEST = 16
"""Side of an image below which nothing is left of it after the strides of the network."""


def check_baseline(plan: Plan) -> None:
    """Refuse a baseline for images that are too many or too small for it.

    Raises
    ------
    ConfigError
        They are.
    DataError
        They cannot be dealt to the sites.
    """
    name, where = plan.experiment.federation, f"federation {plan.experiment.federation}"
    if name == CNN and plan.run.image_size < SMALLEST:
        cure = f"data.image_size of at least {SMALLEST}, or leave this arm out"
        raise ConfigError(f"is no network for images of {plan.run.image_size} pixels", where=where, cure=cure)
    source = open_source(plan.experiment.data) if plan.source is None else plan.source
    dealt: dict[str, Any] = {"sites": plan.sites.sites, "seed": plan.run.seed}
    parts = [site_parts(source, plan.sites.data, index=index, **dealt) for index in range(plan.sites.sites)]
    train = sum(len(each.train) for each in parts)
    if name == SVM and train > MOST_IMAGES:
        problem = f"has {train} training images, and takes {MOST_IMAGES} at most"
        raise ConfigError(problem, where=where, cure="set data.limit, or leave this arm out")
    asked = len(np.unique(np.concatenate([np.concatenate([each.validation, each.test]) for each in parts])))
    values = plan.run.channels * plan.run.image_size**2
    if name == NEAREST and float(train) * asked * values > MOST_WORK:
        told = f"compares {asked} images with {train} of {values} values each, which takes hours"
        raise ConfigError(told, where=where, cure="lower data.image_size, set data.limit, or leave this arm out")
