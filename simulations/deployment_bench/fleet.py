"""Many sites on one machine: do all rounds complete, is anything lost, and what does a site take."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.supervisor import NODE, SUPERVISOR, WORKER
from fl_server.metrics import ALL
from medveil import processes
from medveil.errors import FederationError
from medveil.files import read_json
from simulations.deployment_bench.overhead import read_rounds
from simulations.deployment_bench.trial import Trial, write_images
from simulations.deployment_bench.work import Work

TINY = Work(
    {"name": "vit_tiny_patch16_224", "width": 24, "depth": 2, "heads": 2}, images=24, size=32, block=8, rounds=3
)
_MEGABYTE = 1e6
_PER_SITE = 0.6e9
"""What a site of many takes (0.56 GB of three were measured): a fleet that would not fit is refused beforehand."""
_LEAST_FREE = 2e9
"""Memory that must stay free while sites start: others work on this machine too."""


def measure_fleet(folder: Path, *, sites: int, work: Work = TINY) -> dict[str, Any]:
    """Run `sites` real sites to the end.

    Raises
    ------
    FederationError
        The machine has too little memory for them, or a command failed.
    """
    room = _available()
    if room is not None and room < sites * _PER_SITE:
        cure = f"at most {int(room // _PER_SITE)} sites"
        raise FederationError(f"{room / 1e9:.1f} GB of memory for {sites} sites", where="fleet", cure=cure)
    images = [write_images(folder / f"{n}.npz", count=work.images, size=work.size, seed=n) for n in range(sites)]
    trial = Trial(folder)
    try:
        trial.set_up(images)
        trial.start(after_each=_refuse_full)
        server = {"wait_for_sites": 300, "min_sites": sites, "min_updates": sites}
        run = trial.run(work.run_file(server=server))
        memory = [_memory(site) for site in trial.sites]
        link = _pss(processes.running(trial.consortium.record))
        answered = [_answered(site) for site in trial.sites]
    finally:
        trial.end()
    rounds, trained = read_rounds(run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    tested = [line for line in lines if line["phase"] == "test" and line["site"] != ALL]
    total = work.rounds + 1
    # A query, every round, and the last measurement.
    expected = total + 2
    return {
        "sites": sites,
        "rounds": read_json(run / "summary.json")["rounds"],
        "updates": len(trained),
        "updates_expected": sites * total,
        "measured": len({line["site"] for line in tested}),
        "left_out": len(read_json(run / "manifest.json")["left_out"]),
        "answers_missing": sum(expected - each for each in answered),
        "round_s": statistics.median(each.wall for each in rounds),
        "pss_mb": {
            name: statistics.median(each[name] for each in memory) for name in (NODE, WORKER, SUPERVISOR, "site")
        },
        "pss_mb_most": max(each["site"] for each in memory),
        "superlink_pss_mb": link,
    }


def _refuse_full() -> None:
    room = _available()
    if room is not None and room < _LEAST_FREE:
        raise FederationError(f"only {room / 1e9:.1f} GB of memory are left", where="fleet", cure="fewer --sites")


def _memory(site: OwnFiles) -> dict[str, float]:
    """Proportional set size of a site's processes, in MB: shared pages count by the number of their users."""
    found = {name: _pss(processes.running(site.record(name))) for name in (NODE, WORKER, SUPERVISOR)}
    return {**found, "site": sum(found.values())}


def _pss(pid: int | None) -> float:
    if pid is None:
        raise FederationError("a process ended during the run", where="fleet")
    for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / _MEGABYTE
    raise FederationError("the kernel names no proportional set size", where=f"/proc/{pid}/smaps_rollup")


def _answered(site: OwnFiles) -> int:
    return int(read_json(site.served)["answered"])


def _available() -> float | None:
    memory = Path("/proc/meminfo")
    if not memory.exists():
        return None
    found = dict(line.split(":", 1) for line in memory.read_text().splitlines())
    return int(found["MemAvailable"].split()[0]) * 1024.0
