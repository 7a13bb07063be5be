"""Bad input, as a user meets it: one line, the documented exit code, and nothing half-written taken for whole."""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from fl_client import work
from fl_client.simulated_host import _simulated_site
from fl_client.site import Site
from fl_server import checkpoints
from medveil.errors import ConfigError, DataError
from simulations.cli import main
from simulations.folders import read_manifest

PROGRAM = Path(sys.executable).parent / "medveil-sim"
pytestmark = pytest.mark.usefixtures("fresh_sites")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what was wrong."""
        assert "Traceback" not in self.out + self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(lines) == 1, self.err
        assert self.err.count(lines[0].removeprefix("error: ")) == 1, "the error was said twice"
        return lines[0]


@dataclass(frozen=True)
class Sim:
    run: Callable[..., Said]
    command: Callable[..., Said]

    def __call__(self, *settings: str, **where: Any) -> Said:
        return self.run(*settings, **where)

    def resume(self, run: Path) -> Said:
        return self.command("run", "--resume", str(run))


@pytest.fixture
def sim(capsys: pytest.CaptureFixture[str], tiny_settings: list[str], tmp_path: Path) -> Sim:
    """Run `medveil-sim run` on the tiny experiment with some settings changed, into tmp_path/out."""
    torch.set_num_threads(1)
    (tmp_path / "empty.yaml").write_text("")

    def run(*settings: str, config: Path | None = None, out: Path | None = None, options: tuple[str, ...] = ()) -> Said:
        words = [
            str(config or tmp_path / "empty.yaml"),
            *tiny_settings,
            *settings,
            "--out",
            str(out or tmp_path / "out"),
        ]
        return command("run", *words, *options)

    def command(*words: str) -> Said:
        capsys.readouterr()
        code = main(list(words))
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return Sim(run, command)


def refused(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said.err
    for word in words:
        assert word in said.error


def image_folder(folder: Path, *, n: int = 40) -> Path:
    rng = np.random.default_rng(0)
    for number in range(n):
        path = folder / "ab"[number % 2] / f"{number:02d}.{'png' if number % 4 < 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 18), dtype=np.uint8)).save(path)
    return folder


IMAGES = ("data.source=images", "data.image_size=16")

# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sits: 3\n", ["bad.yaml", "unknown key 'sits'", "did you mean 'sites'"]),
        ("data: {sorce: npz}\n", ["bad.yaml", "unknown key 'data.sorce'", "did you mean 'data.source'"]),
        ("rounds: many\n", ["bad.yaml", "'rounds'", "expected int"]),
        ("data: {classes: benign}\n", ["bad.yaml", "'data.classes'", "expected list[str]"]),
        ("data: 3\n", ["bad.yaml", "'data' is a section"]),
        ("rounds: [1\n", ["bad.yaml", "not valid YAML", "line 2"]),
        ("- a\n", ["bad.yaml", "holds no keys"]),
    ],
)
def test_a_bad_configuration_file(sim: Sim, tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    refused(sim(config=tmp_path / "bad.yaml"), 2, *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("roundz=3", ["command line 'roundz=3'", "did you mean 'rounds'"]),
        ("rounds=0", ["'rounds' is below 1", "at least 1"]),
        ("rounds", ["is not 'key=value'"]),
        ("sites=0", ["'sites' is 0"]),
        ("seed=-1", ["'seed' is out of its range", "below 2^63"]),
        ("seed=99999999999999999999", ["'seed' is a number beyond 64 bits"]),
        ("data.window=[.nan,1]", ["data.window"]),
        ("engine=cloud", ["'cloud'", "inprocess, flower"]),
        ("federation=none", ["'none'", "local-only"]),
        ("wire=fp8", ["'wire' is not supported", "fp32, bf16"]),
        ("keys.policy=borrowed", ["borrowed", "per-site"]),
        ("stem.init=random", ["random", "adapted"]),
        ("stem.train=averaged", ["per-site", "averaged"]),
        ("cipher.scheme=rot13", ["rot13", "block-pixel"]),
        ("cipher.block=0", ["'cipher.block' is 0", "at least 1"]),
        ("data.source=tape", ["tape", "dicom"]),
        ("data.views=3", ["data.views"]),
        ("data.test=1.5", ["data.test"]),
        ("data.partition.kind=random", ["random", "dirichlet"]),
        ("model.name=resnet18", ["resnet18"]),
        ("model.patch=5", ["'model.patch' is 5", "4"]),
        ("model.heads=5", ["heads"]),
        ("train.optimizer=lion", ["'optimizer' is not known", "adamw, sgd"]),
        ("train.scope=tail", ["'scope' is not known", "last-2-blocks"]),
        ("train.lr=-1", ["'lr' is out of its range", "0 or more"]),
        ("server.strategy=fedsgd", ["fedsgd", "fedavg"]),
        ("server.strategy=bulyan", ["bulyan", "4"]),
        ("device=tpu", ["tpu", "cuda"]),
        ("device=cuda:7", ["cuda:7"]),
    ],
)
def test_a_bad_setting(sim: Sim, setting: str, words: list[str]) -> None:
    refused(sim(setting), 2, *words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "required"),
        (["fly"], "fly"),
        (["run"], "needs CONFIG and --out"),
        (["run", "x.yaml"], "needs CONFIG and --out"),
        (["run", "--fast"], "--fast"),
        (["run", "nowhere.yaml", "--out", "OUT"], "nowhere.yaml: no such file"),
        (["run", "--resume", "nowhere"], "is not a run folder"),
        (["run", "x.yaml", "--resume", "nowhere"], "--resume takes no CONFIG"),
        (["run", "--resume", "nowhere", "--out", "x"], "--resume takes no --out"),
        (["run", "--resume", "nowhere", "train.lr=1"], "--resume takes no CONFIG"),
        (["run", "--resume", "nowhere", "rounds=5", "seed=1"], "--resume takes no CONFIG"),
        (["run", "--resume", "nowhere", "rounds=five"], "'rounds' is no whole number"),
        (["run", "--resume", "nowhere", "rounds=٥"], "'rounds' is no whole number"),
        (["run", "--resume", "nowhere", "rounds=5"], "is not a run folder"),
        (["run", "--resume", "nowhere", "--device", "cpu"], "--resume takes no --device"),
        (["run", "--resume", "nowhere", "--replace"], "--resume takes no --replace"),
        (["report", "nowhere"], "is not a run folder"),
        (["compare"], "needs CONFIG and --out"),
        (["attack", "covariance", "--run", "nowhere", "--stolen"], "a run takes no 'stolen'"),
    ],
)
def test_bad_usage(sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    refused(sim.command(*words), 2, says)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty.yaml"]


# -- data ------------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_missing_empty_or_no_folder(sim: Sim, tmp_path: Path) -> None:
    refused(sim(*IMAGES, f"data.path={tmp_path / 'gone'}"), 3, "gone: no such folder", "data.path")
    (tmp_path / "bare").mkdir()
    refused(sim(*IMAGES, f"data.path={tmp_path / 'bare'}"), 3, "bare: the folder is empty")
    refused(sim("data.source=dicom", f"data.path={tmp_path / 'bare'}"), 3, "bare: the folder is empty")
    assert not (tmp_path / "out" / "manifest.json").exists()
    refused(sim("data.path=/gone.npz"), 3, "/gone.npz")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    refused(sim(f"data.path={tmp_path / 'torn.npz'}"), 3, "torn.npz")
    refused(sim(*IMAGES, "data.path="), 2, "data.path: is not set")
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert sim().code == 0, "a run that was refused leaves its folder free for the next"


def test_an_unknown_label(sim: Sim, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", n=8)
    refused(sim(*IMAGES, f"data.path={folder}", "data.classes=[a, c]"), 3, "unknown label 'b'", "data.classes are a, c")
    rows = "".join(f"{path.relative_to(folder)},{path.parent.name}\n" for path in folder.glob("*/*"))
    (folder / "labels.csv").write_text(f"path,label\n{rows}")
    settings = (*IMAGES, f"data.path={folder}", "data.labels=labels.csv")
    refused(sim(*settings, "data.classes=[b, c]"), 3, "unknown label 'a'")
    (folder / "labels.csv").write_text("file,label\nx,a\n")
    refused(sim(*settings), 3, "no column 'path'")


def test_unreadable_files_are_counted_named_and_skipped_and_the_run_says_so(sim: Sim, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images")
    jpeg = folder / "a" / "02.jpg"
    jpeg.write_bytes(jpeg.read_bytes()[:150])
    (folder / "b" / "01.png").write_bytes(b"")
    (folder / "b" / "notes.txt").write_text("not an image")
    Image.fromarray(np.zeros((3, 30), np.uint8)).save(folder / "a" / "00.png")
    said = sim(*IMAGES, f"data.path={folder}", "rounds=1")
    assert said.code == 0, said.err
    assert "Traceback" not in said.err
    (line,) = [line for line in said.err.splitlines() if "left out" in line]
    assert line.startswith("4 files were left out: data set: b/notes.txt (not an image);")
    for name, reason in (("a/02.jpg", "cannot be decoded"), ("b/01.png", "is empty"), ("a/00.png", "smaller than")):
        assert name in line
        assert reason in line.partition(name)[2]
    found: dict[str, str] = {}
    for site in ("site-1", "site-2"):
        document = json.loads((tmp_path / "out" / "sites" / site / "site.json").read_text())
        found |= {each["path"]: site for each in document["skipped"]}
        assert [each["path"] for each in document["shared_skipped"]] == ["b/notes.txt"]
    assert set(found) == {"a/02.jpg", "b/01.png", "a/00.png"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "4 files were left out" in page
    assert all(name in page for name in [*found, "b/notes.txt"])
    rows = json.loads((tmp_path / "out" / "manifest.json").read_text())["sites"]
    assert sum(row["skipped"] for row in rows) == 3


def test_images_that_are_all_unreadable_or_too_small(sim: Sim, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", n=16)
    said = sim(*IMAGES, f"data.path={folder}", "cipher.block=32", "data.image_size=64", "data.channels=1")
    refused(said, 3, "2 of 2 sites cannot take part: site-1: DataError", "smaller than data.min_side 32")
    refused(sim("data.image_size=4", "cipher.block=8", out=tmp_path / "out1"), 2, "block")
    for path in folder.glob("*/*.*"):
        path.write_bytes(path.read_bytes()[:40])
    refused(sim(*IMAGES, f"data.path={folder}", out=tmp_path / "out2"), 3, "none of 16 images can be read")
    assert not list((tmp_path / "out").glob("sites/*/stores/*/"))


def test_corrupt_dicom(sim: Sim, tmp_path: Path) -> None:
    settings = (
        "data.source=phantoms",
        "data.path=",
        "data.image_size=32",
        "data.partition.kind=site",
        "data.phantoms.sites=2",
    )
    small = (
        "data.image_size=32",
        "data.phantoms.images=16",
        "data.phantoms.classes=2",
        "data.phantoms.size=32",
        "rounds=1",
    )
    assert sim(*settings, *small, out=tmp_path / "first").code == 0
    files = sorted((tmp_path / "first" / "phantoms").rglob("*.dcm"))
    assert len(files) == 32
    folder = tmp_path / "copied"
    shutil.copytree(tmp_path / "first" / "phantoms", folder)
    broken = [folder / path.relative_to(tmp_path / "first" / "phantoms") for path in files[:3]]
    broken[0].write_bytes(broken[0].read_bytes()[:-200])
    broken[1].write_bytes(b"not DICOM at all")
    dataset = pydicom.dcmread(broken[2])
    del dataset.PixelData
    dataset.save_as(broken[2])
    labels = next(iter(folder.rglob("*.csv")), None)
    given = ("data.source=dicom", f"data.path={folder}", "data.image_size=32", "rounds=1")
    more = () if labels is None else (f"data.labels={labels.relative_to(folder)}",)
    said = sim(*given, *more, out=tmp_path / "second")
    assert said.code == 0, said.err
    assert "3 files were left out" in said.err
    assert all(path.relative_to(folder).as_posix() in said.err for path in broken)


# -- folders and disks -----------------------------------------------------------------------------------------------


def test_an_output_that_cannot_be_written(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(sim(out=tmp_path / "file"), 3, "is a file where a folder is needed")
    refused(sim(out=tmp_path / "file" / "below"), 3, "is a file where a folder is needed", "move it away")
    refused(sim(out=Path("/proc/run")), 3, "/proc/run: cannot create the folder")
    log = ("--log-file", str(tmp_path / "no" / "log"))
    refused(sim(options=log), 3, "cannot open the log file")


def test_a_folder_that_holds_something(sim: Sim, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    refused(sim(), 2, "is not empty; name another folder")
    refused(sim(options=("--replace",)), 2, "is not a run folder")
    (out / "manifest.json").write_text('{"format": "another", "version": 1}')
    refused(sim(), 2, "is not empty", "--replace", "--resume")
    refused(sim(options=("--replace",)), 2, "holds something that is not a run")
    assert (out / "thesis.txt").read_text() == "years of work"


def test_what_a_killed_start_left_is_no_hindrance(sim: Sim, tmp_path: Path) -> None:
    (tmp_path / "out" / ".phantoms.x1y2.part" / "hospital-1").mkdir(parents=True)
    (tmp_path / "out" / ".run.lock").write_text("")
    with pytest.raises(ConfigError, match="ended before it began; give the command"):
        read_manifest(tmp_path / "out")
    assert sim("rounds=1").code == 0


def test_an_earlier_run_is_replaced_only_when_asked(sim: Sim, tmp_path: Path) -> None:
    assert sim("rounds=1").code == 0
    first = json.loads((tmp_path / "out" / "manifest.json").read_text())["run"]
    refused(sim("rounds=1"), 2, "is not empty")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["run"] == first
    assert sim("rounds=1", options=("--replace",)).code == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["run"] != first


HOLDER = """
import sys
from medveil.files import locked
with locked(sys.argv[1]):
    print(flush=True)
    sys.stdin.read()
"""


def test_two_processes_do_not_share_a_run_folder(sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The holder does not say that it lives, so that it is waited for.
    monkeypatch.setattr("simulations.folders.LEFT_S", 0.3)
    assert sim("rounds=1").code == 0
    holder = (
        "import sys; from medveil.files import locked\nwith locked(sys.argv[1]): print(flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "out" / ".run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        for said in (sim(options=("--replace",)), sim.resume(tmp_path / "out")):
            refused(said, 3, "is in use by another process")
    finally:
        process.communicate(b"")
    assert (tmp_path / "out" / "summary.json").is_file()


class Disk:
    """A disk of a size of our choice."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)

    def mount(self, size: str) -> None:
        self._mount(size, 0)

    def grow(self, size: str) -> None:
        self._mount(size, 32)

    def unmount(self) -> None:
        self._libc.umount2(str(self.place).encode(), 2)

    def _mount(self, size: str, flags: int) -> None:
        made = -1
        if sys.platform == "linux":
            made = self._libc.mount(b"none", str(self.place).encode(), b"tmpfs", flags, f"size={size}".encode())
        if made != 0:
            pytest.skip(f"no disk to fill: mounting one says {os.strerror(ctypes.get_errno())}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    made.place.mkdir()
    yield made
    made.unmount()


def test_a_disk_that_is_full_while_the_store_is_written(sim: Sim, disk: Disk, tmp_path: Path) -> None:
    images, labels = np.zeros((96, 128, 128), np.uint8), np.arange(96) % 2
    images[:, 0, 0] = np.arange(96)
    np.savez_compressed(tmp_path / "large.npz", images=images, labels=labels)
    disk.mount("400k")
    out = disk.place / "out"
    large = (f"data.path={tmp_path / 'large.npz'}", "cipher.block=32", "rounds=1")
    refused(sim(*large, out=out), 3, "no space left on device", "free some space")
    left = [path.name for path in (out / "sites").glob("*/stores/**/*") if path.is_file()]
    assert not [name for name in left if ".sealed" in name], "a part of a store was left behind"
    assert not list(out.glob("sites/*/stores/[!.]*"))
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["status"] in {"failed", "running"}
    # With space, the same run goes on to its end.
    disk.grow("40m")
    done = sim.resume(out)
    assert done.code == 0, done.err


@pytest.mark.parametrize("size", ["150k", "220k"])
def test_a_disk_that_fills_in_a_round_is_mended_by_space_and_resume(
    sim: Sim, disk: Disk, tmp_path: Path, size: str
) -> None:
    disk.mount(size)
    out = disk.place / "out"
    refused(sim(out=out), 3, "safetensors: cannot write the file: no space left on device")
    disk.grow("40m")
    assert sim.resume(out).code == 0
    assert sim(out=tmp_path / "whole").code == 0
    whole, mended = (checkpoints.load(run / "checkpoints" / "round-0002.json") for run in (tmp_path / "whole", out))
    assert all(np.array_equal(whole.tensors[name], mended.tensors[name]) for name in whole.tensors)


def test_a_checkpoint_that_cannot_be_written(sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoints.save

    def full(folder: Path, checkpoint: checkpoints.Checkpoint, **settings: int) -> Path:
        if checkpoint.round == 2:
            (folder / "round-0002.json").mkdir(parents=True)
        return save(folder, checkpoint, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", full)
        refused(sim("rounds=3"), 3, "round-0002.json")
    assert (tmp_path / "out" / "report.html").is_file()
    (tmp_path / "out" / "checkpoints" / "round-0002.json").rmdir()
    assert sim.resume(tmp_path / "out").code == 0


# -- keys and federation ---------------------------------------------------------------------------------------------


def test_the_wrong_key_for_a_store(sim: Sim, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images")
    settings = (*IMAGES, "data.channels=1", f"data.path={folder}", "server.max_change=1e-9")
    refused(sim(*settings), 5, "round 1", "norm")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["status"] == "failed"
    manifest["experiment"]["seed"] = manifest["run_config"]["seed"] = 1
    manifest["sites"] = []
    path.write_text(json.dumps(manifest))
    for each in folder.glob("*/*.*"):
        each.write_bytes(each.read_bytes()[:40])
    # The store was made with another key, and could not be rebuilt; but it does not come to that.
    refused(sim.resume(tmp_path / "out"), 3, "seed was 0, and is 1", "images with other contents")


def test_resuming_with_a_changed_data_set_or_no_run(sim: Sim, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", n=16)
    settings = (*IMAGES, f"data.path={folder}", "server.max_change=1e-9")
    refused(sim(*settings), 5, "norm")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(image_folder(folder / "c", n=1).parent / "c" / "x.png")
    shutil.rmtree(folder / "c" / "a")
    said = sim.resume(tmp_path / "out")
    refused(said, 3, "unknown label 'c'")
    (tmp_path / "out" / "manifest.json").write_text("{")
    refused(sim.resume(tmp_path / "out"), 3, "not a whole JSON document")


def test_a_run_does_not_go_on_over_other_images(sim: Sim, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", n=24)
    refused(sim(*IMAGES, f"data.path={folder}", "server.max_change=1e-9"), 5, "norm")
    Image.fromarray(np.full((20, 20), 7, np.uint8)).save(folder / "a" / "new.png")
    _simulated_site.cache_clear()
    refused(sim.resume(tmp_path / "out"), 3, "changed since the run began (1 image came)")


def test_a_site_left_out_of_a_round_ends_the_run_in_part(
    sim: Sim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = work.train

    def fails_once(site: Site, round_: int, *words: Any, **named: Any) -> Any:
        if site.setup.name == "site-2" and round_ == 1:
            raise DataError("a disk that gave up")
        return trained(site, round_, *words, **named)

    monkeypatch.setattr(work, "train", fails_once)
    said = sim("rounds=2")
    assert said.code == 6, said.err
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["status"] == "finished"


def test_the_installed_program_says_the_same(tmp_path: Path, tiny_settings: list[str]) -> None:
    (tmp_path / "bad.yaml").write_text("sits: 3\n")
    done = subprocess.run(
        [PROGRAM, "run", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: {tmp_path / 'bad.yaml'}: unknown key 'sits'; did you mean 'sites'?\n"
