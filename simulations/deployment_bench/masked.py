"""What sums under masks cost a round: beside the same run without them, at the same sites.

Real sites of one consortium make both runs, one after the other: a site's four messages a round in place of one, and
what it computes for them. Many sites are simulated in one process, where the messages cost nothing and what is left is
the arithmetic of all of them, one site after another.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

from fl_client.deployment.roster import ApprovedRoster, own_identity
from fl_server.metrics import ALL
from medveil.files import make_folder
from medveil.secagg.roster import load_roster
from simulations.config import ExperimentConfig
from simulations.deployment_bench.fleet import TINY
from simulations.deployment_bench.overhead import Round, read_rounds, summary_of
from simulations.deployment_bench.trial import Trial, write_images
from simulations.deployment_bench.work import Work
from simulations.engines.inprocess import run_inprocess
from simulations.plan import make_plan

SITES = (3, 5)
"""Sites of the real consortia."""
AIM_S = 5.0
"""Seconds a round that masks may cost real sites, where they send as many bytes as without."""


def measure_masked(folder: Path, work: Work, *, sites: int) -> dict[str, Any]:
    """Run real sites without masks, then with them; of a round the seconds, and the bytes of all sites together.

    Raises
    ------
    FederationError
        A command failed.
    """
    images = [write_images(folder / f"{n}.npz", count=work.images, size=work.size, seed=n) for n in range(sites)]
    trial = Trial(folder)
    try:
        trial.set_up(images)
        _approve_roster(trial)
        trial.start()
        # A site that is lost ends the run: its round would be another.
        both = {"kind": "delta", "server": {"min_updates": sites}}
        bare = _read(trial.run(work.run_file(**both)))
        masked = _read(trial.run(work.run_file(**both, secagg={"on": True})))
    finally:
        trial.end()
    return {"where": "deployment", "model": work.model["name"], "sites": sites, **_beside(bare, masked)}


def measure_simulated(folder: Path, *, sites: int, work: Work = TINY) -> dict[str, Any]:
    """The same of simulated sites in this process, and what a round of them all takes more of processors' time."""
    data = write_images(folder / "images.npz", count=sites * work.images, size=work.size, seed=0)
    sides, worked = [], []
    for name in ("bare", "masked"):
        config = ExperimentConfig(name="bench", rounds=work.rounds + 1, sites=sites, device="cpu", kind="delta")
        config.data.source, config.data.path = "npz", str(data)
        config.cipher.block, config.train.batch_size = work.block, work.batch_size
        for setting, value in work.model.items():
            setattr(config.model, setting, value)
        config.server.min_updates, config.secagg.on = sites, name == "masked"
        plan = make_plan(config, make_folder(folder / name) / "run")
        # As real sites send them.
        plan.run.packed = True
        began = time.process_time()
        run_inprocess(plan)
        # What both runs do but once, before their first round, is in it, and not in the difference.
        worked.append((time.process_time() - began) / config.rounds)
        sides.append(_read(plan.out))
    found = {"where": "in process", "model": work.model["name"], "sites": sites, **_beside(*sides)}
    return {**found, "cpu_s_more": worked[1] - worked[0]}


def _approve_roster(trial: Trial) -> None:
    file = trial.folder / "roster.json"
    trial.server("roster", "--out", str(file), *trial.named)
    roster = load_roster(file)
    for site in trial.sites:
        approved = ApprovedRoster(site.roster, site.audit)
        approved.approve(roster, roster.fingerprint, site=site.config.name, identity=own_identity(site))


def _read(run: Path) -> tuple[list[Round], dict[str, int]]:
    """A run's rounds from the second on, and what all sites' tensors came to in the dearest of them."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    together = [line for line in lines if line["phase"] == "train" and line["site"] == ALL and line["round"] > 1]
    return read_rounds(run)[0], {way: max(line[way] for line in together) for way in ("bytes_up", "bytes_down")}


def _beside(bare: tuple[list[Round], dict[str, int]], masked: tuple[list[Round], dict[str, int]]) -> dict[str, Any]:
    (without, carried), (under, carried_under) = bare, masked
    wall = [[each.wall for each in rounds] for rounds in (without, under)]
    cost = [[each.cost for each in rounds] for rounds in (without, under)]
    return {
        "bare": {**summary_of(without), **carried},
        "masked": {**summary_of(under), **carried_under},
        "wall_over_bare": min(wall[1]) / min(wall[0]),
        "wall_over_bare_median": statistics.median(wall[1]) / statistics.median(wall[0]),
        "seconds_more": min(cost[1]) - min(cost[0]),
        "seconds_more_median": statistics.median(cost[1]) - statistics.median(cost[0]),
        "bytes_up_over_bare": carried_under["bytes_up"] / carried["bytes_up"],
        "bytes_down_over_bare": carried_under["bytes_down"] / carried["bytes_down"],
    }
