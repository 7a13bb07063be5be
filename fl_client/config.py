"""What a simulated site is told; how sites train is part of the contract (`medveil.training`)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from fl_client.data.config import DataConfig
from medveil.bounded import parse_json
from medveil.config import from_mapping, to_mapping
from medveil.training import TrainConfig

__all__ = ["SMALLEST_COUNT", "SimulatedSites", "TrainConfig", "site_name"]

SMALLEST_COUNT = 10
"""Fewest images of a class of which a hospital tells anything (`fl_client.leaving`), unless its settings say so."""


@dataclass
class SimulatedSites:
    """What the simulated sites of one run are told; real sites have a configuration and a key of their own."""

    sites: int = field(default=4, metadata={"help": "Hospitals the data are partitioned over."})
    seed: int = field(default=0, metadata={"help": "Seed of partitions, splits and simulated keys."})
    out: str = field(default="", metadata={"help": "Run folder; empty: below the state home."})
    device: str = field(default="auto", metadata={"help": "cpu, cuda, cuda:N or auto."})
    threads: int = field(default=0, metadata={"help": "Torch threads; 0 leaves torch's default."})
    data: DataConfig = field(default_factory=DataConfig, metadata={"help": "The data set the sites share out."})

    def to_json(self) -> str:
        """The settings as one JSON string."""
        return json.dumps(to_mapping(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, where: str = "simulated sites") -> SimulatedSites:
        """Read and check what `to_json` wrote (ConfigError if it is something else)."""
        values = parse_json(text, where=where)
        return from_mapping(cls, values, where=where)


def site_name(index: int) -> str:
    """What the simulated site of a partition is called."""
    return f"site-{index + 1}"
