"""A comparison gone on with from the records of its finished runs, in another place and over the same images."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import at_once
import pytest
import torch

from medveil.config import to_mapping
from medveil.errors import ConfigError, FormatError, IntegrityError, MedVeilError, StorageError
from medveil.files import write_text
from simulations import side_by_side
from simulations.ablation import ablate
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.folders import TAKEN
from simulations.results import pack, take
from simulations.results_file import Record, Results, write_results
from simulations.side_by_side import Job
from simulations.standing import Comparable

ARMS = "fedper, per-site-adapted"
RUN = "plain/seed-0"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_settings: list[str]) -> Path:
    """Two arms that finished, packed, and the images in another place."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("results")
    shutil.copy(tiny_settings[-1].removeprefix("data.path="), root / "moved.npz")
    (root / "empty.yaml").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        cheap(patch)
        assert compare(root, tiny_settings, ARMS, "here")[0] == 0
    assert main(["pack", str(root / "here"), "--out", str(root / "results.zip")]) == 0
    return root


@pytest.fixture(scope="module")
def there(world: Path, elsewhere: list[str]) -> str:
    """What was said as the comparison went on in another folder, with one arm more."""
    with pytest.MonkeyPatch.context() as patch:
        cheap(patch)
        words = ("--results", str(world / "results.zip"))
        code, said = compare(world, elsewhere, f"{ARMS}, nearest-neighbour", "there", *words)
    assert code == 0
    return said


def cheap(patch: pytest.MonkeyPatch) -> None:
    """Runs in this process; the intervals and pages of so small a run take longer than itself."""
    patch.setattr(side_by_side, "run_tied", at_once.run_tied)
    patch.setattr("simulations.statistics.add_intervals", lambda _: None)
    patch.setattr("simulations.cli.report_of", lambda run: write_text(run / "report.html", "") or run)


@pytest.fixture(scope="module")
def elsewhere(tiny_settings: list[str], world: Path) -> list[str]:
    return [*tiny_settings[:-1], f"data.path={world / 'moved.npz'}"]


def compare(root: Path, settings: list[str], arms: str, out: str, *words: str) -> tuple[int, str]:
    said = io.StringIO()
    command = ["compare", str(root / "empty.yaml"), *settings, "rounds=1", "model.depth=1", f"compare.arms=[{arms}]"]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*command, *words, "--out", str(root / out)])
    return code, said.getvalue()


def table(folder: Path) -> list[dict[str, Any]]:
    arms = json.loads((folder / "compare.json").read_text())["arms"]
    return [{name: value for name, value in arm.items() if name not in ("runs", "beside_baselines")} for arm in arms]


def test_a_later_sitting_runs_only_what_is_missing(world: Path, there: str) -> None:
    results = world / "results.zip"
    assert f"{results}: 2 finished runs taken up\n" in there
    assert [line for line in there.splitlines() if line.endswith((": kept", ": begins"))] == [
        "fedper seed 0: kept",
        "per-site-adapted seed 0: kept",
        "nearest-neighbour seed 0: begins",
    ]
    # Every figure of the two: scores and their intervals, the twins' test, thief, processor time, bytes, commits.
    assert table(world / "there")[:2] == table(world / "here")
    document = json.loads((world / "there" / "compare.json").read_text())
    assert document["commits"] == json.loads((world / "here" / "compare.json").read_text())["commits"]
    assert [pair["seeds"] for pair in document["arms"][0]["beside_baselines"]] == [[0]]
    taken = world / "there" / "fedper" / "seed-0"
    assert (taken / "report.html").is_file()
    # It is small: neither weights, nor stems, nor images.
    assert {path.suffix for path in taken.rglob("*") if path.is_file()} <= {".json", ".jsonl", ".npz", ".html"}
    # From there it goes on to a third place, and the same records are the same bytes.
    assert main(["pack", str(world / "there"), "--out", str(world / "again.zip")]) == 0
    again, first = Results(world / "again.zip"), Results(results)
    assert set(again.settings) == {*first.settings, "nearest-neighbour/seed-0"}
    assert all(again.files(run) == first.files(run) for run in first.settings)


@pytest.mark.usefixtures("there")
def test_a_run_that_was_taken_up_has_no_model_to_go_on_with(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = world / "there" / "fedper" / "seed-0"
    assert json.loads((run / TAKEN).read_text())["from"] == "results.zip"
    for command in (["run", "--resume", str(run), "rounds=3"], ["export", str(run), str(world / "model")]):
        capsys.readouterr()
        assert main(command) == ConfigError.exit_code
        assert "taken from a file of results, and no model" in capsys.readouterr().err


def of_other_settings(root: Path, settings: list[str]) -> list[str]:
    return [*settings, "train.lr=0.02", "train.clip=2"]


def of_other_labels(root: Path, settings: list[str]) -> list[str]:
    import numpy as np  # noqa: PLC0415

    with np.load(root / "moved.npz") as found:
        np.savez(root / "other.npz", **{**found, "labels": 1 - found["labels"]})
    return [*settings, f"data.path={root / 'other.npz'}"]


@pytest.mark.parametrize(
    ("changed", "code", "why"),
    [
        (of_other_settings, 2, "ran with train.lr=0.001, and here it is 0.02, and 1 more differ"),
        (of_other_labels, 3, "the labels changed since it ran"),
    ],
)
def test_what_ran_under_or_over_something_else_is_refused_before_anything_runs(
    world: Path, elsewhere: list[str], changed: Callable[[Path, list[str]], list[str]], code: int, why: str
) -> None:
    own, words = changed(world, elsewhere), ("--results", str(world / "results.zip"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "run_tied", lambda *_, **__: pytest.fail("a run was begun"))
        ended, said = compare(world, own, f"{ARMS}, plain", changed.__name__, *words)
    assert ended == code
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert f"{world / 'results.zip'}, fedper/seed-0: " in line
    assert why in line
    assert not any((world / changed.__name__).glob("*/*"))


def test_runs_of_another_release_are_refused_and_of_another_commit_told(
    world: Path, tiny: Callable[..., ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simulations.arms import as_experiment, find_arm  # noqa: PLC0415

    config = tiny("rounds=1", "model.depth=1", f"data.path={world / 'moved.npz'}")
    experiment = as_experiment(config, find_arm("fedper"), 0)
    job = Job("fedper seed 0", experiment, tmp_path / "fedper" / "seed-0")
    with monkeypatch.context() as patch:
        patch.setattr("simulations.results.medveil_version", lambda: "99.0")
        with pytest.raises(ConfigError, match=r"made it, and this is 99\.0"):
            take([job], [world / "results.zip"], Comparable())
    monkeypatch.setattr("simulations.results.commit", lambda: "0" * 40)
    monkeypatch.setattr("simulations.results.environment", lambda: {**dict.fromkeys(_packages(), "99.0")})
    first, told = take([job], [world / "results.zip"], Comparable())
    assert first.endswith("1 finished runs taken up; 1 of other arms or seeds left there")
    assert "made by " in told
    assert "(here 99.0): what differs from this program is in the tables too" in told
    assert job.is_kept
    assert take([job], [world / "results.zip"], Comparable())[0].count("0 finished runs taken up") == 1


def _packages() -> tuple[str, ...]:
    from medveil.versions import PACKAGES  # noqa: PLC0415

    return PACKAGES


def test_an_ablation_goes_on_as_well(
    tiny: Callable[..., ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheap(monkeypatch)
    monkeypatch.setattr("simulations.report.page.write_report", lambda run: run)
    config = tiny("rounds=1", "model.depth=1")
    rows = ablate(config, tmp_path / "here", switches=["ema"]).rows
    packed = pack(tmp_path / "here", tmp_path / "results.zip")
    assert packed == (["as-it-is/seed-0", "ema/seed-0"], [], [])
    monkeypatch.setattr(side_by_side, "run_tied", lambda *_, **__: pytest.fail("a run was made again"))
    made = ablate(config, tmp_path / "there", switches=["ema"], results=[tmp_path / "results.zip"])
    assert made.rows == rows


def test_a_folder_without_finished_runs_is_not_packed_and_nothing_else_replaced(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="holds no finished run"):
        pack(tmp_path, tmp_path / "results.zip")
    (tmp_path / "notes.zip").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="is there already, and is no file of results"):
        pack(world / "here", tmp_path / "notes.zip")
    assert (tmp_path / "notes.zip").read_bytes() == b"mine"
    # One that is still running, or failed, is left out and named.
    shutil.copytree(world / "here", tmp_path / "half", ignore=shutil.ignore_patterns("checkpoints", "stores"))
    manifest = tmp_path / "half" / "fedper" / "seed-0" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"finished"', '"running"'))
    packing = ["pack", str(tmp_path / "half"), "--out", str(tmp_path / "half.zip")]
    assert main(packing) == 0
    assert "holds the records of 1 runs; not finished: fedper/seed-0" in capsys.readouterr().out
    assert main([*packing, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (len(found["packed"]), found["unfinished"], found["unnamed"]) == (1, ["fedper/seed-0"], [])


# -- files that others made --------------------------------------------------------------------------------------------


def packed(path: Path, files: dict[str, bytes], **claims: Any) -> Path:
    """A file of results as `write_results` makes it, but for what it claims of its files."""
    write_results(path, {RUN: Record({}, {"summary.json": b"{}"})})
    with zipfile.ZipFile(path) as archive:
        index = json.loads(archive.read("results.json"))
    listed = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), **claims} for name, data in files.items()
    }
    index["runs"][RUN]["files"] = listed
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.json", json.dumps(index))
        for name, data in files.items():
            archive.writestr(f"{RUN}/{name}", data)
    return path


def index_alone(path: Path, text: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("results.json", text)
    return path


def of_run(name: str) -> str:
    runs = {name: {"settings": {}, "files": {}}}
    return json.dumps({"format": "medveil-results", "version": 1, "medveil": "1", "runs": runs})


def cut(path: Path) -> Path:
    whole = packed(path, {"summary.json": b"{}" * 500}).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + whole[-200:])
    return path


def swollen(path: Path) -> Path:
    """An entry whose header says less than comes out of it."""
    packed(path, {"summary.json": b"0" * 2**20}, size=10)
    data = bytearray(path.read_bytes())
    for sign, at in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = data.rindex(sign)
        data[place + at : place + at + 4] = struct.pack("<I", 10)
    path.write_bytes(bytes(data))
    return path


def with_more(path: Path, names: list[str]) -> Path:
    """A file with members that its index does not list."""
    packed(path, {"summary.json": b"{}"})
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        for name in names:
            archive.writestr(name, b"")
    return path


@pytest.mark.parametrize(
    ("made", "kind", "why"),
    [
        (lambda path: path, StorageError, "no such file"),
        (lambda path: path.mkdir() or path, FormatError, "is no file of results"),
        (lambda path: path.write_bytes(b"PK") and path, FormatError, "is no file of results"),
        (lambda path: index_alone(path, "[" * 10_000), FormatError, "nested deeper"),
        (lambda path: index_alone(path, '{"format": "other"}'), FormatError, "is no file of results"),
        (lambda path: index_alone(path, of_run(RUN).replace(": 1", ": 9")), FormatError, "reads up to 1"),
        (lambda path: index_alone(path, of_run(RUN).replace("{}", "0")), IntegrityError, "field 'runs"),
        (lambda path: index_alone(path, of_run("../seed-0")), IntegrityError, "is no record of a run"),
        (lambda path: packed(path, {"../../evil": b""}), IntegrityError, "is no record of a run"),
        (lambda path: packed(path, {"sites/site-1/stems/x": b""}), IntegrityError, "is no record of a run"),
        (lambda path: packed(path, {"summary.json": b"{}"}, size=2**40), IntegrityError, "claims more"),
        (lambda path: packed(path, {"summary.json": b"{}"}, size=-1), IntegrityError, "claims more"),
        (lambda path: packed(path, {"summary.json": b"{}"}, size=1), IntegrityError, "larger than it may be"),
        (lambda path: packed(path, {"summary.json": b"{}"}, sha256="0"), IntegrityError, "not what was packed"),
        (lambda path: with_more(path, ["notes.txt"]), IntegrityError, "holds 3 files, and lists 2"),
        (lambda path: with_more(path, [f"{RUN}/summary.json"]), IntegrityError, "'plain/seed-0/summary.json' twice"),
        (lambda path: with_more(path, [str(i) for i in range(2**16)]), IntegrityError, "more than the 65536"),
        (swollen, IntegrityError, "not what was packed|damaged"),
        (cut, IntegrityError, "damaged"),
    ],
)
def test_a_file_that_others_made_is_refused_in_a_line(
    tmp_path: Path, made: Callable[[Path], Path], kind: type[MedVeilError], why: str
) -> None:
    path = made(tmp_path / "results.zip")
    with pytest.raises(kind, match=why) as refused:
        Results(path).files(RUN)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("manifest.json", b"{}", "is not a medveil-manifest file"),
        ("metrics.jsonl", b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper"),
        ("summary.json", b"[]", "summary"),
        ("sites/site-1/predictions.npz", b"no archive", "is not a whole file of predictions"),
    ],
)
def test_records_that_no_run_wrote_are_refused(world: Path, tmp_path: Path, name: str, data: bytes, why: str) -> None:
    job = Job("fedper seed 0", ExperimentConfig(), tmp_path / "fedper" / "seed-0")
    files = Results(world / "results.zip").files("fedper/seed-0")
    write_results(tmp_path / "r.zip", {"fedper/seed-0": Record(to_mapping(job.experiment), {**files, name: data})})
    with pytest.raises(IntegrityError, match=f"is no whole record of a run: .*{why}"):
        take([job], [tmp_path / "r.zip"], Comparable())
    assert not job.folder.exists()


def test_predictions_that_unpack_to_much_are_refused(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulations.results._LARGEST_ARRAYS", 10)
    job = Job("fedper seed 0", ExperimentConfig(), tmp_path / "fedper" / "seed-0")
    records = {
        "fedper/seed-0": Record(to_mapping(job.experiment), Results(world / "results.zip").files("fedper/seed-0"))
    }
    write_results(tmp_path / "r.zip", records)
    with pytest.raises(IntegrityError, match="is not a whole file of predictions"):
        take([job], [tmp_path / "r.zip"], Comparable())


def test_a_run_that_no_file_of_results_can_name_is_told(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(world / "here" / "fedper", folder / "fedper")
    shutil.copytree(world / "here" / "fedper", folder / "my_arm")
    assert main(["pack", str(folder), "--out", str(tmp_path / "r.zip")]) == 0
    said = capsys.readouterr()
    assert "my_arm/seed-0" in (said.out + said.err).splitlines()[1]
    assert list(Results(tmp_path / "r.zip").settings) == ["fedper/seed-0"]
