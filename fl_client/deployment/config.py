"""A site as its hospital describes it. None of it comes from a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fl_client.data.config import DataConfig
from fl_client.deployment.limits_config import LimitsConfig
from medveil import plugins
from medveil.config import check_setting
from medveil.errors import ConfigError
from medveil.node_keys import check_name
from medveil.signing import is_public

CONFIG_FILE = "site.yaml"
_UNSET = "is not set"


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
        check_name(self.name, where=where)
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
