"""Hospitals whose images lie in a PACS: pulled, trained on with real servers and sites, and asked about."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import dicomweb_server
import orthanc
import pytest
from consortium_world import Hospital, World
from faults import manifest, trained
from orthanc import Orthanc
from pydicom import dcmread

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]
Serving = Callable[[list[Path], Path], contextlib.AbstractContextManager[str]]
NAMES = ("st-anna", "mercy", "charity")


def rows_of(folder: Path) -> list[tuple[Path, str]]:
    with (folder / "labels.csv").open() as stream:
        return [(folder / row["path"], row["label"]) for row in csv.DictReader(stream)]


@contextlib.contextmanager
def own_server(paths: list[Path], folder: Path) -> Iterator[str]:
    with dicomweb_server.serving(map(dcmread, paths)) as pacs:
        yield pacs.url


@contextlib.contextmanager
def orthanc_of(paths: list[Path], folder: Path) -> Iterator[str]:
    made = Orthanc(folder)
    made.start()
    try:
        for path in paths:
            made.put(path.read_bytes())
        yield made.url
    finally:
        made.kill()


def to_pacs(site: Hospital, url: str, rows: list[tuple[Path, str]]) -> None:
    """Have a site take its images from there."""
    (site.folder / "pacs.yaml").write_text(f"url: {url}\npage: 7\nrate: 200\n")
    heads = [(dcmread(path, stop_before_pixels=True), label) for path, label in rows]
    with (site.folder / "cohort.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("instance", "label"), *((head.SOPInstanceUID, label) for head, label in heads)])
    site.change(
        data__source="dicomweb",
        data__path="pacs.yaml",
        data__labels="cohort.csv",
        data__query={"modality": str(heads[0][0].Modality)},
    )


@pytest.mark.parametrize(
    "pacs",
    [
        own_server,
        pytest.param(orthanc_of, marks=pytest.mark.skipif(orthanc.program() is None, reason=orthanc.WHY)),
    ],
)
def test_three_hospitals_train_on_what_their_pacs_held(
    world: World, hospital_images: Path, capsys: pytest.CaptureFixture[str], pacs: Serving, tmp_path: Path
) -> None:
    world.set_up()
    sites = [world.enroll(name) for name in NAMES]
    own = [rows_of(hospital_images / str(number)) for number in range(1, len(sites) + 1)]
    with contextlib.ExitStack() as servers:
        for site, rows in zip(sites, own, strict=True):
            url = servers.enter_context(pacs([path for path, _ in rows], tmp_path / f"pacs-{site.name}"))
            to_pacs(site, url, rows)
            assert site("pull") == 0
            assert f"pulled {len(rows)} images" in capsys.readouterr().out
    # From here on no PACS answers: a run asks none.
    assert world("start") == 0
    for site in sites:
        site.start()
        site.wait_ready()
        assert site("status", "--healthy") == 0
    assert world("status", "--healthy") == 0
    assert world("run", world.run_file(rounds=1)) == 0
    assert {name for _, name in trained(world)} == set(NAMES)
    assert manifest(world)["status"] == "finished"
    for site, rows in zip(sites, own, strict=True):
        pixels = dcmread(rows[0][0]).PixelData[200:264]
        lying = [path.read_bytes() for path in site.folder.rglob("*") if path.is_file()]
        assert not [data for data in lying if b"DICM" in data[:200] or pixels in data], "an image lies plain at a site"
