"""The plain app's server: Flower's FedAvg, started as its documentation does."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, Context, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from .task import make_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and write down when each ended and how long the slowest site worked in it."""
    sites, rounds = int(context.run_config["sites"]), int(context.run_config["rounds"])
    worked: dict[str, list[float]] = {"train": [], "evaluate": []}
    replies: dict[str, list[int]] = {"train": [], "evaluate": []}
    ended: list[float] = []

    def slowest(kind: str) -> Any:
        def aggregate(records: list[RecordDict], weighted_by: str) -> MetricRecord:
            seconds = [float(record.metric_records["metrics"]["seconds"]) for record in records]  # type: ignore[arg-type]
            worked[kind].append(max(seconds))
            replies[kind].append(len(seconds))
            if kind == "evaluate":
                ended.append(time.time())
            return MetricRecord({"seconds": max(seconds)})

        return aggregate

    strategy = FedAvg(
        min_train_nodes=sites,
        min_evaluate_nodes=sites,
        min_available_nodes=sites,
        train_metrics_aggr_fn=slowest("train"),
        evaluate_metrics_aggr_fn=slowest("evaluate"),
    )
    initial = ArrayRecord(make_model(str(context.run_config["model"])).state_dict())
    strategy.start(grid, initial, num_rounds=rounds)
    size = sum(len(array.data) for array in initial.values())
    found = {"ended": ended, "worked": worked, "replies": replies, "model_bytes": size}
    out = Path(str(context.run_config["out"]))
    out.with_suffix(".part").write_text(json.dumps(found))
    out.with_suffix(".part").rename(out)
