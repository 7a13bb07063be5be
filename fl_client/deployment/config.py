"""A site as its hospital describes it, and where it keeps what. None of it comes from a server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from crypto.cipher import SCHEMES
from fl_client.config import SMALLEST_COUNT
from fl_client.data.config import DataConfig
from fl_client.deployment.hours import parsed_hours
from medveil import plugins
from medveil.audit import AuditLog
from medveil.config import check_setting, load_config
from medveil.contract import TASKS
from medveil.counting import HISTOGRAMS
from medveil.environment import CREDENTIALS, flower_environment
from medveil.errors import ConfigError, KeyMaterialError
from medveil.flower import TASK_POLL
from medveil.node_keys import check_name
from medveil.pretraining import SINGLE_LABEL
from medveil.privacy import MOST_EPSILON
from medveil.signing import is_public
from medveil.training import SCOPES
from models.policy import KEYS, POLICIES

CONFIG_FILE = "site.yaml"
SERVED, SERVED_VERSION = "medveil-served", 1
"""Format of what the worker writes down of its last message."""
SITE_VARIABLE = "MEDVEIL_SITE"
"""Environment variable: the file of the real site a process serves. Where it is set, nothing simulates one."""
_UNSET = "is not set"
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
            "a number in a histogram; 1: all leaves."
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


@dataclass
class SiteConfig:
    """One site, as `medveil-site` reads it. Paths count from this file's folder."""

    name: str = field(default="", metadata={"help": "Name of the site, as it was enrolled."})
    server: str = field(default="", metadata={"help": "Where the server is: host:port."})
    ca: str = field(default="ca.crt", metadata={"help": "Certificate of the consortium's authority; no other counts."})
    server_key: str = field(
        default="", metadata={"help": "The server's signing key, from the invitation: what it did not sign is refused."}
    )
    former_server_keys: list[str] = field(
        default_factory=list,
        metadata={"help": "Signing keys the server had before: they open no door; heads they signed still count."},
    )
    node_key: str = field(default="", metadata={"help": "Private key of this site's node; it never leaves."})
    identity: str = field(default="", metadata={"help": "Sealed file of the key that signs this site's replies."})
    key: str = field(default="", metadata={"help": "Sealed key file that hides this site's images."})
    passphrase_file: str | None = field(
        default=None,
        metadata={"help": "File with its passphrase; null: systemd credential, MEDVEIL_PASSPHRASE or the terminal."},
    )
    identity_passphrase_file: str | None = field(
        default=None, metadata={"help": "File with the passphrase of identity; null: the same as that of key."}
    )
    shared_key: str | None = field(
        default=None, metadata={"help": "Key file of the key all sites hold, for runs with keys 'shared'."}
    )
    shared_passphrase_file: str | None = field(
        default=None, metadata={"help": "File with the passphrase of shared_key; null: the same as that of key."}
    )
    state_dir: str = field(default="state", metadata={"help": "Folder for store, stems, approvals and logs."})
    data: DataConfig = field(default_factory=DataConfig, metadata={"help": "The site's images."})
    limits: LimitsConfig = field(default_factory=LimitsConfig, metadata={"help": "What this site agrees to at most."})
    device: str = field(default="auto", metadata={"help": "cpu, cuda, cuda:N or auto."})
    threads: int = field(default=0, metadata={"help": "Torch threads; 0 leaves torch's default."})
    port: int = field(
        default=0, metadata={"help": "Port on 127.0.0.1 between this site's own two processes; 0: a free one."}
    )
    poll: float = field(default=0.2, metadata={"help": "Seconds between two looks for work while there is some."})
    retry: float = field(
        default=60.0, metadata={"help": "Seconds before a node that was refused tries again; below 60 is too soon."}
    )
    log_days: int = field(default=30, metadata={"help": "Days the site's log is kept."})
    plugins: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Packages, as 'pip list' names them, whose ciphers and sources of images this site takes: their "
            "code runs with its images and its key."
        },
    )

    def check(self, *, where: str | Path) -> None:
        """Refuse what could not be run; from here on this process takes the packages it names, and no other.

        Raises
        ------
        ConfigError
            A value is missing or out of its range.
        """
        plugins.restrict(self.plugins)
        check_name(self.name)
        host, colon, port = self.server.rpartition(":")
        right = bool(host and colon) and port.isdigit() and 1 <= int(port) <= 65535 and "/" not in host
        check_setting(right, "server", self.server, "host:port, without https://", where)
        for name in ("ca", "node_key", "key"):
            if not getattr(self, name):
                raise ConfigError(f"'{name}' {_UNSET}", where=where, cure="'medveil-site enroll' fills it in")
        # Sites of an earlier MedVeil have none yet: they are read, and told when they start (`signing_of`).
        right = not self.server_key or is_public(self.server_key)
        check_setting(right, "server_key", self.server_key[:64], "as in the invitation", where)
        right = all(map(is_public, self.former_server_keys))
        check_setting(right, "former_server_keys", "a list", "as 'medveil-site rejoin' writes them", where)
        check_setting(self.data.source != "phantoms", "data.source", "phantoms", "a site brings its own images", where)
        check_setting(bool(self.data.path), "data.path", self.data.path, "the folder or file of the images", where)
        check_setting(0 <= self.port <= 65535, "port", self.port, "0 to 65535", where)
        check_setting(0.01 <= self.poll <= 60, "poll", self.poll, "0.01 to 60", where)
        check_setting(1 <= self.retry < float("inf"), "retry", self.retry, "at least 1", where)
        check_setting(self.threads >= 0, "threads", self.threads, "0 or more", where)
        check_setting(self.log_days >= 1, "log_days", self.log_days, "at least 1", where)
        self.limits.check(where=where)


@dataclass(frozen=True)
class OwnFiles:
    """A site's configuration and the places in its state folder."""

    config: SiteConfig
    file: Path

    def path(self, named: str) -> Path:
        """A path of the configuration, which counts from the file's folder."""
        return (self.file.parent / Path(named).expanduser()).resolve()

    @property
    def state(self) -> Path:
        """The state folder, for the site's own account only."""
        return self.path(self.config.state_dir)

    @property
    def data(self) -> DataConfig:
        """The images, with a path that holds wherever a process was started."""
        return replace(self.config.data, path=str(self.path(str(self.config.data.path))))

    @property
    def approvals(self) -> Path:
        """The apps this site approved."""
        return self.state / "approvals.json"

    @property
    def roster(self) -> Path:
        """Who takes part, as this site approved it."""
        return self.state / "roster.json"

    @property
    def audit(self) -> AuditLog:
        """The site's audit log."""
        return AuditLog(self.state / "audit.jsonl", f"site {self.config.name}")

    @property
    def weights(self) -> Path:
        """Pre-trained weights that runs may name."""
        return self.state / "weights"

    @property
    def own(self) -> Path:
        """What the site itself keeps: store, stems, models."""
        return self.state / "site"

    @property
    def home(self) -> Path:
        """Flower's own folder."""
        return self.state / "flower"

    @property
    def secret(self) -> Path:
        """What node and worker know each other by; drawn anew at every start."""
        return self.state / "worker.secret"

    @property
    def log(self) -> Path:
        """The site's own log."""
        return self.state / "logs" / "site.log"

    @property
    def node_log(self) -> Path:
        """What the SuperNode says."""
        return self.state / "logs" / "supernode.log"

    @property
    def ledger(self) -> Path:
        """What training has cost the site's images."""
        return self.own / "privacy.json"

    @property
    def drain(self) -> Path:
        """There while the site is to take no new work."""
        return self.state / "drain.json"

    @property
    def drained(self) -> Path:
        """There once nothing was in hand then."""
        return self.state / "drained.json"

    @property
    def served(self) -> Path:
        """What the worker did last."""
        return self.state / "served.json"

    def stock_environment(self) -> dict[str, str]:
        """What else Flower's own processes need, which read the passphrase themselves.

        Raises
        ------
        KeyMaterialError
            They could not: it is in no file and no credential, and does not go into an environment.
        """
        folder = os.environ.get(CREDENTIALS)
        if self.config.passphrase_file is None and folder is None:
            raise KeyMaterialError(
                "Flower's own processes read the passphrase themselves, and none is put into their environment",
                where="start --stock",
                cure="name its file as 'passphrase_file', or give the unit a systemd credential",
            )
        return {SITE_VARIABLE: str(self.file), **({} if folder is None else {CREDENTIALS: folder})}

    def record(self, process: str) -> Path:
        """Who one of the site's processes is: ``supervisor``, ``supernode`` or ``worker``."""
        return self.state / f"{process}.process"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of the site's processes; no passphrase is in it."""
        return flower_environment(
            self.home, MEDVEIL_HOME=str(self.state), **{TASK_POLL: f"{self.config.poll:g}", **more}
        )


def load_site(file: Path) -> OwnFiles:
    """Read a site's file.

    Raises
    ------
    ConfigError
        It is missing, or a setting is unknown, missing or cannot be run.
    """
    if not file.is_file():
        cure = "'medveil-site enroll' makes one; --site names another"
        raise ConfigError("no such file", where=file, cure=cure)
    config = load_config(SiteConfig, file)
    config.check(where=file)
    return OwnFiles(config, file.resolve())
