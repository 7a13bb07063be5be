"""What a shell completes of each command: settings, attacks, schemes."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

import fl_client.cli
import fl_server.cli
import simulations.cli
from fl_client.deployment.config import SiteConfig
from fl_server.deployment.consortium import ConsortiumConfig
from fl_server.deployment.plan import RunFile
from medveil.config_keys import setting_names
from simulations.attacks.config import AttackConfig
from simulations.config import ExperimentConfig


def completer(made: argparse.ArgumentParser, command: str, name: str) -> Callable[[str], list[str]]:
    """What completes an argument of a command."""
    (commands,) = [each for each in made._actions if isinstance(each, argparse._SubParsersAction)]
    (found,) = [each for each in commands.choices[command]._actions if each.dest == name]
    return found.completer


@pytest.mark.parametrize(
    ("make", "command", "schema"),
    [
        (simulations.cli._parser, "run", ExperimentConfig),
        (simulations.cli._parser, "compare", ExperimentConfig),
        (simulations.cli._parser, "attack", AttackConfig),
        (fl_server.cli._parser, "init", ConsortiumConfig),
        (fl_server.cli._parser, "run", RunFile),
        (fl_client.cli._parser, "enroll", SiteConfig),
    ],
)
def test_every_command_that_takes_settings_completes_them(
    make: Callable[[], argparse.ArgumentParser], command: str, schema: type
) -> None:
    complete = completer(make(), command, "overrides")
    assert complete("") == [f"{name}=" for name in setting_names(schema)]
    first = setting_names(schema)[0]
    assert f"{first}=" in complete(first[:2])
    assert complete("nothing.of.the.kind") == []


@pytest.mark.parametrize(("command", "name"), [("attack", "name"), ("attack-matrix", "attacks")])
def test_attacks_are_completed_one_after_another(command: str, name: str) -> None:
    complete = completer(simulations.cli._parser(), command, name)
    assert complete("known") == ["known-plaintext"]
    assert complete("jigsaw,cov") == ["jigsaw,covariance"]
    assert "all" in complete("")


@pytest.mark.parametrize(("command", "name"), [("attack", "cipher"), ("attack-matrix", "schemes")])
def test_schemes_are_completed(command: str, name: str) -> None:
    assert completer(simulations.cli._parser(), command, name)("block") == ["block-pixel"]
