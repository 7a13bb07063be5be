"""What a round costs beyond the sites' own work: MedVeil's deployment beside plain Flower's, within one run.

A round's cost is its wall time less the time the slowest site worked on images, which it reports itself: training and
validation, from the tensors' loading on. MedVeil's round is one message to a long-lived worker of the site's own; plain
Flower's is two (train, evaluate) to processes that start, import and load for each. Both send fp32 unless told
otherwise; plain Flower sends all tensors, MedVeil those its policy lets travel.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_server.metrics import ALL
from medveil.files import make_folder
from simulations.deployment_bench.plain import run_plain
from simulations.deployment_bench.trial import Trial, write_images
from simulations.deployment_bench.work import Work

SITES = 2


@dataclass(frozen=True)
class Round:
    """One round's wall time and the slowest site's work in it, in seconds."""

    wall: float
    worked: float

    @property
    def cost(self) -> float:
        """What it cost beyond that work."""
        return self.wall - self.worked


def measure_overhead(folder: Path, work: Work) -> dict[str, Any]:
    """Run both sides one after the other; see the module.

    Returns
    -------
    dict
        Seconds a round of each side (wall, worked, cost; medians) and the ratio of their costs.
    """
    images = [write_images(folder / f"{n}.npz", count=work.images, size=work.size, seed=n) for n in range(SITES)]
    own, parts, up, down = _ours(make_folder(folder / "ours"), images, work)
    plain = run_plain(make_folder(folder / "plain"), images, work, parts=parts)
    others = [
        Round(later - earlier, trained + evaluated)
        for (earlier, later), trained, evaluated in zip(
            itertools.pairwise(plain["ended"]),
            plain["worked"]["train"][1:],
            plain["worked"]["evaluate"][1:],
            strict=True,
        )
    ]
    cost, other = [each.cost for each in own], [each.cost for each in others]
    return {
        "model": work.model["name"],
        "rounds": work.rounds,
        "images": parts,
        "medveil": {**summary_of(own), "bytes_down": down, "bytes_up": up},
        "plain_flower": {**summary_of(others), "model_bytes": plain["model_bytes"], "replies": plain["replies"]},
        "cost_over_plain_flower": min(cost) / min(other),
        "cost_over_plain_flower_median": statistics.median(cost) / statistics.median(other),
    }


def summary_of(rounds: list[Round]) -> dict[str, Any]:
    """Seconds of rounds: medians, the least cost, and each."""
    return {
        "wall_s": statistics.median(each.wall for each in rounds),
        "worked_s": statistics.median(each.worked for each in rounds),
        "cost_s": statistics.median(each.cost for each in rounds),
        "cost_s_least": min(each.cost for each in rounds),
        "each": [{"wall_s": each.wall, "worked_s": each.worked} for each in rounds],
    }


def _ours(folder: Path, images: list[Path], work: Work) -> tuple[list[Round], dict[str, int], int, int]:
    trial = Trial(folder)
    try:
        trial.set_up(images)
        trial.start()
        run = trial.run(work.run_file())
        parts = trial.parts_of(trial.sites[0])
    finally:
        trial.end()
    rounds, traffic = read_rounds(run)
    return rounds, parts, max(each["bytes_up"] for each in traffic), max(each["bytes_down"] for each in traffic)


def read_rounds(run: Path) -> tuple[list[Round], list[dict[str, Any]]]:
    """The rounds of a run's folder from the second on, from checkpoint to checkpoint, and its sites' training lines."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [line for line in lines if line["phase"] == "train" and line["site"] != ALL]
    worked: dict[int, float] = defaultdict(float)
    for line in trained:
        worked[line["round"]] = max(worked[line["round"]], line["seconds"])
    written = [(run / "checkpoints" / f"round-{number:04d}.json").stat().st_mtime for number in sorted(worked)]
    walls = [later - earlier for earlier, later in itertools.pairwise(written)]
    return [Round(wall, worked[number]) for number, wall in zip(sorted(worked)[1:], walls, strict=True)], trained
