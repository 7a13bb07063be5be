"""What an ablation turns on, and off: settings of training by name, alone, and within a recipe.

The name of an arm says what it is: ``muon`` is the experiment with that switch, ``small-data`` with that recipe,
``small-data without muon`` with the recipe but for what that switch sets, ``small-data with medium`` with one more.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from medveil.bounded import word
from medveil.config import from_mapping, to_mapping
from medveil.errors import ConfigError
from medveil.recipes import NONE, RECIPES, settings_of
from simulations.config import ExperimentConfig

Sections = dict[str, dict[str, Any]]
AS_IT_IS = "as it is"
SWITCHES: dict[str, Sections] = {
    "muon": {"train": {"optimizer": "muon"}},
    "rate": {"train": {"lr": 3e-3}},
    "rate warm-up": {"train": {"lr_warmup": 0.1}},
    "weight decay": {"train": {"weight_decay": 0.05}},
    "layer decay": {"train": {"layer_decay": 0.75}},
    "second moment": {"train": {"beta_2": 0.98}},
    "clipping": {"train": {"clip": 1.0}},
    "label smoothing": {"train": {"label_smoothing": 0.1}},
    "logit adjustment": {"train": {"logit_adjustment": 1.0}},
    "batch": {"train": {"batch_size": 64}},
    "mixup": {"train": {"mixup": 0.2}},
    "drop path": {"model": {"drop_path": 0.1}},
    "ema": {"train": {"ema": 0.99}},
    "mimetic": {"model": {"init": "mimetic"}},
    "patch dropout": {"train": {"patch_dropout": 0.5, "patch_dropout_steps": 0.8}},
    "light": {"train": {"augment": "light"}},
    "medium": {"train": {"augment": "medium"}},
    "strong": {"train": {"augment": "strong"}},
    "kept moments": {"train": {"state": "kept"}},
    "bf16": {"train": {"precision": "bf16"}},
    "ten views": {"predict": {"views": 10}},
}
NAMED = {name: RECIPES[name] for name in ("small-data", "fine-tune")}
"""Recipes of classifiers, by the names that arms have."""


class Named(NamedTuple):
    """An arm's name taken apart: `recipe` is empty where it has none, `switch` where it is the recipe alone."""

    recipe: str
    without: bool
    switch: str


def taken_apart(name: str) -> Named:
    """What a name says (ConfigError where it is none)."""
    for recipe in NAMED:
        if name == recipe:
            return Named(recipe, without=False, switch="")
        for between in (" without ", " with "):
            head, found, switch = name.partition(between)
            if found and head == recipe and switch in SWITCHES:
                return Named(recipe, without="without" in between, switch=switch)
    if name in SWITCHES:
        return Named("", without=False, switch=name)
    known = ", ".join([*SWITCHES, *NAMED])
    cure = f"{known}; or RECIPE without SWITCH, RECIPE with SWITCH"
    raise ConfigError(f"names no switch '{word(name)}'", where="ablation", cure=cure)


def all_names(recipe: str = "") -> list[str]:
    """The arms that are run where none is named: every switch and recipe; or of a recipe, without each of its own.

    Raises
    ------
    ConfigError
        There is no such recipe.
    """
    if not recipe:
        return [*SWITCHES, *NAMED]
    if recipe not in NAMED:
        raise ConfigError(f"is no recipe '{word(recipe)}'", where="--from", cure=f"one of {', '.join(NAMED)}")
    own = set(_keys(NAMED[recipe]))
    return [f"{recipe} without {name}" for name, sections in SWITCHES.items() if _is_set(sections, own, recipe)]


def switched(config: ExperimentConfig, name: str) -> ExperimentConfig:
    """An experiment as a name says; `config` is not changed.

    Raises
    ------
    ConfigError
        There is no such switch, the recipe is for other weights, or nothing comes of it here.
    """
    recipe, without, switch = taken_apart(name)
    values = _laid(config, recipe, switch if without else "") if recipe else to_mapping(as_it_is(config))
    if switch and not without:
        _lay(values, SWITCHES[switch])
    made = from_mapping(ExperimentConfig, values, where=f"'{name}'")
    if switch == "kept moments" and not without and config.rounds < 2:
        problem, cure = "keeps moments from round to round, and there is one round", "rounds above 1"
        raise ConfigError(problem, where="train.state", cure=cure)
    beside = switched(config, recipe) if recipe and switch else as_it_is(config)
    if made == beside:
        told = f"changes nothing: {_in_words(SWITCHES[switch] if switch else NAMED[recipe])} holds without it"
        raise ConfigError(told, where=f"'{name}'")
    return made


def with_recipe(config: ExperimentConfig, recipe: str) -> ExperimentConfig:
    """An experiment with all that a recipe sets; `config` is not changed.

    Raises
    ------
    ConfigError
        There is no such recipe, or it is for other weights.
    """
    return from_mapping(ExperimentConfig, _laid(config, recipe), where=f"'{recipe}'")


def _laid(config: ExperimentConfig, recipe: str, but: str = "") -> dict[str, Any]:
    """An experiment as plain data with what a recipe sets, but for what a switch does."""
    values = to_mapping(as_it_is(config))
    _lay(values, _given_way(config, values))
    _lay(values, _of_recipe(config, recipe, but))
    if config.train.recipe != NONE:
        values["train"]["recipe"] = recipe
    return values


def as_it_is(config: ExperimentConfig) -> ExperimentConfig:
    """The experiment without what it remembers of ``without_recipe``; `config` is not changed."""
    made = copy.deepcopy(config)
    made.without_recipe = {}
    return made


def _given_way(config: ExperimentConfig, values: dict[str, Any]) -> Sections:
    """Defaults, in the place of what an experiment has of a recipe of its own, or sets ``without_recipe``.

    What it sets otherwise stays.
    """
    own = config.train.recipe
    given = config.without_recipe if own == NONE else RECIPES.get(own, {})
    defaults = to_mapping(ExperimentConfig())
    return {
        section: {key: defaults[section][key] for key, value in settings.items() if values[section][key] == value}
        for section, settings in given.items()
    }


def _of_recipe(config: ExperimentConfig, recipe: str, but: str) -> Sections:
    """What a recipe sets, but for what a switch does."""
    sections = settings_of(recipe, pretrained=str(config.model.pretrained), where=f"'{recipe}'")
    left_out = {section: set(values) for section, values in SWITCHES.get(but, {}).items()}
    return {
        section: {key: value for key, value in values.items() if key not in left_out.get(section, ())}
        for section, values in sections.items()
    }


def _lay(values: dict[str, Any], sections: Sections) -> None:
    for section, settings in sections.items():
        values[section] |= settings


def _is_set(sections: Sections, own: set[tuple[str, str]], recipe: str) -> bool:
    """Whether a recipe sets what a switch does; of several levels of one setting, the one that it has."""
    keys = set(_keys(sections))
    if not keys <= own:
        return False
    others = [each for each in SWITCHES.values() if each is not sections and set(_keys(each)) == keys]
    return not others or all(NAMED[recipe][section][key] == sections[section][key] for section, key in keys)


def _keys(sections: Sections) -> list[tuple[str, str]]:
    return [(section, key) for section, values in sections.items() for key in values]


def _in_words(sections: Sections) -> str:
    return ", ".join(f"{section}.{key}={values[key]}" for section, values in sections.items() for key in values)
