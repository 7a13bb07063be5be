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
    made = own_copy(config)
    made.without_recipe = {}
    return made


def own_copy(config: ExperimentConfig) -> ExperimentConfig:
    """A copy of an experiment that a program made; a field set by a wrong name would count for nothing, and is refused.

    Raises
    ------
    ConfigError
        It, or a section of it, has an attribute that is no setting (the nearest name is given), or of another type.
    """
    from medveil.config import from_mapping, to_mapping  # noqa: PLC0415
    from medveil.config_keys import refuse_no_settings  # noqa: PLC0415

    refuse_no_settings(config)
    return from_mapping(type(config), as_plain(to_mapping(config)), where="settings")


def as_plain(value: Any) -> Any:
    """Settings as plain data: paths as text, and tuples as lists."""
    if isinstance(value, Mapping):
        return {name: as_plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
