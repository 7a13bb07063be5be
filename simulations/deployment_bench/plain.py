"""Plain Flower doing the same work: stock SuperLink and SuperNodes, over TLS with node keys, and an app of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.supernode import stock_command as node_command
from fl_server.deployment.consortium import CONNECTION, Consortium
from fl_server.deployment.control import Control, sync
from fl_server.deployment.superlink import is_up
from fl_server.deployment.superlink import stock_command as link_command
from medveil import processes
from medveil.config import from_mapping
from medveil.environment import TASK_POLL
from medveil.errors import FederationError
from medveil.files import make_folder, write_text
from medveil.ports import free_port
from models.config import ModelConfig
from simulations.deployment_bench.trial import CLASSES, Trial
from simulations.deployment_bench.work import Work

_NODE = "plain-supernode"
_POLL_S = 0.5
_LONGEST_S = 3600.0


def run_plain(folder: Path, images: list[Path], work: Work, *, parts: dict[str, int]) -> dict[str, Any]:
    """Run the app in `plain_app` to its end; returns what its server wrote down.

    Parameters
    ----------
    folder
        For all of it.
    images
        An npz file for each site.
    work
        What to do.
    parts
        Images each site trains on and validates on, as MedVeil split them.
    """
    trial = Trial(folder)
    nodes: list[OwnFiles] = []
    try:
        trial.set_up(images, approve=False)
        consortium = trial.consortium
        _start_link(consortium)
        sync(consortium, Control(consortium))
        for site, file in zip(trial.sites, images, strict=True):
            nodes.append(_start_node(site, consortium, _split(file, folder / f"{site.config.name}.npz", parts)))
        return _submitted(folder, consortium, work, sites=len(nodes))
    finally:
        for node in nodes:
            processes.stop(node.record(_NODE))
        trial.end()


def _stock(environment: dict[str, str]) -> dict[str, str]:
    """Flower's own pace."""
    return {**{name: value for name, value in environment.items() if name != TASK_POLL}, "OMP_NUM_THREADS": "1"}


def _start_link(consortium: Consortium) -> None:
    processes.start(
        link_command(consortium),
        record=consortium.record,
        log=consortium.log.with_suffix(".out"),
        folder=make_folder(consortium.state / "work"),
        environment=_stock(consortium.environment()),
    )
    end = time.monotonic() + 120
    while not is_up(consortium):
        if time.monotonic() > end or processes.running(consortium.record) is None:
            raise FederationError("the stock SuperLink does not answer", where=consortium.log)
        time.sleep(_POLL_S)


def _start_node(site: OwnFiles, consortium: Consortium, images: Path) -> OwnFiles:
    # A stock SuperLink has one port for everything.
    site = replace(site, config=replace(site.config, server=consortium.control))
    command = node_command(site, port=free_port(), isolated=False)
    processes.start(
        [*command, "--node-config", f'images="{images}"'],
        record=site.record(_NODE),
        log=make_folder(site.state / "logs") / "plain.log",
        folder=make_folder(site.state / "work"),
        environment=_stock(site.environment()),
    )
    return site


def _split(file: Path, out: Path, parts: dict[str, int]) -> Path:
    with np.load(file) as found:
        images, labels = found["images"][:, None], found["labels"]
    end = parts["train"] + parts["validation"]
    halves = {"train": slice(0, parts["train"]), "validation": slice(parts["train"], end)}
    arrays = {f"{part}_images": images[chosen] for part, chosen in halves.items()}
    np.savez(out, **arrays, **{f"{part}_labels": labels[chosen] for part, chosen in halves.items()})
    return out


def _submitted(folder: Path, consortium: Consortium, work: Work, *, sites: int) -> dict[str, Any]:
    out, app = folder / "plain.json", make_folder(folder / "app")
    shutil.copytree(
        Path(__file__).parent / "plain_app", app / "plain_app", ignore=shutil.ignore_patterns("__pycache__")
    )
    write_text(app / "pyproject.toml", tomli_w.dumps(_project(out, work, sites=sites)))
    environment = _stock(consortium.environment())
    done = subprocess.run(
        ["flwr", "run", str(app), CONNECTION, "--format", "json"],
        cwd=make_folder(folder / "neutral"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode:
        raise FederationError(f"'flwr run' failed: {(done.stdout + done.stderr)[-400:]}", where="plain Flower")
    number, control = int(json.loads(done.stdout)["run-id"]), Control(consortium)
    end, look = time.monotonic() + _LONGEST_S, time.monotonic() + 60
    while not out.exists():
        if time.monotonic() > look:
            look = time.monotonic() + 60
            state = control.run(number)
            if state.finished and not out.exists():
                told = f"the plain app ended: {state.status}: {state.details}"
                raise FederationError(told, where=consortium.log.with_suffix(".out"))
        if time.monotonic() > end:
            raise FederationError(f"the plain app took more than {_LONGEST_S:g} s", where="plain Flower")
        time.sleep(_POLL_S)
    found: dict[str, Any] = json.loads(out.read_text())
    short = [kind for kind, counts in found["replies"].items() if counts != [sites] * (work.rounds + 1)]
    if short:
        raise FederationError(f"the plain app lost replies: {found['replies']}", where="plain Flower")
    return found


def _project(out: Path, work: Work, *, sites: int) -> dict[str, Any]:
    model = from_mapping(ModelConfig, work.model, where="model")
    model = replace(model, image_size=work.size, patch=work.block, channels=1, classes=len(CLASSES))
    return {
        "project": {"name": "plain", "version": "1.0.0", "license": "Apache-2.0", "dependencies": []},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "bench",
                    "components": {
                        "serverapp": "plain_app.server_app:app",
                        "clientapp": "plain_app.client_app:app",
                    },
                    "config": {
                        "model": json.dumps(asdict(model)),
                        "batch-size": work.batch_size,
                        "lr": work.lr,
                        "rounds": work.rounds + 1,
                        "sites": sites,
                        "out": str(out),
                    },
                }
            }
        },
    }
