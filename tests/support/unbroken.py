"""A run made anew where nothing befalls it: by the same sites, under its own identity, in this process.

What real sites draw follows from their keys and the run's identity, so that no second run of a consortium is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from consortium_world import PASSPHRASE, World
from flwr.app import Context, Message, RecordDict
from safetensors.numpy import load_file

from fl_client.app import make_app
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_keys import open_keys
from fl_client.deployment.own_site import OwnHost
from fl_client.deployment.signatures import SiteSignatures
from fl_server.app import app
from medveil.contract import SERVER_KEY
from medveil.wire import Tensors
from simulations.engines.grid import SERVER_NODE, InProcessGrid


def unbroken(world: World, round_: int) -> Tensors:
    """What the newest run comes to in a round, made from its beginning in one go."""
    files = [site.files for site in world.sites.values()]
    return made_anew(world.newest().run_config, files, world.folder / "unbroken", round_)


def made_anew(run_config: Mapping[str, str], sites: Iterable[OwnFiles], folder: Path, round_: int) -> Tensors:
    """The same of any run's settings; the sites keep their keys and images, and forget all else."""
    apart = [
        OwnFiles(replace(each.config, state_dir=str(folder / each.config.name)), each.file)
        for each in sorted(sites, key=lambda each: each.config.name)
    ]
    server = {**json.loads(run_config[SERVER_KEY]), "out": str(folder / "run"), "resume": False}
    told: dict[str, bool | float | int | str] = {**run_config, SERVER_KEY: json.dumps(server)}
    with pytest.MonkeyPatch.context() as patch:
        # Who sends and who answers is this process.
        for name in ("authentic", "check", "sign", "refusal"):
            patch.setattr(SiteSignatures, name, lambda *_: None)
        apps = [make_app(OwnHost(files, open_keys(files, lambda _: PASSPHRASE))) for files in apart]

        def asked(message: Message, context: Context) -> Message:
            return apps[context.node_id - SERVER_NODE - 1](message, context)

        names = [files.config.name for files in apart]
        grid = InProcessGrid(asked, [{}] * len(apps), told, names=names)  # type: ignore[arg-type]
        app(grid, Context(run_id=1, node_id=SERVER_NODE, node_config={}, state=RecordDict(), run_config=told))
    return dict(load_file(folder / "run" / "checkpoints" / f"round-{round_:04d}.safetensors"))
