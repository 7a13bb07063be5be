"""What a run says of secure aggregation: settings that travel in its contract, the same at every site."""

from __future__ import annotations

from dataclasses import dataclass, field

from medveil.errors import ConfigError
from medveil.secagg.fixed import WIDTHS
from medveil.secagg.roster import COLLUDING, MOST
from medveil.training import LEAST_CLIP, MOST_CLIP


@dataclass
class SecAggConfig:
    """Secure aggregation, the same at every site."""

    on: bool = field(
        default=False,
        metadata={
            "help": "Sum updates under masks, so that the server reads no single one; needs a roster that all sites "
            "approved, kind=delta, and fedavg, fedprox or fedadam."
        },
    )
    bits: int = field(
        default=WIDTHS[-1],
        metadata={"help": f"Bits of a number on the way up: {' or '.join(map(str, WIDTHS))}; fewer for a slow link."},
    )
    clip: float = field(
        default=4.0,
        metadata={"help": "Largest L2 norm of a site's update, which it scales down to; the range of the numbers."},
    )
    colluding: int = field(
        default=COLLUDING,
        metadata={"help": "Sites that may side with the server without another being read; as the roster says."},
    )

    def check(self, *, where: str = "secagg") -> None:
        """Refuse values out of range (ConfigError)."""
        listed = " or ".join(map(str, WIDTHS))
        rules = (
            ("bits", self.bits in WIDTHS, f"{listed}; with fewer, small updates are lost in the rounding"),
            ("clip", LEAST_CLIP <= self.clip <= MOST_CLIP, f"{LEAST_CLIP:g} to {MOST_CLIP:g}"),
            ("colluding", 0 <= self.colluding < MOST, "0 or more, as the roster says"),
        )
        for name, right, cure in rules:
            if not right:
                raise ConfigError(f"'secagg.{name}' is out of its range", where=where, cure=cure)
