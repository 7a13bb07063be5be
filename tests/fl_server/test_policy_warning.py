"""Whoever chooses a policy that gives the key away is told so where it is chosen."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fl_server.commands import run as command
from fl_server.deployment.plan import RunFile
from medveil.config import commented_yaml
from medveil.errors import ConfigError
from simulations.config import ExperimentConfig
from simulations.plan import make_plan

SAID = "warning: policy shared + public + averaged: the stem travels"


@pytest.mark.parametrize(
    ("policy", "warned"),
    [
        ({"keys": "shared", "stem_init": "public", "stem_train": "averaged"}, True),
        ({"keys": "shared", "stem_init": "adapted", "stem_train": "local"}, False),
        ({"keys": "none", "stem_init": "public", "stem_train": "averaged"}, False),
    ],
)
def test_a_coordinator_is_told_before_the_run_is_submitted(
    make_world: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    policy: dict[str, str],
    warned: bool,
) -> None:
    """The command itself, with a submission that goes no further."""
    tmp_path = make_world(2).out.parent
    run = make_world(2, **policy).run

    def stopped(*given: Any, **settings: Any) -> int:
        raise ConfigError("not submitted")

    monkeypatch.setattr(command, "consortium_of", lambda arguments: argparse.Namespace(roster=tmp_path / "roster"))
    monkeypatch.setattr(command, "refuse_unready", lambda consortium: None)
    monkeypatch.setattr("fl_server.deployment.plan.make_run", lambda *given, **settings: (run, None))
    monkeypatch.setattr("fl_server.deployment.roster.Roster", lambda path: argparse.Namespace(admitted=list))
    monkeypatch.setattr("fl_server.deployment.runs.new_submission", stopped)
    file = tmp_path / "run.yaml"
    file.write_text(commented_yaml(RunFile))
    arguments = argparse.Namespace(hash=False, template=False, config=file, overrides=[])
    with pytest.raises(ConfigError, match="not submitted"):
        command._do_run(arguments)
    said = capsys.readouterr().err
    assert (SAID in said) == warned
    assert "warning: secagg.on is false: the server reads each site's own updates" in said.splitlines()


@pytest.mark.parametrize("policy", ["shared", "per-site"])
def test_a_simulation_is_told_too(
    tiny: Callable[..., ExperimentConfig], tmp_path: Path, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    make_plan(tiny(f"keys.policy={policy}"), tmp_path / "run")
    assert ("78 % of in-block places" in caplog.text) == (policy == "shared")


@pytest.mark.parametrize("schema", [RunFile, ExperimentConfig])
def test_the_help_of_the_setting_says_it(schema: type) -> None:
    assert "averaged stems then give much of it away" in commented_yaml(schema)
