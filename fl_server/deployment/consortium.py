"""A consortium as its coordinator describes it, and where its server keeps what."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass, field
from pathlib import Path

from fl_server.draining import FILE as DRAIN_FILE
from fl_server.draining import Drain
from medveil.audit import FILE_VARIABLE, OWNER_VARIABLE, ROSTER_VARIABLE, SIGNING_VARIABLE, AuditLog
from medveil.certificates import AUTHORITY_DAYS, SERVER_DAYS
from medveil.config import check_setting, load_config
from medveil.environment import HERE, TASK_POLL, flower_environment
from medveil.errors import ConfigError
from medveil.node_keys import check_name
from models.policy import KEYS, POLICIES

CONFIG_FILE = "consortium.yaml"
CONNECTION = "medveil"
"""What the server is called in Flower's own configuration."""
_TASK_POLL_S = "0.2"


@dataclass
class FleetConfig:
    """The one door sites reach."""

    host: str = field(default=HERE, metadata={"help": "Address to listen on; 0.0.0.0 for every interface."})
    port: int = field(default=9092, metadata={"help": "Port to listen on; open it in the firewall, and no other."})


@dataclass
class ControlConfig:
    """The door that only this machine reaches; its commands show a secret of the server's account."""

    port: int = field(default=9093, metadata={"help": "Port on 127.0.0.1; never open it to anyone."})


@dataclass
class CertificateConfig:
    """The certificate sites know the server by."""

    names: list[str] = field(
        default_factory=list,
        metadata={"help": "Host names and IP addresses sites reach the server by; this machine's own are added."},
    )
    authority_days: int = field(default=AUTHORITY_DAYS, metadata={"help": "Lifetime of the certificate authority."})
    server_days: int = field(default=SERVER_DAYS, metadata={"help": "Lifetime of the server's certificate."})


@dataclass
class ConsortiumPolicy:
    """What this consortium runs at most; 'medveil-server run' refuses more. Sites have limits of their own."""

    policies: list[str] = field(
        default_factory=list,
        metadata={"help": "Policies allowed, as 'per-site + adapted + local', or the keys alone; empty: every one."},
    )
    most_rounds: int = field(default=1000, metadata={"help": "Most rounds of a run."})
    least_sites: int = field(default=2, metadata={"help": "Fewest sites whose updates a round may be made of."})
    secagg: bool = field(
        default=True,
        metadata={
            "help": "Sum updates under masks in every run, among three sites or more ('medveil-server roster'); false, "
            "for two: runs whose single updates the server reads."
        },
    )


@dataclass
class ConsortiumConfig:
    """One consortium, as `medveil-server` reads it."""

    name: str = field(default="consortium", metadata={"help": "Name of the consortium."})
    state_dir: str = field(default="state", metadata={"help": "Folder for all the server keeps, from this file's own."})
    fleet: FleetConfig = field(default_factory=FleetConfig, metadata={"help": "Where sites connect."})
    control: ControlConfig = field(
        default_factory=ControlConfig, metadata={"help": "Where only this machine connects."}
    )
    certificates: CertificateConfig = field(default_factory=CertificateConfig, metadata={"help": "TLS."})
    policy: ConsortiumPolicy = field(default_factory=ConsortiumPolicy, metadata={"help": "What may be run."})
    log_days: int = field(default=30, metadata={"help": "Days the server's log is kept."})

    def check(self, *, where: str | Path) -> None:
        """Refuse what could not be run.

        Raises
        ------
        ConfigError
            A value is out of its range, or two contradict each other.
        """
        check_name(self.name)
        for name, port in (("fleet.port", self.fleet.port), ("control.port", self.control.port)):
            check_setting(1 <= port <= 65535, name, port, "1 to 65535", where)
        check_setting(
            self.control.port != self.fleet.port,
            "control.port",
            self.control.port,
            "another than fleet.port: sites must not reach it",
            where,
        )
        check_setting(
            _is_address(self.fleet.host), "fleet.host", self.fleet.host, "an IP address of this machine", where
        )
        for name in ("authority_days", "server_days"):
            check_setting(getattr(self.certificates, name) >= 1, f"certificates.{name}", 0, "at least 1", where)
        check_setting(self.policy.most_rounds >= 1, "policy.most_rounds", self.policy.most_rounds, "at least 1", where)
        check_setting(self.policy.least_sites >= 1, "policy.least_sites", self.policy.least_sites, "at least 1", where)
        known = {*KEYS, *map(str, POLICIES)}
        for policy in self.policy.policies:
            check_setting(policy in known, "policy.policies", policy, f"of {'; '.join(sorted(known))}", where)
        check_setting(1 <= self.log_days < math.inf, "log_days", self.log_days, "at least 1", where)


@dataclass(frozen=True)
class Consortium:
    """A consortium's configuration and the places in its state folder."""

    config: ConsortiumConfig
    file: Path

    @property
    def state(self) -> Path:
        """The state folder, for the server's own account only."""
        return (self.file.parent / self.config.state_dir).resolve()

    @property
    def authority(self) -> tuple[Path, Path]:
        """Key and certificate of the certificate authority."""
        return self.state / "pki" / "ca.key", self.state / "pki" / "ca.crt"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """Key and certificate of the server."""
        return self.state / "pki" / "server.key", self.state / "pki" / "server.crt"

    @property
    def signing_key(self) -> Path:
        """The key that signs the server's messages."""
        return self.state / "pki" / "signing.key"

    @property
    def home(self) -> Path:
        """Flower's own folder."""
        return self.state / "flower"

    @property
    def database(self) -> Path:
        """The SuperLink's SQLite file."""
        return self.state / "superlink.db"

    @property
    def log(self) -> Path:
        """The SuperLink's log."""
        return self.state / "logs" / "superlink.log"

    @property
    def record(self) -> Path:
        """Who the SuperLink's process is."""
        return self.state / "superlink.process"

    @property
    def superexec_secret(self) -> Path:
        """What the process that starts runs shows the SuperLink; drawn anew with every start."""
        return self.state / "superexec.secret"

    @property
    def refusals(self) -> Path:
        """What the doors refused since the SuperLink was started."""
        return self.state / "door.json"

    @property
    def drain(self) -> Drain:
        """Whether the server is to finish what it has in hand and stop."""
        return Drain(self.audit.path.with_name(DRAIN_FILE))

    @property
    def roster(self) -> Path:
        """The sites that were admitted."""
        return self.state / "sites.json"

    @property
    def shared_roster(self) -> Path:
        """The roster that was written last, for every site to approve."""
        return self.state / "roster.json"

    @property
    def invitation(self) -> Path:
        """What sites are handed: address, the authority's certificate, the server's signing key's public half."""
        return self.state / f"{self.config.name}.invitation"

    @property
    def audit(self) -> AuditLog:
        """The server's audit log."""
        return AuditLog(self.state / "audit.jsonl", f"server {self.config.name}")

    @property
    def submissions(self) -> Path:
        """Runs as they were submitted, for resuming them."""
        return self.state / "submissions"

    @property
    def runs(self) -> Path:
        """Run folders."""
        return self.state / "runs"

    @property
    def weights(self) -> Path:
        """Pre-trained weights that runs may name."""
        return self.state / "weights"

    @property
    def names(self) -> list[str]:
        """Everything the server's certificate must be good for; what sites use comes first."""
        host = self.config.fleet.host
        own = [] if ipaddress.ip_address(host).is_unspecified else [host]
        return list(dict.fromkeys([*self.config.certificates.names, *own, "localhost", HERE]))

    @property
    def address(self) -> str:
        """Where sites reach the server: the first name and the port."""
        name = self.names[0]
        return f"{f'[{name}]' if ':' in name else name}:{self.config.fleet.port}"

    @property
    def control(self) -> str:
        """Where only this machine reaches it."""
        return f"{HERE}:{self.config.control.port}"

    def environment(self) -> dict[str, str]:
        """The environment of the server's processes; its runs are left below the state folder."""
        audited = {FILE_VARIABLE: str(self.audit.path), OWNER_VARIABLE: self.audit.owner}
        signed = {SIGNING_VARIABLE: str(self.signing_key), ROSTER_VARIABLE: str(self.roster)}
        own = {TASK_POLL: _TASK_POLL_S, **audited, **signed}
        return flower_environment(self.home, MEDVEIL_HOME=str(self.state), **own)


def load_consortium(file: Path) -> Consortium:
    """Read a consortium's file.

    Raises
    ------
    ConfigError
        It is missing, or a setting is unknown or cannot be run.
    """
    if file.is_dir():
        raise ConfigError("is a folder", where=file, cure="name the consortium's file in it")
    if not file.is_file():
        cure = f"'medveil-server init {CONFIG_FILE}' makes one; --consortium names another"
        raise ConfigError("no such file", where=file, cure=cure)
    config = load_config(ConsortiumConfig, file)
    config.check(where=file)
    return Consortium(config, file.resolve())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
