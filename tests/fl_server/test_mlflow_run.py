"""MLflow has what metrics.jsonl has, read back by MLflow's own client; skipped without the extra."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec

import pytest

from fl_server import mlflow_run
from fl_server.metrics import MEASURES
from fl_server.mlflow_run import EXPERIMENT, RUN, TAKEN_OVER, check_store, flat
from medveil.errors import ConfigError

SCALARS = {*MEASURES, "n", "seconds", "bytes_up", "bytes_down"}
needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="needs medveil[mlflow]")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    for key, value in mlflow_run._DEFAULTS.items():
        os.environ.setdefault(key, value)
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    return MlflowClient(tracking_uri=f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db")


def runs_of(client, world):
    (experiment,) = [each for each in client.search_experiments() if each.name == EXPERIMENT]
    where = f"tags.`{RUN}` = '{world.run.run}'"
    return client.search_runs([experiment.experiment_id], filter_string=where, order_by=["attributes.start_time ASC"])


def read(client, run):
    return {
        (*name.split("/"), point.step): point.value
        for name in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, name)
    }


def expected(world):
    return {
        (line["site"], line["phase"], name, line["round"]): pytest.approx(line[name])
        for line in world.lines()
        for name in SCALARS
        if line[name] is not None
    }


@needs_mlflow
def test_mlflow_shows_every_number_of_every_line_and_the_settings_and_a_resume_begins_a_run_of_its_own(
    make_world, client
):
    world = make_world(3, rounds=3, train={"lr": 0.002})
    world.site("site-3").fails = lambda kind, round_: KeyboardInterrupt() if (kind, round_) == ("train", 2) else None
    with pytest.raises(KeyboardInterrupt):
        world.federate(mlflow=client.tracking_uri)
    (cut,) = runs_of(client, world)
    assert ("site-1", "train", "loss", 2) in read(client, cut)
    world.site("site-3").fails = lambda kind, round_: None
    world.federate(mlflow=client.tracking_uri, resume=True)
    old, run = runs_of(client, world)
    assert (old.data.tags[TAKEN_OVER], old.info.status) == ("true", "KILLED")
    assert (run.data.tags["medveil.went_on_after_round"], run.info.status) == ("1", "FINISHED")
    assert read(client, run) == expected(world)
    assert run.data.params["run.train.lr"] == "0.002"
    assert run.data.params["server.strategy"] == "fedavg"
    assert "mlflow.db" not in str(run.data.params)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


@needs_mlflow
def test_a_store_that_goes_away_does_not_stop_the_run(make_world, client, monkeypatch, caplog):
    from mlflow.tracking import MlflowClient  # noqa: PLC0415

    def gone(*_, **__):
        raise OSError("no route\nto the host")

    monkeypatch.setattr(MlflowClient, "log_batch", gone)
    world = make_world(2, rounds=1)
    with caplog.at_level(logging.WARNING, logger="medveil.server"):
        assert world.federate(mlflow=client.tracking_uri)["status"] == "finished"
    assert [each.getMessage() for each in caplog.records].count("no more is sent to MLflow: no route") == 1


@needs_mlflow
def test_a_store_that_cannot_be_opened_is_refused_before_anything_is_sent(make_world, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    world = make_world(2, rounds=1)
    with pytest.raises(ConfigError, match="MLflow does not open it: The filesystem tracking backend"):
        world.federate(mlflow=f"file://{tmp_path}/store")
    assert not world.grid.sent


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("databricks", "no store that is known"),
        ("postgresql://h/db", "no store that is known"),
        ("https://me:secret@mlflow.example.org", "holds a name or password"),
        ("https://[", "is no address"),
        ("sqlite:////nowhere/at/all/mlflow.db", "its folder is not there"),
    ],
)
def test_other_stores_and_passwords_are_refused(uri, words):
    with pytest.raises(ConfigError, match=words) as refused:
        check_store(uri)
    assert "secret" not in str(refused.value)


def test_where_it_is_not_installed_nothing_is_started(make_world, monkeypatch):
    monkeypatch.setattr(mlflow_run, "find_spec", lambda name: None)
    world = make_world(2, rounds=1)
    with pytest.raises(ConfigError, match=r"MLflow is not installed.*pip install 'medveil\[mlflow\]'"):
        world.federate(mlflow="sqlite:///x.db")
    assert not world.grid.sent and not world.out.exists()


def test_settings_are_flat_and_bounded():
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": "x" * 900}) == [("a.b", "1"), ("a.c.d", ""), ("e", "x" * 500)]
