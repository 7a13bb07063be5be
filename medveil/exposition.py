"""State as Prometheus text: once, or on a port that this machine alone reaches.

What is exposed is what `status` shows, and nothing of it asks for a login: so it is bound to 127.0.0.1, and to nothing
else. Looking costs, and anybody on this machine may ask as often as they like: a look holds for some seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medveil.cli import add_json
from medveil.environment import HERE
from medveil.errors import ConfigError, MedVeilError, StorageError
from medveil.log import logger
from medveil.plain import shown, tell_block, tell_json, tell_result

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PREFIX = "medveil"
HOLDS_S = 15.0
"""Seconds for which a look is not repeated."""
_CURE = "pip install 'medveil[prometheus]'"
_LONGEST = 64
_EVER = 365 * 24 * 3600.0
_log = logger("metrics")


@dataclass
class Family:
    """Samples of one name: each labels by name, and a number.

    Parameters
    ----------
    name
        Without prefix; a counter's ends in ``_total``.
    text
        What it is, and in which unit.
    samples
        None is no sample.
    """

    name: str
    text: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float | None, **labels: str) -> Family:
        """Add a sample, if there is one; returns the family."""
        if value is not None:
            self.samples.append(({name: shown(each, most=_LONGEST) for name, each in labels.items()}, float(value)))
        return self


Look = Callable[[], Iterable[Family]]


def moment_of(text: str | None, *, now: str = "now") -> float | None:
    """Seconds since 1970 of an ISO 8601 moment, of this moment where it says so; None of anything else."""
    if text == now:
        return time.time()
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def disk_free(**folders: Path) -> Family:
    """Free bytes on the disk of each folder that is there."""
    made = Family("disk_free_bytes", "Free on the disk of this folder.")
    for name, folder in folders.items():
        made.add(shutil.disk_usage(folder).free if folder.is_dir() else None, folder=name)
    return made


def add_exposition(made: argparse.ArgumentParser, default: int) -> None:
    """Add the options of a command that exposes state."""
    made.add_argument(
        "--listen",
        default=f"{HERE}:{default}",
        metavar=f"{HERE}:PORT",
        help=f"where to answer GET /metrics; no other address than {HERE} is taken (default: {HERE}:{default})",
    )
    made.add_argument("--once", action="store_true", help="print the text once, and listen nowhere")
    add_json(made)


def expose(arguments: argparse.Namespace, look: Look) -> None:
    """Do what such a command says, until Ctrl-C.

    Raises
    ------
    ConfigError
        The address is another than this machine's own, or prometheus-client is not installed.
    StorageError
        The port is taken.
    """
    port = port_of(arguments.listen)
    if arguments.once and arguments.json:
        tell_json({"samples": samples_of(look)})
        return
    if find_spec("prometheus_client") is None:
        raise ConfigError("prometheus-client is not installed", where="metrics", cure=_CURE)
    if arguments.once:
        tell_block(text_of(look), end="")
        return
    serve(look, port, ready=lambda bound: _told(f"http://{HERE}:{bound}/metrics", as_json=arguments.json))


def _told(address: str, *, as_json: bool) -> None:
    tell_result({"address": address}, f"{address}, until Ctrl-C", as_json=as_json)


def port_of(listen: str) -> int:
    """The port of an address on this machine (ConfigError for any other)."""
    host, _, port = listen.rpartition(":")
    if host != HERE:
        problem = f"'{shown(host, most=_LONGEST)}' is reached by others, and nothing here asks for a login"
        raise ConfigError(problem, where="--listen", cure=f"{HERE}:PORT; a scraper elsewhere comes through a tunnel")
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise ConfigError("names no port", where="--listen", cure=f"{HERE}:PORT, from 0 (a free one) to 65535")
    return int(port)


def samples_of(look: Look) -> list[dict[str, Any]]:
    """One look, as plain data: what `text_of` says line by line (errors as `look`)."""
    found = [(f"{PREFIX}_{each.name}", *sample) for each in look() for sample in each.samples]
    return [{"name": name, "labels": dict(labels), "value": value} for name, labels, value in found]


def text_of(look: Look) -> str:
    """One look, as Prometheus text (errors as `look`)."""
    from prometheus_client import generate_latest  # noqa: PLC0415 - an extra

    found = list(look())
    return generate_latest(_registry(lambda: found)).decode()


def serve(look: Look, port: int, *, ready: Callable[[int], None], ended: threading.Event | None = None) -> None:
    """Answer scrapes on 127.0.0.1 until Ctrl-C, or until `ended` is set.

    Parameters
    ----------
    look
        Finds what is exposed; a look that fails is logged, and ``medveil_look_failed`` is 1.
    port
        0 takes a free one.
    ready
        Hears the port.

    Raises
    ------
    StorageError
        The port is taken.
    """
    from prometheus_client import start_http_server  # noqa: PLC0415 - an extra

    try:
        server, thread = start_http_server(port, addr=HERE, registry=_registry(Held(look)))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise StorageError(
            f"cannot listen: {why}", where=f"{HERE}:{port}", cure="--listen with another port"
        ) from error
    try:
        ready(int(server.server_port))
        (ended or threading.Event()).wait(_EVER)
    except KeyboardInterrupt:
        # It is how one stops it.
        pass
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Held:
    """A look that is repeated after `HOLDS_S` at the earliest, by one at a time."""

    def __init__(self, look: Look, *, seconds: float = HOLDS_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._seconds, self._clock = look, seconds, clock
        self._lock, self._at, self._found = threading.Lock(), float("-inf"), list[Family]()

    def __call__(self) -> Sequence[Family]:
        """What was found last; nothing but the failure where looking failed."""
        with self._lock:
            if self._clock() - self._at >= self._seconds:
                failed = Family("look_failed", "Whether the state could not be read; the command's log says why.")
                try:
                    self._found = [*self._look(), failed.add(0)]
                except MedVeilError as error:
                    _log.warning("%s", error)
                    self._found = [failed.add(1)]
                self._at = self._clock()
            return self._found


def _registry(families: Callable[[], Iterable[Family]]) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - an extra
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Found(Collector):
        def collect(self) -> Iterable[Any]:
            for each in families():
                kind = CounterMetricFamily if each.name.endswith("_total") else GaugeMetricFamily
                names = list(each.samples[0][0]) if each.samples else []
                made = kind(f"{PREFIX}_{each.name}", each.text, labels=names)
                for labels, value in each.samples:
                    made.add_metric([labels[name] for name in names], value)
                yield made

        def describe(self) -> Iterable[Any]:
            """Nothing: what is exposed is known when it was looked at."""
            return []

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Found())
    return registry
