"""A consortium on this machine: a real server, real sites, each with processes, keys and a folder of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fl_client.cli import main as site_main
from fl_client.deployment import running
from fl_client.deployment.own_files import OwnFiles, load_site
from fl_server.cli import main as server_main
from fl_server.deployment.consortium import Consortium, load_consortium
from fl_server.deployment.runs import Submission, submissions
from medveil import processes
from medveil.fab import hash_of, installed_fab
from medveil.ports import free_port

HERE = "127.0.0.1"
PASSPHRASE = "seven horses correct the battery"
CLASSES = ["none", "mass"]
RUN: dict[str, Any] = {
    "name": "trial",
    "rounds": 2,
    "data": {"classes": CLASSES, "image_size": 32},
    "cipher": {"block": 8, "negate": True},
    # Every tensor of a message is a request of its own, at both ends.
    "model": {"width": 24, "depth": 1, "heads": 2},
    "train": {"batch_size": 8, "lr": 0.003},
    "server": {"wait_for_sites": 60, "round_deadline": 120, "prepare_deadline": 120},
}


@functools.cache
def app_hash() -> str:
    """Of the installed MedVeil, as its sites approve it: no test changes what is installed."""
    return hash_of(installed_fab())


def wait(what: str, ready: Callable[[], bool], *, seconds: float = 90.0, every: float = 0.1) -> None:
    """Wait for something that a process does in its own time, looking every so many seconds."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(every)


def with_mark(mark: str) -> list[int]:
    """Ids of processes with a text in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (entry / "environ").read_bytes() and processes.began(int(entry.name)):
                found.append(int(entry.name))
    return found


def _state_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


# Asked for at every look of a test that waits, and parsing takes longer than a look should.
_site = functools.lru_cache(lambda path, state: load_site(path))
_consortium = functools.lru_cache(lambda path, state: load_consortium(path))


@dataclass
class Hospital:
    """One site: its folder, and its commands."""

    name: str
    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "site.yaml"

    @property
    def files(self) -> OwnFiles:
        return _site(self.file, _state_of(self.file))

    @property
    def log(self) -> str:
        return self.files.log.read_text() if self.files.log.exists() else ""

    def __call__(self, *words: str | Path) -> int:
        return site_main([*map(str, words), "--site", str(self.file)])

    def change(self, **settings: Any) -> None:
        """Change settings of the site's own file, dots as double underscores."""
        values = yaml.safe_load(self.file.read_text())
        for name, value in settings.items():
            *sections, last = name.split("__")
            inner = values
            for section in sections:
                inner = inner[section]
            inner[last] = value
        self.file.write_text(yaml.safe_dump(values))

    def start(self) -> None:
        assert self("start") == 0
        wait(f"{self.name} connects", lambda: running.is_connected(self.files))

    def pid(self, process: str) -> int | None:
        return processes.running(self.files.record(process))

    def wait_ready(self) -> None:
        """Wait for the worker, which opens its key first."""
        wait(f"the worker of {self.name}", lambda: "is ready" in self.log)


@dataclass
class World:
    """The server and its sites."""

    folder: Path
    images: Path
    sites: dict[str, Hospital] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "server" / "consortium.yaml"

    @property
    def consortium(self) -> Consortium:
        return _consortium(self.file, _state_of(self.file))

    def __call__(self, *words: str | Path) -> int:
        """A `medveil-server` command."""
        return server_main([*map(str, words), "--consortium", str(self.file)])

    def set_up(self, *settings: str, summing: bool = False) -> None:
        self.file.parent.mkdir()
        ports = [f"fleet.port={free_port()}", f"control.port={free_port()}"]
        # Most worlds have two sites.
        policy = [] if summing else ["policy.secagg=false"]
        assert server_main(["init", str(self.file), "name=veil", *ports, *policy, *settings]) == 0

    def enroll(self, name: str, *settings: str, admit: bool = True, approve: bool = True) -> Hospital:
        """Enroll the next site, with images of its own."""
        number = len(self.sites) + 1
        site = Hospital(name, self.folder / name)
        given = ["data.source=dicom", f"data.path={self.images / str(number)}", "data.labels=labels.csv"]
        # Few images, so that a run takes seconds: as they are, or these sites would tell nothing of them.
        own = ["limits.least_images=16", "limits.smallest_count=1", "threads=1", "device=cpu", "retry=2"]
        # Looks are most of what processes without work cost, at both ends.
        own += ["poll=0.5", *settings]
        invited = ["--invitation", str(self.consortium.invitation), "--out", str(site.folder)]
        assert site_main(["enroll", "--name", name, *invited, *given, *own]) == 0
        self.sites[name] = site
        if admit:
            assert self("admit", site.folder / f"{name}.pub") == 0
        if approve:
            assert site("approve", app_hash()) == 0
        return site

    def run_file(self, **settings: Any) -> Path:
        path = self.folder / "run.yaml"
        path.write_text(yaml.safe_dump({**RUN, **settings}))
        return path

    def newest(self) -> Submission:
        return submissions(self.consortium)[-1]

    def run_folder(self) -> Path:
        return self.newest().folder(self.consortium)

    def end(self) -> None:
        """End every process, and see that none is left."""
        for site in self.sites.values():
            with contextlib.suppress(Exception):
                running.stop(site.files)
        if self.file.exists():
            processes.stop(self.consortium.record)
        mark = str(self.folder)
        end = time.monotonic() + 20
        while (left := with_mark(f"MEDVEIL_HOME={mark}")) and time.monotonic() < end:
            time.sleep(0.1)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        assert not left, "processes were left running"
