"""Who watches a run beside whoever asked to: TensorBoard and MLflow, where its server is told to write for them."""

from __future__ import annotations

from pathlib import Path

from fl_server.config import ServerConfig
from fl_server.mlflow_run import MlflowWatcher
from fl_server.tensorboard import TensorBoardWatcher
from fl_server.watch import Watcher, Watchers
from medveil.config import to_mapping
from medveil.contract import RunConfig


def watcher_of(watch: Watcher, folder: Path, run: RunConfig, server: ServerConfig) -> Watcher:
    """`watch`, and those whom the server's settings name, who are told after it.

    Parameters
    ----------
    watch
        Hears all.
    folder
        Of the run.
    run, server
        The run, and its server's settings.

    Raises
    ------
    ConfigError
        The extra that one of them needs is not installed.
    """
    if server.tensorboard:
        watch = Watchers(watch, TensorBoardWatcher(folder))
    if server.mlflow:
        told = {"run": to_mapping(run), "server": {**to_mapping(server), "mlflow": None}}
        watch = Watchers(watch, MlflowWatcher(server.mlflow, folder, uuid=run.run, name=run.name, settings=told))
    return watch
