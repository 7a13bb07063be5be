"""What a plain `flwr run .` runs: a file a person can read, in the app's bundle, that says what the demo says."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from flwr.app import Context, RecordDict
from flwr.common.constant import FAB_MAX_SIZE
from safetensors.numpy import load_file

from fl_client.app import app as client_app
from fl_client.simulated_host import _simulated_site
from fl_server.app import app as server_app
from fl_server.config import ServerSettings
from medveil import app_config, fab
from medveil.app_config import DEMO, settings_text
from medveil.config import load_config
from medveil.contract import RUN_KEY, SERVER_KEY, SITES_KEY, RunConfig
from medveil.errors import ConfigError
from medveil.flower_build import build_fab
from simulations.config import ExperimentConfig
from simulations.engines.grid import SERVER_NODE, InProcessGrid
from simulations.engines.inprocess import RUN_ID, run_inprocess
from simulations.flower_defaults import DEMO as DEMO_OF_SIMULATIONS
from simulations.flower_defaults import TWO_HOSPITALS, as_yaml, flower_defaults, sections_of
from simulations.plan import make_plan

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
APP = PROJECT["tool"]["flwr"]["app"]
FILE = CHECKOUT / "medveil" / DEMO


def test_the_file_is_the_demo() -> None:
    assert FILE.read_text() == as_yaml(flower_defaults()), "run: python -m simulations.flower_defaults"


def test_a_person_can_read_it() -> None:
    lines = FILE.read_text().splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert not any('{"' in line or "\\" in line for line in lines)


def test_the_config_names_it_and_the_apps_read_it() -> None:
    assert APP["config"] == dict.fromkeys((RUN_KEY, SITES_KEY, SERVER_KEY), DEMO)
    written = yaml.safe_load(FILE.read_text())
    for key in APP["config"]:
        assert json.loads(settings_text(APP["config"], key)) == written[key]
    run = RunConfig.from_json(settings_text(APP["config"], RUN_KEY))
    settings = ServerSettings.from_json(settings_text(APP["config"], SERVER_KEY))
    assert (run.name, run.rounds, settings.expected) == ("demo", 8, 2)


@pytest.mark.usefixtures("fresh_sites")
def test_the_apps_run_what_the_file_says_as_the_in_process_engine_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Server and sites are handed names alone, as a plain `flwr run .` hands them."""
    small = ["rounds=1", "data.phantoms.images=24", "train.epochs=1", "model.width=24", "model.depth=1", "device=cpu"]
    config = load_config(ExperimentConfig, DEMO_OF_SIMULATIONS, [*TWO_HOSPITALS, *small])
    plan = make_plan(config, tmp_path / "engine", run="")
    run_inprocess(plan)
    (tmp_path / DEMO).write_text(as_yaml(sections_of(plan)))
    monkeypatch.setattr(app_config, "_FOLDER", tmp_path)
    monkeypatch.setenv("MEDVEIL_HOME", str(tmp_path / "home"))
    app_config._of_demo.cache_clear()
    _simulated_site.cache_clear()
    run_config = dict(APP["config"])
    nodes = [{"partition-id": index, "num-partitions": 2} for index in range(2)]
    grid = InProcessGrid(client_app, nodes, run_config, names=["site-1", "site-2"], run_id=RUN_ID)
    server_app(grid, Context(RUN_ID, SERVER_NODE, {}, RecordDict(), run_config))
    app_config._of_demo.cache_clear()
    (found,) = (tmp_path / "home" / "runs").iterdir()
    ours, theirs = (load_file(run / "checkpoints" / "round-0001.safetensors") for run in (found, tmp_path / "engine"))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_flower_bundles_it(tmp_path: Path) -> None:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "pyproject.toml", *fab.PACKAGES]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split()
    for name in filter(lambda name: (CHECKOUT / name).is_file(), listed):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    bundle = build_fab(tmp_path)
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        assert archive.read(f"medveil/{DEMO}") == FILE.read_bytes()
    assert len(bundle) < FAB_MAX_SIZE / 3
    assert build_fab(tmp_path) == bundle


def test_an_installed_app_hashes_it_and_simulates_nobody() -> None:
    assert f"medveil/{DEMO}" in fab.installed()
    assert DEMO in PROJECT["tool"]["setuptools"]["package-data"]["medveil"]
    config = fab._project()["tool"]["flwr"]["app"]["config"]  # type: ignore[index]
    assert config == {RUN_KEY: "", SERVER_KEY: ""}


@pytest.mark.parametrize("given", ["", None, 7])
def test_no_settings_are_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="'medveil-run' is missing"):
        settings_text({RUN_KEY: given}, RUN_KEY)


@pytest.mark.parametrize("name", ["../demo.yaml", "/etc/passwd", "demo.yaml ", "kit/demo.yaml", "demo.yml"])
def test_no_other_file_is_ever_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_config, "read_bytes", lambda path: pytest.fail(f"opened {path}"))
    assert settings_text({RUN_KEY: name}, RUN_KEY) == name
    with pytest.raises(ConfigError, match="is not JSON"):
        RunConfig.from_json(settings_text({RUN_KEY: name}, RUN_KEY))


def test_a_file_without_the_section_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_config, "_FOLDER", tmp_path)
    for text in ("other: 1", "[]", "a: &x 1"):
        (tmp_path / DEMO).write_text(text)
        app_config._of_demo.cache_clear()
        with pytest.raises(ConfigError):
            settings_text({RUN_KEY: DEMO}, RUN_KEY)
    app_config._of_demo.cache_clear()
