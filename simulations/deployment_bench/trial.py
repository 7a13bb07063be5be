"""A consortium on this machine for as long as it is measured: set up, run and ended by MedVeil's own commands."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fl_client.deployment import running
from fl_client.deployment.config import OwnFiles, load_site
from fl_server.deployment.consortium import Consortium, load_consortium
from fl_server.deployment.runs import submissions
from medveil import processes
from medveil.environment import HERE
from medveil.errors import FederationError, MedVeilError
from medveil.files import make_folder, write_text

CLASSES = ["0", "1"]
_AT_ONCE = 2
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
        self.server("init", str(file), "name=bench", f"fleet.port={free_port()}", f"control.port={free_port()}")
        secret = self.folder / "passphrase"
        write_text(secret, secrets.token_hex(16), mode=0o600)
        digest = self.server("run", "--hash").strip() if approve else ""

        def enroll(number: int) -> OwnFiles:
            name = f"site-{number + 1:02d}"
            out = self.folder / name
            words = ["enroll", "--name", name, "--invitation", str(self.consortium.invitation), "--out", str(out)]
            own = [
                "data.source=npz",
                f"data.path={images[number]}",
                "limits.least_images=8",
                "limits.most_megabytes=4096",
            ]
            self.command(
                "fl_client.cli", *words, "--passphrase-file", str(secret), *own, "device=cpu", "threads=1", *settings
            )
            if approve:
                self.command("fl_client.cli", "approve", digest, "--site", str(out / "site.yaml"))
            return load_site(out / "site.yaml")

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            self.sites = list(pool.map(enroll, range(len(images))))
        for site in self.sites:
            # The roster is one file: one at a time.
            self.server("admit", str(site.file.parent / f"{site.config.name}.pub"), *self._named)

    def start(self) -> None:
        """Start server and sites, and wait until all are connected."""
        self.server("start", *self._named)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda site: self.command("fl_client.cli", "start", "--site", str(site.file)), self.sites))
        for site in self.sites:
            connected, said = running.wait_connected(site, seconds=300)
            if not connected:
                raise FederationError(f"did not connect: {said}", where=site.config.name)

    def run(self, settings: dict[str, Any]) -> Path:
        """Run to the end; returns the run's folder."""
        file = self.folder / "run.yaml"
        write_text(file, yaml.safe_dump(settings))
        self.server("run", str(file), *self._named)
        return submissions(self.consortium)[-1].folder(self.consortium)

    def end(self) -> None:
        """End every process by its recorded id."""

        def stop(site: OwnFiles) -> None:
            with suppress(MedVeilError):
                running.stop(site)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(stop, self.sites))
        if (self.folder / "server" / "consortium.yaml").exists():
            processes.stop(self.consortium.record)

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
    def _named(self) -> tuple[str, str]:
        return "--consortium", str(self.folder / "server" / "consortium.yaml")


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


def write_images(path: Path, *, count: int, size: int, seed: int) -> Path:
    """Random images (count, size, size), uint8, of two classes."""
    rng = np.random.default_rng(seed)
    np.savez(path, images=rng.integers(0, 256, (count, size, size), dtype=np.uint8), labels=np.arange(count) % 2)
    return path
