"""How the server runs a federation, and what one run tells it."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medveil import plugins
from medveil.bounded import parse_json
from medveil.config import check_setting, from_mapping, to_mapping
from medveil.errors import ConfigError
from medveil.secagg.roster import Roster, parse_roster

STRATEGIES = (
    "fedavg",
    "fedprox",
    "fedavgm",
    "fedadam",
    "fedyogi",
    "fedadagrad",
    "qfedavg",
    "fedmedian",
    "fedtrimmedavg",
    "krum",
    "multikrum",
    "bulyan",
    "local-only",
)
_OF_STRATEGIES = {
    "proximal_mu": ("fedprox",),
    "server_lr": ("fedadam", "fedyogi", "fedadagrad"),
    "beta_1": ("fedadam", "fedyogi"),
    "beta_2": ("fedadam", "fedyogi"),
    "tau": ("fedadam", "fedyogi", "fedadagrad"),
    "momentum": ("fedavgm",),
    "momentum_lr": ("fedavgm",),
    "q": ("qfedavg",),
    "client_lr": ("qfedavg",),
    "trim": ("fedtrimmedavg",),
    "malicious": ("krum", "multikrum", "bulyan"),
}
MONITORS = ("loss", "auroc", "accuracy")
KEPT = ("last", "best")
_ANEW = "submit the run anew"


@dataclass
class ServerConfig:
    """Aggregation, patience and deadlines of the server."""

    strategy: str = field(default="fedavg", metadata={"help": f"How updates become a model: {', '.join(STRATEGIES)}."})
    proximal_mu: float = field(default=0.01, metadata={"help": "fedprox: weight of the proximal term at the sites."})
    server_lr: float = field(
        default=0.01, metadata={"help": "fedadam, fedyogi, fedadagrad: the server's learning rate."}
    )
    beta_1: float = field(default=0.9, metadata={"help": "fedadam, fedyogi: decay of the first moment."})
    beta_2: float = field(default=0.99, metadata={"help": "fedadam, fedyogi: decay of the second moment."})
    tau: float = field(
        default=1e-3, metadata={"help": "fedadam, fedyogi, fedadagrad: degree of adaptivity (Adam's epsilon)."}
    )
    momentum: float = field(default=0.9, metadata={"help": "fedavgm: momentum of the server."})
    momentum_lr: float = field(default=1.0, metadata={"help": "fedavgm: the server's learning rate."})
    q: float = field(default=0.1, metadata={"help": "qfedavg: how much a site counts by its loss; 0: all alike."})
    client_lr: float = field(
        default=1e-3, metadata={"help": "qfedavg: the sites' learning rate, whose inverse bounds the curvature."}
    )
    trim: float = field(default=0.2, metadata={"help": "fedtrimmedavg: share of updates cut off at either end."})
    malicious: int = field(default=1, metadata={"help": "krum, multikrum, bulyan: malicious sites to withstand."})
    fraction: float = field(default=1.0, metadata={"help": "Share of the sites that train in a round."})
    min_sites: int = field(default=0, metadata={"help": "Fewest sites to start with; 0: all that are expected."})
    min_updates: int = field(default=1, metadata={"help": "Fewest usable updates to make a round's model from."})
    wait_for_sites: float = field(default=300.0, metadata={"help": "Seconds to wait for sites to connect."})
    prepare_deadline: float = field(default=7200.0, metadata={"help": "Seconds sites have to build their stores."})
    round_deadline: float = field(
        default=7200.0, metadata={"help": "Seconds after which a round closes without the late."}
    )
    most_share: float = field(
        default=0.5,
        metadata={
            "help": "Largest share of one site in any average, whatever it declares; of two, each has half. 1: no cap."
        },
    )
    max_norm: float = field(
        default=6.0,
        metadata={"help": "Largest L2 norm of an update, relative to the median of 3 or more in the round; 0: any."},
    )
    clip_norm: float = field(
        default=0.0,
        metadata={
            "help": "Largest L2 norm an update counts with, relative to the median of 3 or more in the round: a longer "
            "one is scaled down to it; 0: none is."
        },
    )
    max_change: float = field(
        default=0.5,
        metadata={"help": "Largest L2 norm of an update, relative to the model it started from; 0: any."},
    )
    keep_checkpoints: int = field(default=0, metadata={"help": "Newest checkpoints to keep; 0: all."})
    patience: int = field(
        default=0,
        metadata={"help": "Stop after this many rounds without improvement; 0: never. See 'keep' for the model."},
    )
    min_delta: float = field(default=0.0, metadata={"help": "Smallest gain of the monitored measure that counts."})
    monitor: str = field(default="loss", metadata={"help": f"Validation measure to watch: {', '.join(MONITORS)}."})
    keep: str = field(
        default="last",
        metadata={"help": "The model that is left: last, or best, of the round with the best monitored measure."},
    )
    tensorboard: bool = field(
        default=False,
        metadata={"help": "Also write the measures as TensorBoard files (needs the extra: medveil[tensorboard])."},
    )
    mlflow: str = field(
        default="",
        metadata={
            "help": "Also send settings and measures to this MLflow store, as sqlite:////home/me/mlflow.db or an "
            "https address (needs the extra: medveil[mlflow]); empty: none."
        },
    )

    @property
    def pull(self) -> float:
        """What the contract says of `proximal_mu`: 0 under a strategy of MedVeil's own that sends none."""
        return 0.0 if self.strategy in STRATEGIES and self.strategy != "fedprox" else self.proximal_mu

    @property
    def idle(self) -> list[str]:
        """What was set of other strategies alone, each with its value: it has no part in this run.

        A strategy of another package says what it takes itself, and nothing is known of it here.
        """
        if self.strategy not in STRATEGIES:
            return []
        unset = ServerConfig()
        return [
            f"server.{name} {getattr(self, name)}"
            for name, strategies in _OF_STRATEGIES.items()
            if self.strategy not in strategies and getattr(self, name) != getattr(unset, name)
        ]

    def check(self, *, where: str = "server") -> None:
        """Refuse values out of range.

        Raises
        ------
        ConfigError
            A value is out of its range or not one of the names offered.
        """
        if self.strategy not in STRATEGIES and plugins.find(plugins.STRATEGIES, self.strategy) is None:
            _one_of(self.strategy, STRATEGIES, "strategy", where)
        _one_of(self.monitor, MONITORS, "monitor", where)
        _one_of(self.keep, KEPT, "keep", where)
        for name, low in (
            ("malicious", 0),
            ("min_sites", 0),
            ("min_updates", 1),
            ("keep_checkpoints", 0),
            ("patience", 0),
        ):
            check_setting(getattr(self, name) >= low, name, getattr(self, name), f"at least {low}", where)
        for name in ("q", "proximal_mu", "max_norm", "clip_norm", "max_change", "min_delta", "wait_for_sites"):
            check_setting(0 <= getattr(self, name) < math.inf, name, getattr(self, name), "0 or more", where)
        for name in ("server_lr", "momentum_lr", "client_lr", "tau", "prepare_deadline", "round_deadline"):
            check_setting(0 < getattr(self, name) < math.inf, name, getattr(self, name), "above 0", where)
        for name in ("beta_1", "beta_2", "momentum"):
            check_setting(0 <= getattr(self, name) < 1, name, getattr(self, name), "at least 0 and below 1", where)
        check_setting(0 < self.trim < 0.5, "trim", self.trim, "above 0 and below 0.5", where)
        for name in ("fraction", "most_share"):
            check_setting(0 < getattr(self, name) <= 1, name, getattr(self, name), "above 0 and at most 1", where)
        if self.strategy == "qfedavg" and self.most_share < 1:
            problem = "'most_share' bounds no site under qfedavg, which weighs by the loss that a site declares"
            raise ConfigError(problem, where=where, cure="most_share=1 among sites that trust each other")


@dataclass
class ServerSettings:
    """What one run tells its server; sites ignore it.

    Parameters
    ----------
    out
        The run folder; empty: below the state home (`medveil.paths.run_folder`).
    server
        The server's configuration.
    sites
        Sites expected; 0: as many as `server.min_sites`.
    experiment
        The resolved experiment, kept in the manifest.
    basis
        Digests of what a simulation stands on, by part (`medveil.basis`), kept in the manifest and compared on resume.
    resume
        Go on from the newest whole checkpoint in `out`.
    reveal
        Show key fingerprints in full in the preflight table, not only their first digits.
    roster
        The sites of a run with secure aggregation, as `medveil.secagg.roster.Roster.as_data`; else empty.
    """

    out: str = ""
    server: ServerConfig = field(default_factory=ServerConfig)
    sites: int = 0
    experiment: dict[str, Any] | None = None
    basis: dict[str, str] = field(default_factory=dict)
    resume: bool = False
    reveal: bool = False
    roster: dict[str, Any] = field(default_factory=dict)

    @property
    def summing(self) -> Roster | None:
        """The roster of a run with secure aggregation; None without (IntegrityError where it is none)."""
        return parse_roster(self.roster, where=Path("server settings, roster"), cure=_ANEW) if self.roster else None

    @property
    def going_on(self) -> str:
        """How whoever started the run goes on with it, in words: a simulation's own, or a consortium's."""
        run = shlex.quote(str(self.out)) if self.out else "RUN"
        named = "medveil-server resume" if self.experiment is None else f"medveil-sim run --resume {run}"
        return f"go on with '{named}'"

    @property
    def sites_are_here(self) -> bool:
        """Whether the server's process is its sites' too, so that its processor time is that of the whole run."""
        return (self.experiment or {}).get("engine") == "inprocess"

    def to_json(self) -> str:
        """The settings as one JSON string, for Flower's run config."""
        return json.dumps(to_mapping(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, where: str = "server settings") -> ServerSettings:
        """Read and check what `to_json` wrote.

        Raises
        ------
        ConfigError
            The text is not JSON, a field is unknown or of the wrong type, or a value is out of its range.
        """
        values = parse_json(text, where=where)
        if not isinstance(values, dict):
            raise ConfigError("is not a JSON object", where=where)
        # The experiment is a record for the manifest: it is kept as it came, not read.
        experiment, basis = values.pop("experiment", None), values.pop("basis", {})
        roster = values.pop("roster", {})
        if not isinstance(roster, dict):
            raise ConfigError("its 'roster' is no mapping", where=where)
        if not isinstance(basis, dict) or not all(isinstance(each, str) for pair in basis.items() for each in pair):
            raise ConfigError("its 'basis' is no mapping of text", where=where)
        settings = from_mapping(cls, values, where=where)
        settings.experiment, settings.basis, settings.roster = experiment, basis, roster
        settings.check(where=where)
        return settings

    def check(self, *, where: str = "server settings") -> None:
        """Refuse values out of range (ConfigError)."""
        check_setting(self.sites >= 0, "sites", self.sites, "0 or more", where)
        self.server.check(where=f"{where}, server")
        if not self.expected:
            raise ConfigError("the number of sites is not known", where=where, cure="give 'sites' or 'min_sites'")
        if self.server.min_sites > self.expected:
            raise ConfigError(
                f"'min_sites' is {self.server.min_sites} of {self.expected} sites",
                where=where,
                cure="at most all of them",
            )

    @property
    def expected(self) -> int:
        """Sites expected."""
        return self.sites or self.server.min_sites

    @property
    def fewest(self) -> int:
        """Fewest sites the run starts with; of a sum, as many as open one."""
        roster = self.summing
        return max(self.server.min_sites or self.expected, 0 if roster is None else roster.fewest)


def _one_of(value: str, allowed: tuple[str, ...], name: str, where: str) -> None:
    check_setting(value in allowed, name, value, f"one of {', '.join(allowed)}", where)


def improves(monitor: str, value: float, than: float, *, by: float = 0.0) -> bool:
    """Whether a value of a monitored measure is better than another by more than `by`."""
    return (than - value if monitor == "loss" else value - than) > by
