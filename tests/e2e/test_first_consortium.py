"""The commands of the coordinator's tutorial that bring up a consortium, typed as they are printed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from consortium_world import PASSPHRASE, wait, with_mark
from pages import COORDINATOR, blocks

from crypto.passphrase import VARIABLE
from fl_client.cli import main as site_main
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_server.cli import main as server_main
from fl_server.deployment.plan import RunFile
from medveil.config import load_config, to_mapping
from medveil.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME, SITES = "st-anna", ("st-anna", "mercy", "grace")
CLASSES = {"none": "no_tumor", "mass": "glioma"}
SMALL = {
    "rounds": 1,
    "data": {"image_size": 32},
    "cipher": {"block": 8},
    "model": {"width": 24, "depth": 1, "heads": 2},
    "train": {"batch_size": 8},
}
"""What a reader who has an afternoon would leave as the template has it."""


def printed() -> list[tuple[str, str]]:
    """Who types what, in order."""
    (block,) = [each for each in blocks(COORDINATOR) if re.match(r"coordinator +medveil-server init ", each)]
    whole = re.sub(r" *\\\n *", " ", block)
    return [(who, line.strip()) for who, line in re.findall(r"^(coordinator|site) +(.*)$", whole, re.MULTILINE)]


class Rehearsal:
    """A coordinator and three sites, each in a folder of its own, and what one hands to another."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        self.app = self.roster = ""

    def set_up(self) -> None:
        (self.folder / "coordinator").mkdir()
        for seed, site in enumerate(SITES):
            draw_images(self.folder / site / "dicom", seed)

    def type(self, party: str, line: str) -> str:
        """Type a line in a party's folder; what it printed."""
        self._monkeypatch.chdir(self.folder / party)
        program, *words = shlex.split(line)
        self._capsys.readouterr()
        assert {"medveil-server": server_main, "medveil-site": site_main}[program](words) == 0, line
        return self._capsys.readouterr().out

    def coordinator(self, line: str) -> None:
        if " init " in line:
            # This machine's own name and free ports; all else is printed.
            ports = f"fleet.port={free_port()} control.port={free_port()}"
            self.type("coordinator", f"{line.replace('veil.example.org', 'localhost')} {ports}")
            self._carry("coordinator/state/consortium.invitation", *SITES)
        elif " --template > " in line:
            command, file = line.split(" > ")
            self._edit(self.type("coordinator", command), self.folder / "coordinator" / file)
        elif " --hash" in line:
            self.app = self.type("coordinator", line).strip()
        elif " roster " in line:
            (self.roster,) = re.findall(r"read out to each, .*: (\w+)", self.type("coordinator", line))
            self._carry("coordinator/roster.json", *SITES)
        else:
            for site in SITES if NAME in line else (NAME,):
                self.type("coordinator", line.replace(NAME, site))

    def sites(self, line: str) -> None:
        """Every site does its part."""
        for site in SITES:
            own = line.replace(NAME, site).replace("HASH", self.app).replace("DIGEST", self.roster)
            self.type(site, own.replace("/dicom", str(self.folder / site / "dicom")))
            if " enroll " in line:
                self._carry(f"{site}/enrol/{site}.pub", "coordinator")

    def end(self) -> None:
        for site in SITES:
            if (self.folder / site / "enrol/site.yaml").exists():
                self.type(site, "medveil-site stop --site enrol/site.yaml")
        if (self.folder / "coordinator/consortium.yaml").exists():
            self.type("coordinator", "medveil-server stop")
        wait("nothing is left running", lambda: not with_mark(f"MEDVEIL_HOME={self.folder}"), seconds=20)

    def _carry(self, file: str, *parties: str) -> None:
        for party in parties:
            shutil.copy(self.folder / file, self.folder / party)

    def _edit(self, template: str, file: Path) -> None:
        file.write_text(template)
        # Plain YAML takes the name `on` for a truth value.
        settings = to_mapping(load_config(RunFile, file))
        for name, value in SMALL.items():
            settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
        file.write_text(yaml.safe_dump(settings))


@pytest.fixture
def rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Rehearsal]:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Rehearsal(tmp_path, monkeypatch, capsys)
    made.set_up()
    try:
        yield made
    finally:
        made.end()


def draw_images(folder: Path, seed: int) -> None:
    """A hospital's images, one folder a class, and some new ones."""
    draw_phantoms(folder / "drawn", PhantomConfig(sites=1, images=60, classes=2, size=32, seed=seed))
    for line in (folder / "drawn/labels.csv").read_text().splitlines()[1:]:
        path, label, _ = line.split(",")
        (folder / "labelled" / CLASSES[label]).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "drawn" / path, folder / "labelled" / CLASSES[label])
    shutil.copytree(folder / "drawn/hospital-1", folder / "new")


def test_the_printed_commands_bring_up_a_consortium(rehearsal: Rehearsal) -> None:
    for who, line in printed():
        {"coordinator": rehearsal.coordinator, "site": rehearsal.sites}[who](line)
    for site in SITES:
        rows = (rehearsal.folder / site / "predictions.csv").read_text().splitlines()
        assert rows[0] == "image,p(glioma),p(no_tumor),class"
        assert len(rows) == 61
    # What nobody was asked for, and every hospital wants.
    (summary,) = rehearsal.folder.glob("coordinator/state/runs/*/summary.json")
    summed = json.loads(summary.read_text())["secagg"]
    assert (summed["on"], summed["updates"]) == (True, len(SITES))
