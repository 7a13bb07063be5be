from __future__ import annotations

import dataclasses
import json

import pytest

from fl_server.config import STRATEGIES, ServerConfig, ServerSettings
from medveil.config import commented_yaml, load_config
from medveil.errors import ConfigError


def test_every_field_carries_its_help():
    assert all(field.metadata.get("help") for field in dataclasses.fields(ServerConfig))
    assert "# Fewest sites to start with" in commented_yaml(ServerConfig)


def test_what_is_set_of_another_strategy_has_no_part_in_a_run():
    for each in dataclasses.fields(ServerConfig):
        named = each.metadata["help"].partition(":")[0].split(", ")
        if not set(named) <= set(STRATEGIES):
            continue
        for strategy in STRATEGIES:
            assert ServerConfig(strategy=strategy).idle == []
            idle = ServerConfig(strategy=strategy, **{each.name: each.default / 2}).idle
            assert idle == ([] if strategy in named else [f"server.{each.name} {each.default / 2}"])
    assert ServerConfig(strategy="of-another-package", momentum=0.5).idle == []


def test_defaults_are_valid():
    ServerConfig().check()
    assert load_config(ServerConfig) == ServerConfig()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strategy", "fedsgd"),
        ("monitor", "f1"),
        ("trim", 0.5),
        ("trim", 0.0),
        ("fraction", 0.0),
        ("fraction", 1.5),
        ("malicious", -1),
        ("min_sites", -1),
        ("min_updates", 0),
        ("keep_checkpoints", -1),
        ("patience", -2),
        ("beta_1", 1.0),
        ("server_lr", 0.0),
        ("tau", 0.0),
        ("round_deadline", 0.0),
        ("round_deadline", float("inf")),
        ("prepare_deadline", float("nan")),
        ("wait_for_sites", -1.0),
        ("max_norm", -1.0),
        ("clip_norm", -1.0),
        ("max_norm", float("nan")),
        ("max_change", -1.0),
        ("max_change", float("inf")),
        ("most_share", 0.0),
        ("most_share", 1.1),
        ("most_share", float("nan")),
        ("proximal_mu", -0.1),
    ],
)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"server: '{name}' is "):
        ServerConfig(**{name: value}).check()


def test_settings_survive_json():
    settings = ServerSettings(
        out="/runs/a", server=ServerConfig(strategy="krum", malicious=2), sites=9, experiment={"a": "${b}"}, resume=True
    )
    assert ServerSettings.from_json(settings.to_json()) == settings


def test_settings_may_leave_out_what_has_a_default():
    settings = ServerSettings.from_json(json.dumps({"sites": 4}))
    assert settings.expected == settings.fewest == 4 and settings.server == ServerConfig()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"sites": 4, "servr": {}}', "unknown key 'servr'; did you mean 'server'"),
        ('{"sites": 4, "server": {"stratgy": "krum"}}', "did you mean 'server.strategy'"),
        ('{"sites": "four"}', "'sites' has a value of the wrong type"),
        ('{"sites": -1}', "'sites' is -1"),
        ("{}", "the number of sites is not known"),
        ('{"sites": 3, "server": {"min_sites": 4}}', "'min_sites' is 4 of 3 sites"),
        ('{"sites": 3, "server": {"strategy": "sum"}}', "'strategy' is 'sum'"),
    ],
)
def test_bad_settings_are_refused(text, problem):
    with pytest.raises(ConfigError, match=problem):
        ServerSettings.from_json(text)
