"""A consortium on this machine for as long as it is measured: real processes, as MedVeil's commands start them."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fl_client.data.documents import Documents
from fl_client.deployment import running
from fl_client.deployment.approvals import Approvals
from fl_client.deployment.config import CONFIG_FILE as SITE_FILE
from fl_client.deployment.enroll import enroll
from fl_client.deployment.own_files import OwnFiles, load_site
from fl_client.deployment.own_keys import open_keys
from fl_client.site_files import DESCRIPTION, FORMAT, VERSION
from fl_server.deployment.consortium import Consortium, load_consortium
from fl_server.deployment.roster import Roster
from fl_server.deployment.runs import submissions
from medveil.errors import FederationError
from medveil.files import make_folder, write_text
from medveil.invitation import load_invitation
from medveil.ports import free_port
from medveil.yaml_core import written_yaml
from simulations.consortium.stage import end_all

CLASSES = ["0", "1"]
_CONNECT_S = 300.0
_COMMAND_S = 900.0


@dataclass
class Trial:
    """A server and its sites, with keys, folders and processes of their own, over TLS on the loopback interface.

    Parameters
    ----------
    folder
        For all of it; the caller removes it.
    """

    folder: Path
    sites: list[OwnFiles] = field(default_factory=list)
    _passphrase: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def consortium(self) -> Consortium:
        """The server's side."""
        return load_consortium(self.folder / "server" / "consortium.yaml")

    def set_up(self, images: Sequence[Path], *settings: str, approve: bool = True) -> None:
        """Make the server's and the sites' folders and admit the sites.

        Parameters
        ----------
        images
            An npz file for each site.
        *settings
            Of every site.
        approve
            Let the sites approve the installed app.
        """
        file = make_folder(self.folder / "server") / "consortium.yaml"
        ports = f"fleet.port={free_port()}", f"control.port={free_port()}"
        self.server("init", str(file), "name=bench", "policy.secagg=false", *ports)
        digest = self.server("run", "--hash").strip() if approve else ""
        invitation, roster = load_invitation(self.consortium.invitation), Roster(self.consortium.roster)
        own = ["data.source=npz", "limits.least_images=8", "limits.most_megabytes=4096"]
        own += ["limits.most_runs=1000", "device=cpu", "threads=1"]
        for number, path in enumerate(images, 1):
            name = f"site-{number:02d}"
            given = [*own, f"data.path={path}", *settings]
            made = enroll(
                name, self.folder / name, invitation=invitation, key=None, passphrase=self._passphrase, overrides=given
            )
            roster.admit(made.key)
            site = load_site(made.folder / SITE_FILE)
            if approve:
                Approvals(site.approvals).approve(digest)
            self.sites.append(site)

    def start(self, *, after_each: Callable[[], None] | None = None) -> None:
        """Start server and sites, calling `after_each` in between, and wait until all are connected."""
        self.server("start", *self.named)
        for site in self.sites:
            running.start(site, {"": self._passphrase}, stock=False)
            if after_each is not None:
                after_each()
        for site in self.sites:
            connected, said = running.wait_connected(site, seconds=_CONNECT_S)
            if not connected:
                raise FederationError(f"did not connect: {said}", where=site.config.name)

    def run(self, settings: dict[str, Any]) -> Path:
        """Run to the end; returns the run's folder."""
        file = self.folder / "run.yaml"
        write_text(file, written_yaml(settings))
        self.server("run", str(file), *self.named)
        return submissions(self.consortium)[-1].folder(self.consortium)

    def parts_of(self, site: OwnFiles) -> dict[str, int]:
        """How many images a site had in each part of its newest run, as it wrote down and sealed."""
        keys = open_keys(site, lambda named: self._passphrase, serving=False)
        described = Documents.of(site.own, keys.own.current).read(
            DESCRIPTION, {"parts": {str: int}}, format_=FORMAT, newest=VERSION
        )
        return dict(described["parts"])

    def end(self) -> None:
        """End every process by its recorded id."""
        end_all(self.sites, self.folder / "server" / "consortium.yaml")

    def server(self, *words: str) -> str:
        """A `medveil-server` command; returns what it printed."""
        return self.command("fl_server.cli", *words)

    def command(self, module: str, *words: str) -> str:
        """One of MedVeil's commands in a process of its own.

        Raises
        ------
        FederationError
            It failed.
        """
        done = subprocess.run(
            [sys.executable, "-m", module, *words],
            cwd=self.folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_S,
        )
        if done.returncode:
            said = " ".join(done.stderr.strip().splitlines()[-3:])
            raise FederationError(f"'{module} {words[0]}' ended with {done.returncode}: {said}", where="bench")
        return done.stdout

    @property
    def named(self) -> tuple[str, str]:
        """The consortium, as `medveil-server` takes it."""
        return "--consortium", str(self.folder / "server" / "consortium.yaml")


def write_images(path: Path, *, count: int, size: int, seed: int) -> Path:
    """Random images (count, size, size), uint8, of two classes."""
    rng = np.random.default_rng(seed)
    np.savez(path, images=rng.integers(0, 256, (count, size, size), dtype=np.uint8), labels=np.arange(count) % 2)
    return path
