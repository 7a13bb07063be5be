"""What a plain `flwr run .` runs: the demo with two hospitals, resolved, as the app's own ``medveil/demo.yaml``.

Flower starts two sites unless told otherwise, and an app cannot ask for more. After a change of the demo or of a
default, write the file anew with ``python -m simulations.flower_defaults``; a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from medveil.app_config import DEMO as FILE
from medveil.config import load_config
from medveil.contract import RUN_KEY, SERVER_KEY, SITES_KEY
from medveil.files import write_text
from medveil.yaml_core import written_yaml
from simulations.config import ExperimentConfig
from simulations.plan import Plan, make_plan

CHECKOUT = Path(__file__).resolve().parents[1]
DEMO = CHECKOUT / "simulations" / "conf" / "demo.yaml"
TWO_HOSPITALS = ("sites=2", "data.phantoms.sites=2", "threads=1")
_HEAD = """\
# What a plain `flwr run .` runs: simulations/conf/demo.yaml with two hospitals, every setting resolved.
# Written by `python -m simulations.flower_defaults`; change the demo, not this file.
"""
_ABOUT = {
    RUN_KEY: "What server and sites agree on (medveil.contract.RunConfig).",
    SITES_KEY: "What the simulated sites are told (fl_client.config.SimulatedSites).",
    SERVER_KEY: "How the server works, and the experiment as its manifest keeps it (fl_server.config.ServerSettings).",
}


def flower_defaults() -> dict[str, dict[str, Any]]:
    """The demo by key of the run config."""
    with tempfile.TemporaryDirectory() as scratch:
        return sections_of(make_plan(load_config(ExperimentConfig, DEMO, TWO_HOSPITALS), Path(scratch), run=""))


def sections_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """A plan's run config by key, without a folder and a run's identity: those are found at run time."""
    config = plan.run_config()
    sites = dataclasses.replace(plan.sites, out="", data=dataclasses.replace(plan.sites.data, path=None))
    server: dict[str, Any] = json.loads(str(config[SERVER_KEY]))
    server["out"], server["experiment"]["data"]["path"] = "", None
    return {RUN_KEY: json.loads(str(config[RUN_KEY])), SITES_KEY: json.loads(sites.to_json()), SERVER_KEY: server}


def as_yaml(sections: dict[str, dict[str, Any]]) -> str:
    """The sections as YAML, each under what it is for; what holds no section of its own stands in one line."""
    written = [f"\n# {_ABOUT[key]}\n" + written_yaml({key: section}, width=90) for key, section in sections.items()]
    return _HEAD + "".join(written)


def main() -> None:
    """Write the app's own settings file."""
    write_text(CHECKOUT / "medveil" / FILE, as_yaml(flower_defaults()))


if __name__ == "__main__":
    main()
