"""Where a site keeps what, beside its file."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from fl_client.data.config import DataConfig
from fl_client.deployment.config import SiteConfig
from medveil.audit import AuditLog
from medveil.config import load_config
from medveil.environment import CREDENTIALS, TASK_POLL, flower_environment
from medveil.errors import ConfigError, KeyMaterialError

SERVED, SERVED_VERSION = "medveil-served", 1
"""Format of what the worker writes down of its last message."""
SITE_VARIABLE = "MEDVEIL_SITE"
"""Environment variable: the file of the real site a process serves. Where it is set, nothing simulates one."""


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
    if file.is_dir():
        raise ConfigError("is a folder", where=file, cure="name the site's file in it")
    if not file.is_file():
        cure = "'medveil-site enroll' makes one; --site names another"
        raise ConfigError("no such file", where=file, cure=cure)
    config = load_config(SiteConfig, file)
    config.check(where=file)
    return OwnFiles(config, file.resolve())
