from __future__ import annotations

import json
import subprocess
import sys

import pytest
from flwr.app import Context, RecordDict

from fl_server.app import app
from fl_server.config import ServerConfig, ServerSettings
from medveil.contract import RUN_KEY, SERVER_KEY
from medveil.errors import ConfigError, FederationError
from medveil.log import unheard


def context(**run_config):
    return Context(run_id=77, node_id=1, node_config={}, state=RecordDict(), run_config=run_config)


def settings(out, **server):
    return ServerSettings(out=str(out), sites=2, server=ServerConfig(wait_for_sites=0.3, **server))


def test_the_app_runs_what_the_run_config_says(make_world, tmp_path):
    world = make_world(2, rounds=1)
    app(world.grid, context(**{RUN_KEY: world.run.to_json(), SERVER_KEY: settings(tmp_path / "here").to_json()}))
    assert json.loads((tmp_path / "here" / "summary.json").read_text())["status"] == "finished"


def test_without_a_folder_it_says_where_the_run_is(make_world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEDVEIL_HOME", str(tmp_path / "home"))
    world = make_world(2, rounds=1, name="trial")
    app(world.grid, context(**{RUN_KEY: world.run.to_json(), SERVER_KEY: settings("").to_json()}))
    folder = tmp_path / "home" / "runs" / f"trial-{world.run.run[:8]}"
    assert (folder / "summary.json").is_file()
    assert f"run folder: {folder}" in capsys.readouterr().out


def test_a_run_without_a_name_of_its_own_gets_flowers(make_world, tmp_path):
    world = make_world(2, rounds=1, run="")
    app(world.grid, context(**{RUN_KEY: world.run.to_json(), SERVER_KEY: settings(tmp_path / "here").to_json()}))
    assert json.loads((tmp_path / "here" / "manifest.json").read_text())["run"] == "flwr-000000000000004d"


CAME = (
    "1 of 2 sites came within 0.3 s (node 100); at least 2 are needed: start the others, then go on with "
    "'medveil-server resume'"
)


@pytest.mark.parametrize("key", [RUN_KEY, SERVER_KEY])
def test_missing_settings_are_named(make_world, tmp_path, key):
    world = make_world(2)
    given = {RUN_KEY: world.run.to_json(), SERVER_KEY: settings(tmp_path / "here").to_json()}
    del given[key]
    with pytest.raises(ConfigError, match=f"run config: '{key}' is missing"):
        app(world.grid, context(**given))


def test_a_failure_surfaces_and_is_said_once(make_world, tmp_path, caplog):
    world = make_world(2)
    world.grid.offline = {101}
    given = {RUN_KEY: world.run.to_json(), SERVER_KEY: settings(tmp_path / "here").to_json()}
    with caplog.at_level("DEBUG", logger="medveil.server"), pytest.raises(FederationError, match="1 of 2 sites came"):
        app(world.grid, context(**given))
    said = [(record.levelname, record.getMessage()) for record in caplog.records if "sites came" in record.getMessage()]
    assert said == [("DEBUG", CAME)]


def test_under_flower_nobody_else_says_the_error(make_world, tmp_path, capsys, monkeypatch):
    # What the public calls of another package leave in a process is no log that anybody hears.
    unheard()
    world = make_world(2)
    world.grid.offline = {101}
    monkeypatch.setattr(type(world.grid), "__module__", "flwr.superlink.grid")
    monkeypatch.setattr("fl_server.app.is_simulated", lambda grid: True)
    given = {RUN_KEY: world.run.to_json(), SERVER_KEY: settings(tmp_path / "here").to_json()}
    with pytest.raises(FederationError):
        app(world.grid, context(**given))
    errors = [line for line in capsys.readouterr().err.splitlines() if " ERROR " in line]
    assert len(errors) == 1
    assert errors[0].endswith(f"medveil.server: {CAME}")


def test_the_server_imports_no_cipher_and_no_client():
    code = (
        "import sys, fl_server.app; "
        "print([name for name in sys.modules if name.split('.')[0] in {'crypto', 'fl_client', 'simulations'}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
