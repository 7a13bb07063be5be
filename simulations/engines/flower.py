"""The `flower` engine: both apps through Flower's own simulation (`flwr run`, Ray).

Everything Flower keeps is put aside for this one run: a neutral working folder (Ray workers import from the folder
the SuperLink was started in, before they look at the app), a home of its own and a port of its own. The SuperLink is
our child process and is stopped by its recorded id.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli_w

from fl_server.manifest import note_interrupted, read_manifest
from medveil import errors
from medveil.environment import needed_environment
from medveil.errors import ConfigError, FederationError, MedVeilError
from medveil.log import logger
from medveil.ports import free_port
from medveil.tied import run_tied, tied
from simulations.engines.cluster import OFFLINE, VARIABLE, address_of, cpus_of_an_actor
from simulations.plan import Plan

_CHECKOUT = Path(__file__).resolve().parents[2]
_START_S = 60.0
_STOP_S = 20.0
_log = logger("flower")


def run_flower(plan: Plan, *, resume: bool = False) -> None:
    """Run an experiment with `flwr run` in Flower's simulation, on this machine or a Ray cluster it is a node of.

    Raises
    ------
    ConfigError
        Ray is not installed, or this is not a checkout Flower can pack.
    DataError, StorageError, ConfigError, FederationError
        The cluster cannot run it (`simulations.engines.cluster`).
    MedVeilError
        The run failed; the kind and the text are those of the server's manifest.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("needs Ray", where="engine flower", cure="make demo-flower, or pip install '.[simulation]'")
    if not (_CHECKOUT / "pyproject.toml").is_file():
        raise ConfigError("needs a checkout of MedVeil", where="engine flower", cure="git clone, pip install -e .")
    address = address_of(plan.experiment.ray)
    with tempfile.TemporaryDirectory(prefix="mv-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        port = free_port()
        environment = {**_environment(folder), **({VARIABLE: address} if address else {})}
        _write_settings(folder, plan, port, resume=resume)
        cpus = cpus_of_an_actor(plan, folder, environment)
        try:
            with _superlink(folder, port, environment):
                _submit(folder, plan, environment, cpus=cpus)
        except KeyboardInterrupt:
            with contextlib.suppress(MedVeilError):
                note_interrupted(plan.out)
            raise
    _check_manifest(plan.out)


def _environment(folder: Path) -> dict[str, str]:
    programs = str(Path(sys.executable).parent)
    return {
        **needed_environment(),
        **{name: value for name, value in os.environ.items() if name.startswith("RAY_") and name != VARIABLE},
        **OFFLINE,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(folder / "home"),
        "RAY_TMPDIR": str(folder / "ray"),
    }


def _write_settings(folder: Path, plan: Plan, port: int, *, resume: bool) -> None:
    for name in ("home", "ray", "work"):
        (folder / name).mkdir()
    link = {"superlink": {"default": "medveil", "medveil": {"address": f"127.0.0.1:{port}", "insecure": True}}}
    (folder / "home" / "config.toml").write_text(tomli_w.dumps(link))
    (folder / "run.toml").write_text(tomli_w.dumps(dict(plan.run_config(resume=resume))))


@contextlib.contextmanager
def _superlink(folder: Path, port: int, environment: dict[str, str]) -> Iterator[None]:
    log = folder / "superlink.log"
    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--database", str(folder / "state.db")]
    where: dict[str, Any] = {"cwd": folder / "work", "env": environment}
    try:
        with log.open("wb") as out, tied(command, removes=folder, stdout=out, stderr=out, **where) as process:
            _log.info("SuperLink is below process %d, on port %d", process.pid, port)
            _wait_until_up(process, port, log)
            yield
    finally:
        _kill_stragglers(folder)


def _wait_until_up(process: subprocess.Popen[Any], port: int, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
            return
        time.sleep(0.2)
    words = _last_words(log.read_text(errors="replace"))
    raise FederationError(f"Flower's SuperLink did not start: {words}", where=f"127.0.0.1:{port}")


def _submit(folder: Path, plan: Plan, environment: dict[str, str], *, cpus: int) -> None:
    gpus = float(plan.experiment.ray.gpus)
    resources = f"num-supernodes={plan.sites.sites} client-resources-num-cpus={cpus} client-resources-num-gpus={gpus}"
    command = ["flwr", "run", str(_CHECKOUT), "medveil", "--stream", "-c", str(folder / "run.toml")]
    command += ["--federation-config", resources]
    done = run_tied(command, cwd=folder / "work", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode(errors="replace")
    for line in text.splitlines():
        _log.debug("%s", line)
    if done.returncode != 0 and not (plan.out / "manifest.json").is_file():
        raise FederationError(f"'flwr run' refused the app: {_last_words(text)}")


def _last_words(text: str, *, lines: int = 3) -> str:
    """The last lines of a program's output, out of the box it draws around errors."""
    said = [line.strip("│╭╮╰╯─ \t") for line in text.splitlines()]
    return " ".join([line for line in said if line][-lines:]) or "it said nothing"


def _check_manifest(out: Path) -> None:
    path = out / "manifest.json"
    if not path.is_file():
        raise FederationError("the server app left no manifest", where=out, cure="run again with --log-level debug")
    manifest = read_manifest(path)
    if manifest["status"] in {"finished", "stopped-early"}:
        return
    raise _remade(str(manifest.get("error") or f"the run ended as '{manifest['status']}'"))


def _remade(text: str) -> MedVeilError:
    """The server's error again, in its own class, so that the exit code is the same under every engine."""
    kind, _, rest = text.partition(": ")
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, MedVeilError):
        return found(rest)
    return FederationError(text)


def _kill_stragglers(folder: Path) -> None:
    """Kill what the SuperLink started and nobody ended: its leash does, if that was not killed itself."""
    end = time.monotonic() + _STOP_S
    while (left := _under(folder)) and time.monotonic() < end:
        for process in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


def _under(folder: Path) -> list[int]:
    """Ids of processes that run with this run's own Flower home; none where the system has no /proc."""
    mark, found = f"FLWR_HOME={folder / 'home'}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found
