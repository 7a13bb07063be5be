"""An experiment by the name or the file it is asked for by, with the settings that replace the file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulations.config import ExperimentConfig


def load_experiment(
    named: str | Path | None, overrides: Sequence[str] = (), *, values: Mapping[str, Any] | None = None
) -> ExperimentConfig:
    """Read an experiment; what of it cannot be is refused before anything slow is imported.

    Parameters
    ----------
    named
        A YAML file, or an experiment that comes with MedVeil; None for the defaults.
    overrides
        Settings as a command line has them.
    values
        Settings as plain data, by section.

    Returns
    -------
    ExperimentConfig
        It remembers what holds ``without_recipe``: an ablation asks for other recipes.

    Raises
    ------
    ConfigError
        There is no such experiment or setting, or a value is of another type.
    """
    from medveil.config import load_config  # noqa: PLC0415 - a door opens fast
    from simulations.confs import find_conf  # noqa: PLC0415

    file = None if named is None else find_conf(str(named))
    from models.described import load_with_model  # noqa: PLC0415
    from simulations.config import ExperimentConfig  # noqa: PLC0415

    given = dict(values or {})
    if file is None:
        return load_config(ExperimentConfig, None, overrides, values=given)
    return load_with_model(ExperimentConfig, file, overrides, values=given)


def as_run(config: ExperimentConfig) -> ExperimentConfig:
    """A copy that has taken its recipe: what is written down of a run says everything in its own place."""
    from medveil.config_objects import own_copy  # noqa: PLC0415 - a door opens fast

    made = own_copy(config)
    made.without_recipe = {}
    return made
