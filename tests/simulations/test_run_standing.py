"""A simulation goes on, or is used again, over what it began with only: labels, groups, images, weights, classes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import at_once
import pytest
import torch
from labelled_trees import put
from older_store import write_open_header
from safetensors.torch import save_file

from crypto.keys import SimulatedKey
from fl_client.data import contents
from fl_client.data.store_files import StoreSeal, read_header
from fl_client.simulated_host import _simulated_site, simulated_site
from fl_server.manifest import Manifest
from medveil.config import from_mapping
from medveil.errors import BasisError
from models.config import ModelConfig
from models.vit import build_vit
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.plan import make_plan
from simulations.standing import weights_digest

NAMES = [f"i{n:02d}.png" for n in range(32)]


def write(folder: Path, *, flipped: int = 0, patients: int = 16) -> None:
    rows = [(name, "ab"[(n + (n < flipped)) % 2], f"p{n % patients}", "") for n, name in enumerate(NAMES)]
    lines = [",".join(row) for row in [("path", "label", "patient", "note"), *rows]]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def weights(path: Path, seed: int) -> None:
    model = build_vit(ModelConfig(image_size=16, patch=4, channels=1, classes=2, width=24, depth=2, heads=2), seed=seed)
    save_file(model.state_dict(), path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_settings: list[str]) -> Path:
    """Images and weights, a run over them that ended in its first round, and a comparison that finished."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("standing")
    put(root / "images", *NAMES)
    restored(root)
    (root / "empty.yaml").write_text("")
    stopped = ["rounds=2", "server.max_change=1e-9", f"model.pretrained={root / 'w.safetensors'}"]
    assert main(["run", *given(root, tiny_settings), *stopped, "--out", str(root / "out")]) == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulations.side_by_side.run_tied", at_once.run_tied)
        assert main(["compare", *given(root, tiny_settings), *ARMS, "--out", str(root / "compared")]) == 0
    return root


ARMS = ("rounds=1", "compare.arms=[plain]")


def given(root: Path, settings: list[str]) -> list[str]:
    data = [
        "data.source=images",
        f"data.path={root / 'images'}",
        "data.labels=labels.csv",
        "data.group_by=patient",
        "data.image_size=16",
    ]
    return [str(root / "empty.yaml"), *settings, *data]


def restored(root: Path) -> None:
    put(root / "images", *NAMES)
    write(root / "images")
    weights(root / "w.safetensors", 1)
    (root / "images" / "z.png").unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def fresh(world: Path) -> None:
    restored(world)
    contents._seen.clear()
    _simulated_site.cache_clear()


def replaced(root: Path) -> None:
    path = root / "images" / NAMES[5]
    before, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def relabelled(root: Path) -> None:
    write(root / "images", flipped=16)


CHANGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("labels", relabelled, "the labels changed since {} (labels of 16 images)"),
    ("groups", lambda root: write(root / "images", patients=8), "the groups changed since {} (groups of 16 images)"),
    ("contents", replaced, "the images changed since {} (1 image with other contents)"),
    ("weights", lambda root: weights(root / "w.safetensors", 2), "the weights file changed since {}"),
]


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_resuming_over_something_else(
    world: Path, change: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (world / "out" / "metrics.jsonl").read_bytes()
    change(world)
    assert main(["run", "--resume", str(world / "out")]) == BasisError.exit_code
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("error:")]
    assert words.format("the run began") in line
    assert "put back what it began with" in line
    assert (world / "out" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_no_engine_goes_on_over_something_else(
    world: Path, change: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Nothing of Flower is even started; what it ran is what the default engine runs."""
    out = shutil.copytree(world / "out", tmp_path / "out")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["experiment"]["engine"] = "flower"
    (out / "manifest.json").write_text(json.dumps(manifest))
    change(world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulations.engines.flower.run_flower", lambda *_, **__: pytest.fail("it was started"))
        assert main(["run", "--resume", str(out)]) == BasisError.exit_code
    assert words.format("the run began") in capsys.readouterr().err


def test_a_site_that_flower_itself_opens_refuses_as_well(world: Path) -> None:
    """As under `flwr run .`, where no command of ours looks first: each site compares what it wrote down."""
    manifest = json.loads((world / "out" / "manifest.json").read_text())
    config = from_mapping(ExperimentConfig, manifest["experiment"], where="manifest")
    plan = make_plan(config, world / "out", run=manifest["run"])
    for index in range(plan.sites.sites):
        simulated_site(plan.run, plan.sites, index).images.basis.hold()
    for change in (relabelled, replaced):
        restored(world)
        change(world)
        # Another process of Flower's.
        _simulated_site.cache_clear()
        contents._seen.clear()
        with pytest.raises(BasisError, match=r"site-.: the .* changed since the run began"):
            _ = [simulated_site(plan.run, plan.sites, index) for index in range(plan.sites.sites)]


def test_the_manifest_names_each_part(world: Path) -> None:
    basis = json.loads((world / "out" / "manifest.json").read_text())["basis"]
    assert set(basis) >= {"images", "labels", "groups", "class order", "split", "settings", "weights file"}
    assert "initial weights" in basis
    table = json.loads((world / "compared" / "compare.json").read_text())
    arm = json.loads((world / "compared" / "plain" / "seed-0" / "manifest.json").read_text())["basis"]
    assert len(arm["split at sites"]) == 64
    assert table["basis"] == {name: arm[name] for name in ("class order", "images", "labels", "groups")}


def test_comparing_over_something_else(
    world: Path, tiny_settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", *given(world, tiny_settings), *ARMS, "--out", str(world / "compared")]
    before = (world / "compared" / "compare.json").read_bytes()
    write(world / "images", flipped=16)
    assert main(command) == BasisError.exit_code
    said = capsys.readouterr().err
    assert "the labels changed since it ran (labels of 16 images)" in said
    assert "compare into another folder" in said
    assert "kept" not in said
    assert (world / "compared" / "compare.json").read_bytes() == before
    write(world / "images")
    assert main(command) == 0
    assert "plain seed 0: kept" in capsys.readouterr().err


def test_comparing_a_run_of_an_older_medveil(
    world: Path, tmp_path: Path, tiny_settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world / "compared", tmp_path / "compared")
    run = tmp_path / "compared" / "plain" / "seed-0"
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["basis"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    # Put back by `restored`, the files are as they were but for their times, which are all an older run knew.
    for site in run.glob("sites/*"):
        described = json.loads((site / "site.json").read_text())
        described["source"] = _source(world)
        (site / "site.json").write_text(json.dumps(described))
        for place in (each for each in site.glob("stores/*") if each.is_dir()):
            header = read_header(place, StoreSeal.of(SimulatedKey(0, site.name)))
            write_open_header(place, {"format": "medveil-store", "version": 1, **header})
    command = ["compare", *given(world, tiny_settings), *ARMS, "--out", str(tmp_path / "compared")]
    assert main(command) == 0
    assert "plain seed 0: an older MedVeil ran it" in capsys.readouterr().err
    rows = (world / "images" / "labels.csv").read_text().replace("i00.png,a", "i00.png,b")
    (world / "images" / "labels.csv").write_text(rows)
    assert main(command) == BasisError.exit_code
    assert "not those of its stores" in capsys.readouterr().err


def _source(world: Path) -> str:
    from fl_client.data.config import DataConfig  # noqa: PLC0415
    from fl_client.data.source import open_source  # noqa: PLC0415

    # The experiment's `min_side` is at least its block, 4, and stays as it was.
    config = DataConfig(
        source="images", path=str(world / "images"), labels="labels.csv", group_by="patient", image_size=16
    )
    return open_source(config).identity()


def test_the_server_names_other_initial_weights(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.document = {"resumed": []}
    manifest.stand_on({"labels": "1", "initial weights": "2"})
    manifest.document["resumed"] = ["now"]
    manifest.stand_on({"initial weights": "2"})
    with pytest.raises(BasisError, match="the initial weights changed since the run began") as refused:
        manifest.stand_on({"labels": "1", "initial weights": "3"})
    assert refused.value.parts == ("initial weights",)


def test_weights_in_a_folder_are_known_by_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "model.safetensors").write_bytes(b"one")
    first = weights_digest(str(tmp_path / "w"))
    assert weights_digest(f"local-dir:{tmp_path / 'w'}") == first
    (tmp_path / "w" / "config.json").write_bytes(b"{}")
    assert weights_digest(str(tmp_path / "w")) != first
    assert weights_digest("false") is None
