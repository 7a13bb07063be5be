"""What a plain `flwr run .` runs: the demo with two hospitals, as the run config in pyproject.toml.

Flower starts two sites unless told otherwise, and an app cannot ask for more. Its run config knows no files and no
lists, so the resolved demo stands there as JSON. After a change of the demo or of a default, write it anew with
``python -m simulations.flower_defaults``; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from flwr.app import UserConfig

from medveil.config import load_config
from medveil.contract import RUN_KEY, SERVER_KEY, SITES_KEY
from medveil.files import write_text
from simulations.config import ExperimentConfig, make_plan

CHECKOUT = Path(__file__).resolve().parents[1]
DEMO = CHECKOUT / "simulations" / "conf" / "demo.yaml"
TWO_HOSPITALS = ("sites=2", "data.phantoms.sites=2", "threads=1")
_SECTION = "[tool.flwr.app.config]\n"


def flower_defaults() -> UserConfig:
    """The demo as Flower's run config, without a folder and without a run's identity: those are found at run time."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = make_plan(load_config(ExperimentConfig, DEMO, TWO_HOSPITALS), Path(scratch), run="")
        config = plan.run_config()
    sites = dataclasses.replace(plan.sites, out="", data=dataclasses.replace(plan.sites.data, path=None))
    server: dict[str, Any] = json.loads(str(config[SERVER_KEY]))
    server["out"], server["experiment"]["data"]["path"] = "", None
    return {RUN_KEY: config[RUN_KEY], SERVER_KEY: json.dumps(server, sort_keys=True), SITES_KEY: sites.to_json()}


def main() -> None:
    """Write the defaults into pyproject.toml."""
    path = CHECKOUT / "pyproject.toml"
    lines = "".join(f"{key} = '{value}'\n" for key, value in flower_defaults().items())
    text = path.read_text()
    write_text(path, re.sub(rf"{re.escape(_SECTION)}(?:medveil-.*\n)*", lambda _: _SECTION + lines, text))


if __name__ == "__main__":
    main()
