"""Bytes of tensors a round brings to a site and takes from it, as the messages of a real round carried them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medveil.files import make_folder
from simulations.config import ExperimentConfig
from simulations.deployment_bench.overhead import read_rounds
from simulations.deployment_bench.trial import write_images
from simulations.deployment_bench.work import Work
from simulations.engines.inprocess import run_inprocess
from simulations.plan import make_plan

VARIANTS = {
    "fp32, all tensors": {"wire": "fp32", "scope": "full", "keys": "none"},
    "fp32": {"wire": "fp32", "scope": "full", "keys": "per-site"},
    "bf16": {"wire": "bf16", "scope": "full", "keys": "per-site"},
    "bf16, last-2-blocks": {"wire": "bf16", "scope": "last-2-blocks", "keys": "per-site"},
    "bf16, head": {"wire": "bf16", "scope": "head", "keys": "per-site"},
}
_SITES = 2


def measure_traffic(folder: Path, work: Work) -> list[dict[str, Any]]:
    """One round of two sites in each variant, on few images; bytes of a site."""
    data = write_images(folder / "images.npz", count=40, size=work.size, seed=0)
    rows = []
    for number, (name, variant) in enumerate(VARIANTS.items()):
        config = ExperimentConfig(name="bench", rounds=1, sites=_SITES, device="cpu", wire=variant["wire"])
        config.data.source, config.data.path = "npz", str(data)
        config.cipher.block, config.keys.policy = work.block, variant["keys"]
        config.train.scope, config.train.batch_size, config.evaluate_first = variant["scope"], work.batch_size, False
        for setting, value in work.model.items():
            setattr(config.model, setting, value)
        out = make_folder(folder / f"variant-{number}") / "run"
        plan = make_plan(config, out)
        # As real sites send them.
        plan.run.packed = True
        run_inprocess(plan)
        sent = read_rounds(out)[1]
        down, up = ({line[way] for line in sent} for way in ("bytes_down", "bytes_up"))
        rows.append({"model": work.model["name"], "variant": name, "bytes_down": max(down), "bytes_up": max(up)})
    return rows
