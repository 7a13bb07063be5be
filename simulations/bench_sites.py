"""How a simulation's rounds grow with its sites, and from round to round, at constant data.

``medveil-sim bench --scale 4,16,64`` runs one experiment, on the same images, under each number of sites, each in a
process of its own. Each site's last batch is a step too, however short, so that many small sites make more of them.
What a round takes is counted from one round's first message of training to the next one's, so that everything is in it;
memory is the process's own as a round begins.
"""

from __future__ import annotations

import itertools
import logging
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Context, Message, MessageType
from flwr.clientapp import ClientApp

from fl_client.app import app as client_app
from fl_client.asked import round_in
from medveil.contract import METRICS, NUM_EXAMPLES
from medveil.errors import ConfigError, DataError
from medveil.files import read_json, write_json
from medveil.plain import tell
from medveil.tied import run_tied
from medveil.versions import environment
from simulations.config import ExperimentConfig
from simulations.engines.inprocess import run_inprocess
from simulations.plan import make_plan

FORMAT, VERSION = "medveil-scale", 1
LEAST_ROUNDS = 4
_SIZE, _BATCH, _IMAGES = 32, 8, 4096
_A_SITE = 2 * _BATCH
"""Fewest images a site: training images of one step, and some to judge by."""
_STATM = Path("/proc/self/statm")


def bench_sites(
    counts: Sequence[int], *, rounds: int = LEAST_ROUNDS, images_a_site: int | None = None
) -> dict[str, Any]:
    """Measure rounds under each number of sites.

    Parameters
    ----------
    counts
        Numbers of sites.
    rounds
        Of each, the first of which is not measured.
    images_a_site
        Of 32x32 pixels, where there are the most sites; as many in all under each number. None: 16, and 4096 in all.

    Returns
    -------
    dict
        ``rows``, one a number of sites: ``sites``, ``rounds``, ``round_s`` (median) and ``round_cpu_s``,
        ``first_round_s`` and ``last_round_s`` (medians of the first and the last third), ``memory_mb`` and its
        ``memory_growth_mb`` over the rounds, ``over_fewest``, processor time over that of the fewest sites, and
        ``steps`` of a round with ``steps_over_fewest``: each site's last batch is a step too, however short.

    Raises
    ------
    ConfigError
        There are too few rounds or images, or no sites.
    DataError
        A process did not finish.
    """
    check_counts(counts, rounds=rounds, images_a_site=images_a_site)
    images = max(_IMAGES, _A_SITE * max(counts)) if images_a_site is None else images_a_site * max(counts)
    rows = []
    with tempfile.TemporaryDirectory(prefix="medveil-scale-") as scratch:
        for sites in sorted(set(counts)):
            out = Path(scratch) / f"{sites}.json"
            done = run_tied([sys.executable, "-m", __name__, *map(str, (sites, rounds, images, out))])
            if done.returncode or not out.is_file():
                raise DataError("did not finish", where=f"{sites} sites")
            rows.append(cast("dict[str, Any]", read_json(out)))
            tell(_said(rows[-1]), error=True)
    fewest = rows[0]["round_cpu_s"]
    for row in rows:
        row["over_fewest"] = row["round_cpu_s"] / fewest
        row["steps_over_fewest"] = row["steps"] / rows[0]["steps"]
    return {"format": FORMAT, "version": VERSION, "images": images, "rows": rows, "environment": environment()}


def check_counts(counts: Sequence[int], *, rounds: int, images_a_site: int | None) -> None:
    """Refuse what cannot be measured (ConfigError)."""
    if rounds < LEAST_ROUNDS:
        raise ConfigError(f"'--rounds' is {rounds}", where="bench", cure=f"at least {LEAST_ROUNDS}")
    if not counts or min(counts) < 1:
        raise ConfigError("'--scale' names numbers of sites that cannot be", where="bench", cure="1 or more")
    if images_a_site is not None and images_a_site < _A_SITE:
        raise ConfigError(f"'--images' is {images_a_site}", where="bench", cure=f"at least {_A_SITE} a site")


def print_rows(found: dict[str, Any]) -> None:
    """Print what was found, a line a number of sites."""
    for row in found["rows"]:
        more = f"{row['over_fewest']:.2f} times the processor time of the fewest sites"
        tell(f"{_said(row)}; {more}, {row['steps_over_fewest']:.2f} times the steps")


def measured(sites: int, *, rounds: int, images: int, folder: Path) -> dict[str, Any]:
    """One number of sites, in this process; see `bench_sites`."""
    torch.set_num_threads(1)
    seen: dict[int, tuple[float, float, float]] = {}
    steps: Counter[int] = Counter()

    def noting(message: Message, context: Context) -> Message:
        if message.metadata.message_type != MessageType.TRAIN:
            return client_app(message, context)
        round_ = round_in(message)
        seen.setdefault(round_, (time.monotonic(), time.process_time(), _memory_mb()))
        reply = client_app(message, context)
        steps[round_] += math.ceil(int(cast("float", reply.content[METRICS][NUM_EXAMPLES])) / _BATCH)
        return reply

    plan = make_plan(_experiment(folder, sites=sites, rounds=rounds, images=images), folder / "run")
    run_inprocess(plan, app=cast("ClientApp", noting))
    marks = [seen[round_] for round_ in sorted(seen)][1:]
    took = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks)]
    wall, third = [each[0] for each in took], max(1, len(took) // 3)
    return {
        "sites": sites,
        "rounds": rounds,
        "steps": steps[rounds],
        "round_s": statistics.median(wall),
        "round_cpu_s": statistics.median(each[1] for each in took),
        "first_round_s": statistics.median(wall[:third]),
        "last_round_s": statistics.median(wall[-third:]),
        "memory_mb": marks[-1][2],
        "memory_growth_mb": marks[-1][2] - marks[0][2],
    }


def _experiment(folder: Path, *, sites: int, rounds: int, images: int) -> ExperimentConfig:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (images, _SIZE, _SIZE), dtype=np.uint8)
    np.savez(folder / "images.npz", images=pictures, labels=np.arange(images) % 2)
    config = ExperimentConfig(name=f"{sites} sites", rounds=rounds, sites=sites, device="cpu", threads=1)
    config.evaluate_first = False
    config.data.source, config.data.path = "npz", str(folder / "images.npz")
    config.data.validation = config.data.test = 0.1
    config.data.partition.min_per_site = 1
    config.cipher.block, config.keys.policy = 8, "per-site"
    config.model.width, config.model.depth, config.model.heads = 64, 2, 2
    config.train.batch_size = _BATCH
    config.secagg.on = False
    return config


def _memory_mb() -> float:
    """What this process has in memory now; of a system that does not say, nothing."""
    if not _STATM.is_file():
        return 0.0
    return int(_STATM.read_text().split()[1]) * 4096 / 1e6


def _said(row: dict[str, Any]) -> str:
    return (
        f"{row['sites']} sites: {row['round_s']:.2f} s a round ({row['round_cpu_s']:.2f} s of the processor), first "
        f"rounds {row['first_round_s']:.2f} s, last {row['last_round_s']:.2f} s; {row['memory_mb']:.0f} MB, "
        f"{row['memory_growth_mb']:+.0f} MB over the rounds"
    )


def main(words: Sequence[str]) -> int:
    """Measure one number of sites, for `bench_sites`: sites, rounds, images, and where the figures go."""
    sites, rounds, images = map(int, words[:3])
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="medveil-scale-") as scratch:
        write_json(Path(words[3]), measured(sites, rounds=rounds, images=images, folder=Path(scratch)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
