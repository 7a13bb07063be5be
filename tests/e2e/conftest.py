"""Images for the hospitals of a consortium on this machine, and the consortium itself."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from consortium_world import PASSPHRASE, World
from fault_table import FaultTable
from full_disk import Disks, all_taken_away

from crypto import sealed_file
from crypto.passphrase import VARIABLE
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms

HOSPITALS = 4


def pytest_configure(config: pytest.Config) -> None:
    """Print what was done and what happened after a run that had faults in it."""
    config.pluginmanager.register(FaultTable(), "fault-table")


@pytest.fixture(scope="session")
def hospital_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DICOM phantoms, a folder with a table for each hospital: ``1`` to ``4``."""
    folder = tmp_path_factory.mktemp("hospitals")
    draw_phantoms(folder / "drawn", PhantomConfig(sites=HOSPITALS, images=40, classes=2, size=32))
    with (folder / "drawn" / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for number in range(1, HOSPITALS + 1):
        own = folder / str(number)
        shutil.copytree(folder / "drawn" / f"hospital-{number}", own / f"hospital-{number}")
        with (own / "labels.csv").open("w", newline="") as stream:
            table = csv.writer(stream)
            table.writerow(["path", "label"])
            table.writerows(
                [row["path"], row["label"]] for row in rows if row["path"].startswith(f"hospital-{number}/")
            )
    return folder


@pytest.fixture
def disks(request: pytest.FixtureRequest) -> Iterator[Disks]:
    """Small disks; asked for before the consortium, they are taken away after its processes have ended."""
    with all_taken_away(request) as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, hospital_images: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    # What is sealed here is sealed at little cost, and says so; test_first_consortium has the real one.
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    made = World(tmp_path, hospital_images)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def consortium(world: World) -> World:
    """Two hospitals that are connected; a round may be made of one."""
    world.set_up("policy.least_sites=1")
    for name in ("mercy", "st-anna"):
        world.enroll(name, "limits.least_sites=1")
    assert world("start") == 0
    for site in world.sites.values():
        site.start()
        site.wait_ready()
    return world
