"""Pre-training and no pre-training side by side, for equal minutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import at_once
import pytest
import torch

from fl_server.summary import read_summary
from medveil.config import load_config, to_mapping
from medveil.errors import ConfigError
from medveil.pretraining import MASKED
from medveil.recipes import overridden
from simulations import pays as paying
from simulations import side_by_side
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.pays import ALONE, PIECES, Trunk, pays, trunk_of

Tiny = Callable[..., ExperimentConfig]
SIZES = ("rounds=1", "model.depth=1", "data.image_size=16", "data.channels=1")


@pytest.fixture(autouse=True)
def at_once_and_without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    for module in (side_by_side, paying):
        monkeypatch.setattr(module, "run_tied", at_once.run_tied)
    monkeypatch.setattr("simulations.statistics.add_intervals", lambda _: None)
    monkeypatch.setattr("simulations.cli.report_of", lambda run: run)


def test_what_is_trained_from_a_trunk_beside_what_is_not(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = tiny(*SIZES, "train.minutes=0.002"), tmp_path / "pays"
    made = pays(config, out, command="typed")
    assert [row["switch"] for row in made.rows] == [ALONE, MASKED]
    assert made.exit_code == 0
    assert made.rows[1]["accuracy_gained"] == made.rows[1]["accuracy"] - made.rows[0]["accuracy"]
    # What pre-training cost is in the arm's time.
    runs = (out / "trunks" / f"{MASKED}-seed-0.run", out / MASKED / "seed-0")
    spent = [read_summary(run / "summary.json")["cpu_seconds"]["all"] for run in runs]
    assert made.rows[1]["cpu_seconds"] == pytest.approx(sum(spent))
    # For the same minutes, by the recipes, in one place and with nothing hidden.
    before, tuned, alone = (
        load_config(ExperimentConfig, out / each)
        for each in (f"trunks/{MASKED}-seed-0.yaml", f"{MASKED}/seed-0.yaml", "no-pre-training/seed-0.yaml")
    )
    assert before.train.minutes + tuned.train.minutes == pytest.approx(alone.train.minutes) == 0.002
    assert (before.rounds, before.federation, before.task) == (PIECES, "centralised", MASKED)
    assert {each.keys.policy for each in (before, tuned, alone)} == {"none"}
    assert overridden("fine-tune", to_mapping(tuned)) == overridden("small-data", to_mapping(alone)) == []
    assert tuned.data == alone.data
    # Again, nothing is trained twice; under other settings nothing is taken for these.
    for module in (side_by_side, paying):
        monkeypatch.setattr(module, "run_tied", lambda *_, **__: pytest.fail("something was trained again"))
    assert pays(config, out).rows == made.rows
    with pytest.raises(ConfigError, match="was pre-trained under other settings"):
        pays(tiny(*SIZES, "train.minutes=0.004"), out)


def test_a_trunk_is_of_other_images_at_the_sizes_of_the_experiment(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "drawn.yaml").write_text("data: {source: formula, image_size: 64, test: 0}\n")
    trunk = trunk_of(f"supervised:{tmp_path / 'drawn.yaml'}")
    assert trunk.name == "supervised on drawn"
    own = paying._Paying(tiny(*SIZES, "train.minutes=1"), tmp_path, (trunk,), 1.0, 0.25)
    before, tuned = own._before(trunk, 3), own._tuned(trunk, 3)
    assert (before.data.source, before.data.image_size, before.data.channels, before.seed) == ("formula", 16, 1, 3)
    assert before.task == "single-label"
    assert before.model.width == tuned.model.width == 24
    assert (before.train.minutes, tuned.train.minutes) == (0.25, 0.75)
    assert tuned.model.pretrained == str(tmp_path / "trunks" / "supervised-on-drawn-seed-3.safetensors")
    assert tuned.data.source == "npz"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "train.minutes: is 0: time is what is held equal"),
        (("train.minutes=1", "--share", "1"), "--share: is 1; above 0 and below 1"),
        (("train.minutes=1", "--trunk", "mae"), "--trunk: is 'mae'; masked-autoencoding or supervised"),
        (("train.minutes=1", "--trunk", "supervised", "--trunk", "supervised"), "names no trunk, or a trunk twice"),
        (("train.minutes=1", "--trunk", "supervised:nowhere.yaml"), "nowhere.yaml: no such file"),
        (("train.minutes=1", "task=masked-autoencoding"), "pays, task: is masked-autoencoding"),
        (("train.minutes=1", "train.scope=bias"), "train.scope: is bias; full: all of it is pre-trained"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_trained(
    tiny_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    (tmp_path / "empty.yaml").write_text("")
    command = ["pays", str(tmp_path / "empty.yaml"), *tiny_settings, "rounds=1", *words]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out" / "trunks").exists()


def test_the_trunk_of_no_file_is_of_the_experiments_own_images() -> None:
    assert trunk_of("masked-autoencoding") == Trunk() == Trunk(MASKED, None)
