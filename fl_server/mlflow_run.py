"""A run's settings and measures in an MLflow store of one's own, for whoever compares runs in MLflow.

One run of MLflow's for a run of ours, in an experiment called `EXPERIMENT`: settings as its parameters, the measures of
metrics.jsonl as its metrics, named ``SITE/PHASE/MEASURE`` with the round as step (``all/validation/loss``). Neither
image, name of one, nor model is sent. MLflow cannot take a measure back: a run that goes on after round r is a new one
there, with the rounds up to r once more, and the old one is marked as taken over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fl_server.metrics import MEASURES, read_lines
from fl_server.watch import Watcher
from medveil.errors import ConfigError
from medveil.log import logger
from medveil.plain import shown

if TYPE_CHECKING:
    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

EXPERIMENT = "medveil"
RUN, TAKEN_OVER, WENT_ON = "medveil.run", "medveil.taken_over", "medveil.went_on_after_round"
_SCALARS = (*MEASURES, "n", "seconds", "bytes_up", "bytes_down")
_SCHEMES = ("sqlite", "file", "http", "https")
_WHERE = "server.mlflow"
_CURE = "pip install 'medveil[mlflow]', or 'server.mlflow' empty"
_STORES = "sqlite:////home/me/mlflow.db, or the address of an MLflow server"
_MOST_LETTERS = 500
_AT_ONCE = 500
_DEFAULTS = {
    # It would tell its makers that it is used.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A store that is away must not hold up a round: by itself MLflow tries for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_log = logger("server")


def check_store(uri: str) -> None:
    """Refuse a store that cannot be written to as it stands, or that says a password (ConfigError)."""
    if not uri:
        return
    try:
        parts = urlsplit(uri)
        named = parts.username is not None or parts.password is not None
    except ValueError:
        raise ConfigError("is no address", where=_WHERE, cure=_STORES) from None
    if parts.scheme not in _SCHEMES:
        raise ConfigError("is no store that is known", where=_WHERE, cure=f"{', '.join(_SCHEMES)}: as {_STORES}")
    if named:
        # It would lie in the run's manifest.
        cure = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        raise ConfigError("holds a name or password", where=_WHERE, cure=cure)
    if parts.scheme == "sqlite" and not Path(parts.path[1:]).parent.is_dir():
        # MLflow would make it wherever that is.
        raise ConfigError("its folder is not there", where=_WHERE, cure=f"the whole path of a file, as {_STORES}")
    if find_spec("mlflow") is None:
        raise ConfigError("MLflow is not installed", where=_WHERE, cure=_CURE)


class MlflowWatcher(Watcher):
    """Sends every line of metrics.jsonl as metrics, as it comes.

    A store that goes away stops the metrics and not the run.

    Parameters
    ----------
    uri
        Of the store, as MLflow has it.
    run
        The run folder.
    uuid, name
        Of the run.
    settings
        What is written down as parameters, by section.

    Raises
    ------
    ConfigError
        MLflow is not installed, or cannot open the store.
    """

    def __init__(self, uri: str, run: Path, *, uuid: str, name: str, settings: Mapping[str, Any]) -> None:
        check_store(uri)
        for key, value in _DEFAULTS.items():
            os.environ.setdefault(key, value)
        from mlflow.tracking import MlflowClient  # noqa: PLC0415 - takes seconds

        self._run, self._uuid, self._name, self._settings = run, uuid, name, settings
        self._id, self._stopped = "", False
        try:
            self._client: MlflowClient = MlflowClient(tracking_uri=uri)
            found = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = str(found.experiment_id if found else self._client.create_experiment(EXPERIMENT))
        except Exception as error:  # MLflow's, SQLAlchemy's, requests' and the disk's each have types of their own
            raise ConfigError(f"MLflow does not open it: {_short(error)}", where=_WHERE, cure=_STORES) from None

    def goes_on(self, round_: int) -> None:
        """Begin a run of MLflow's, with what metrics.jsonl still holds of the rounds before."""
        self._tell(lambda: self._begin(round_))

    def line(self, line: dict[str, Any]) -> None:
        """Send the measures of a line; what is undefined in it has none."""
        self._tell(lambda: self._send([line]))

    def ended(self, summary: dict[str, Any]) -> None:
        """Let MLflow know that the run is over."""
        self._tell(lambda: self._client.set_terminated(self._id, "FINISHED"))

    def _begin(self, round_: int) -> None:
        where = f"tags.`{RUN}` = '{self._uuid}'"
        for each in self._client.search_runs([self._experiment], filter_string=where):
            self._client.set_tag(each.info.run_id, TAKEN_OVER, "true")
            self._client.set_terminated(each.info.run_id, "KILLED")
        tags = {RUN: self._uuid, **({WENT_ON: str(round_)} if round_ else {})}
        self._id = self._client.create_run(self._experiment, tags=tags, run_name=self._name).info.run_id
        from mlflow.entities import Param  # noqa: PLC0415

        params = [Param(key, value) for key, value in flat(self._settings)]
        for start in range(0, len(params), 100):
            self._client.log_batch(self._id, params=params[start : start + 100])
        file = self._run / "metrics.jsonl"
        self._send(read_lines(file) if file.is_file() else [])

    def _send(self, lines: Iterable[Mapping[str, Any]]) -> None:
        from mlflow.entities import Metric  # noqa: PLC0415

        now = int(time.time() * 1000)
        made: list[Metric] = [
            Metric(f"{line['site']}/{line['phase']}/{name}", float(line[name]), now, int(line["round"]))
            for line in lines
            for name in _SCALARS
            if line[name] is not None
        ]
        for start in range(0, len(made), _AT_ONCE):
            self._client.log_batch(self._id, metrics=made[start : start + _AT_ONCE])

    def _tell(self, what: Any) -> None:
        if self._stopped:
            return
        try:
            what()
        except Exception as error:  # as above
            self._stopped = True
            _log.warning("no more is sent to MLflow: %s", _short(error))


def flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested settings as (``section.name``, text), in order; an empty text where one is unset."""
    made: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            made += flat(value, f"{name}.")
        else:
            made.append((name, "" if value is None else str(value)[:_MOST_LETTERS]))
    return made


def _short(error: Exception) -> str:
    return shown(str(error).strip().split("\n")[0], most=200) or type(error).__name__
