"""Where the `flower` engine runs its sites, and what each of Ray's actors takes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from medveil.bounded import word
from medveil.errors import ConfigError

MOST_CPUS, MOST_GPUS, MOST_GIB = 1024, 64, 16_384
LEAST_GPU = 0.01
_MOST_PORT = 65_535
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\]):(?P<port>[1-9][0-9]{0,4})")


@dataclass
class RayConfig:
    """What engine flower asks of Ray; an actor is a process that serves one site's message at a time."""

    address: str = field(
        default="",
        metadata={
            "help": "HOST:PORT of the head of a running Ray cluster; none: RAY_ADDRESS names it, or the run has a Ray "
            "of its own on this machine."
        },
    )
    cpus: int = field(default=1, metadata={"help": "CPUs an actor takes."})
    gpus: float = field(
        default=0.0, metadata={"help": "GPUs an actor takes: a fraction lets actors share one, 0 shows it none."}
    )
    memory: float = field(
        default=0.0,
        metadata={"help": "GiB an actor takes, of what each node of the cluster gave its Ray; 0: nobody counts them."},
    )

    def check(self) -> None:
        """Refuse what no cluster could be asked (ConfigError)."""
        if self.address:
            split_address(self.address, where="ray.address")
        if not 1 <= self.cpus <= MOST_CPUS:
            raise ConfigError(f"is {self.cpus}", where="ray.cpus", cure=f"1 to {MOST_CPUS}")
        whole = float(self.gpus).is_integer() and 0 <= self.gpus <= MOST_GPUS
        if not (whole or LEAST_GPU <= self.gpus < 1):
            cure = f"0, {LEAST_GPU} to 1, or a whole number up to {MOST_GPUS}"
            raise ConfigError(f"is {self.gpus:g}", where="ray.gpus", cure=cure)
        if not (math.isfinite(self.memory) and 0 <= self.memory <= MOST_GIB):
            raise ConfigError(f"is {self.memory:g} GiB", where="ray.memory", cure=f"0 to {MOST_GIB}")


def split_address(address: str, *, where: str) -> tuple[str, int]:
    """Host and port of a cluster's head (ConfigError where it is none)."""
    found = _ADDRESS.fullmatch(address)
    if found is None or int(found["port"]) > _MOST_PORT:
        cure = "HOST:PORT of its head, as 'ray start --head' prints it; Ray Client (ray://) is not for this"
        raise ConfigError(f"'{word(address)}' is no address of a Ray cluster", where=where, cure=cure)
    return found["host"].strip("[]"), int(found["port"])
