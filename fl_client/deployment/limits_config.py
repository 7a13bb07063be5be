"""What a hospital agrees to at most, as its own file says it. None of it comes from a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from crypto.cipher import SCHEMES
from fl_client.config import SMALLEST_COUNT
from fl_client.deployment.hours import parsed_hours
from fl_client.deployment.named_weights import check_weights
from medveil.config import check_setting
from medveil.contract import TASKS
from medveil.counting import HISTOGRAMS
from medveil.pretraining import SINGLE_LABEL
from medveil.privacy import MOST_EPSILON
from medveil.training import SCOPES
from models.policy import KEYS, POLICIES

TARGETS = tuple(name for name, cipher in SCHEMES.items() if cipher.target)
"""Ciphers that are there to be broken by attacks: no image of a real site is hidden with one."""
REAL = tuple(name for name in SCHEMES if name not in TARGETS)
"""All others."""
HIDING = tuple(name for name in REAL if SCHEMES[name].needs_key)
"""Those that hide anything: what a site takes unless it says otherwise."""


LAST_BLOCKS = "last-N-blocks"
KNOWN_SCOPES = (*SCOPES, LAST_BLOCKS)
OPTIONAL, REQUIRED = DISCLOSURES = ("optional", "required")
"""Whether updates and models leave without a disclosure (`fl_client.disclosure`)."""


@dataclass
class LimitsConfig:
    """What this site agrees to at most, whatever a server asks for."""

    tasks: list[str] = field(
        default_factory=lambda: [SINGLE_LABEL],
        metadata={
            "help": "What a run may do with this site's images: single-label (train, and measure), masked-autoencoding "
            "(train without labels), evaluate (measure a model that all know, and train nothing), statistics (count "
            "images, without a model)."
        },
    )
    policies: list[str] = field(
        default_factory=lambda: ["per-site", "shared"],
        metadata={"help": "Policies accepted, as 'per-site + adapted + local', or the keys alone."},
    )
    send_stem: bool = field(
        default=False,
        metadata={
            "help": "Accept policies whose stem travels: it shows more than trunk and head, and much of a shared key."
        },
    )
    schemes: list[str] = field(
        default_factory=lambda: list(HIDING),
        metadata={"help": "Ciphers a run may hide this site's images with; one made to be broken never counts."},
    )
    scopes: list[str] = field(
        default_factory=lambda: list(KNOWN_SCOPES),
        metadata={"help": "Values of train.scope accepted: what of a model this site trains and sends."},
    )
    weights: list[str] = field(
        default_factory=list,
        metadata={
            "help": "SHA-256 of each file of pre-trained weights that a run may begin from here, as 64 hex digits; an "
            "empty list: fresh weights alone, which this site builds from the run's seed; [any]: every file in its "
            "weights folder, whoever made it."
        },
    )
    clip: float | None = field(
        default=None,
        metadata={
            "help": "Largest L2 norm of an update that leaves: a longer one is scaled down to it here, whatever the "
            "run asks. null: what the run says."
        },
    )
    noise: float | None = field(
        default=None,
        metadata={
            "help": "Least noise multiplier of a run with privacy: where its epsilon asks for less, this much is added "
            "here; training without privacy is refused then. null: what epsilon asks for."
        },
    )
    hours: str | None = field(
        default=None,
        metadata={
            "help": "When this site begins work for a server, by this machine's clock, as 19:00-06:30; what it began "
            "before the end it finishes. null: always."
        },
    )
    approve_runs: bool = field(
        default=False,
        metadata={
            "help": "Take part in a run only after a person here approved its settings: 'medveil-site approve --run'."
        },
    )
    least_images: int = field(default=32, metadata={"help": "Fewest images this site trains on, or measures."})
    smallest_count: int = field(
        default=SMALLEST_COUNT,
        metadata={
            "help": "Fewest images of a class in a part of which any number or measure leaves, and fewest patients of "
            "a number in a histogram, or that 'cohort' shows; 1: all leaves."
        },
    )
    epsilon: float | None = field(
        default=None,
        metadata={
            "help": "Most that all runs together may cost a unit of this site's images; runs without privacy are "
            "refused then. null: what each run says."
        },
    )
    delta: float = field(
        default=1e-5, metadata={"help": "Chance at which epsilon is counted here; a run with a larger one is refused."}
    )
    most_rounds: int = field(default=200, metadata={"help": "Most rounds of a run, repeated ones counted."})
    most_minutes: float = field(
        default=1440.0, metadata={"help": "Most minutes that a run by the clock (train.minutes) may train here in all."}
    )
    least_sites: int = field(
        default=2,
        metadata={
            "help": "Fewest sites of a run: the server promises them, and of an approved roster their signatures count."
        },
    )
    most_share: float = field(
        default=0.5,
        metadata={
            "help": "Most that this site's images may be of those of all sites of a run, where a roster is approved."
        },
    )
    roster: bool = field(
        default=False,
        metadata={
            "help": "Train in no run before a roster is approved here, without which nobody counts least_sites and "
            "most_share."
        },
    )
    secagg: bool = field(
        default=False,
        metadata={"help": "Refuse a run without secagg.on, whose server would read this site's own updates."},
    )
    own_measures: bool = field(
        default=False,
        metadata={
            "help": "In a run with secagg.on, also tell this site's own measures, AUROC too; else they leave summed, "
            "and AUROC, which has no sum, stays."
        },
    )
    own_statistics: bool = field(
        default=False,
        metadata={
            "help": "In a run with task statistics and without secagg.on, tell this site's own histograms; else it "
            "takes part only where they leave summed under masks."
        },
    )
    histograms: list[str] = field(
        default_factory=lambda: list(HISTOGRAMS),
        metadata={"help": f"What this site counts for task statistics: of {', '.join(HISTOGRAMS)}."},
    )
    disclosure: str = field(
        default=OPTIONAL,
        metadata={
            "help": "required: no update of a run and no model leaves before 'medveil-site disclose' tried attacks on "
            "this site's own images under its settings; optional: they do."
        },
    )
    disclosure_days: float = field(
        default=90.0, metadata={"help": "Days a disclosure counts for; then one is made anew, on the images of then."}
    )
    most_megabytes: float = field(
        default=1024.0, metadata={"help": "Most megabytes of tensors a round, what comes and what goes together."}
    )
    most_memory: float = field(
        default=16384.0,
        metadata={"help": "Most megabytes a run's model and training may take, estimated before anything is built."},
    )
    most_store: float = field(
        default=100_000.0, metadata={"help": "Most megabytes of hidden images a run may make this site store."}
    )
    most_runs: int = field(
        default=10, metadata={"help": "Most runs an approval is good for; approving the same hash again grants anew."}
    )

    def check(self, *, where: str | Path) -> None:
        """Refuse limits that make no sense (ConfigError)."""
        for task in self.tasks:
            check_setting(task in TASKS, "limits.tasks", task, f"of {', '.join(TASKS)}", where)
        check_setting(bool(self.tasks), "limits.tasks", self.tasks, "at least one", where)
        known = {*KEYS, *map(str, POLICIES)}
        for policy in self.policies:
            check_setting(policy in known, "limits.policies", policy, f"of {'; '.join(sorted(known))}", where)
        check_setting(bool(self.policies), "limits.policies", self.policies, "at least one", where)
        for scheme in self.schemes:
            cure = f"of {', '.join(REAL)}"
            check_setting(
                scheme not in TARGETS, "limits.schemes", scheme, f"{cure}: that one is made to be broken", where
            )
            check_setting(SCHEMES.offers(scheme), "limits.schemes", scheme, cure, where)
            # Of another package, which this site's file names.
            check_setting(not SCHEMES[scheme].target, "limits.schemes", scheme, cure, where)
        check_setting(bool(self.schemes), "limits.schemes", self.schemes, "at least one", where)
        for name in self.histograms:
            check_setting(name in HISTOGRAMS, "limits.histograms", name, f"of {', '.join(HISTOGRAMS)}", where)
        for scope in self.scopes:
            listed = f"of {', '.join(KNOWN_SCOPES)}"
            check_setting(scope in KNOWN_SCOPES, "limits.scopes", scope, listed, where)
        check_setting(bool(self.scopes), "limits.scopes", self.scopes, "at least one", where)
        check_weights(self.weights, where)
        for name in ("clip", "noise"):
            value = getattr(self, name)
            right = value is None or 0 < value < float("inf")
            check_setting(right, f"limits.{name}", value, "a number above 0, or null", where)
        parsed_hours(self.hours, where=where)
        for name in ("least_images", "smallest_count", "most_rounds", "least_sites", "most_runs"):
            check_setting(getattr(self, name) >= 1, f"limits.{name}", getattr(self, name), "at least 1", where)
        share = self.most_share
        check_setting(0 < share <= 1, "limits.most_share", share, "above 0, at most 1", where)
        most = self.epsilon
        check_setting(most is None or 0 < most <= MOST_EPSILON, "limits.epsilon", most, "above 0, or null", where)
        check_setting(0 < self.delta < 0.1, "limits.delta", self.delta, "above 0, below 0.1", where)
        said = self.disclosure
        check_setting(said in DISCLOSURES, "limits.disclosure", said, f"of {', '.join(DISCLOSURES)}", where)
        for name in ("most_minutes", "most_megabytes", "most_memory", "most_store", "disclosure_days"):
            value = getattr(self, name)
            check_setting(0 < value < float("inf"), f"limits.{name}", value, "a number above 0", where)
