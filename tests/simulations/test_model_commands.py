"""Using what `medveil-sim` trained: `export` and `predict` on run folders."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fl_client.export.held import MODELS
from medveil.config import from_mapping, load_config
from medveil.errors import ConfigError
from models.rollout import rollout
from models.vit import normalise
from simulations.asked_models import timm_model
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.folders import read_manifest
from simulations.looked import write_looked
from simulations.plan import make_plan
from simulations.predictions import load_predictions
from simulations.run import run_experiment

POLICIES = {
    "default": [],
    "plain": ["keys.policy=none", "predict.views=3", "predict.augment=medium"],
    "alone": ["federation=local-only", "keys.policy=none", "stem.init=public", "stem.train=averaged"],
    "secret": ["keys.policy=per-site", "stem.init=secret", "stem.train=local"],
    "shared": ["keys.policy=shared"],
    "light": ["train.scope=lora-core", "train.rank=4"],
}
EXPORTED = ["default", "plain", "alone", "light"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_settings: list[str]) -> dict[str, Path]:
    """A finished run of each policy."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    for name, settings in POLICIES.items():
        config = load_config(ExperimentConfig, None, [*tiny_settings, "rounds=1", *settings])
        run_experiment(config, folder / name, progress=False)
    return {name: folder / name for name in POLICIES}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("asked"), np.random.default_rng(5)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


def predicted(model: Path, asked: Path, out: Path, *more: str) -> np.ndarray:
    assert main(["predict", str(model), str(asked), "--out", str(out), *more]) == 0
    with out.open() as stream:
        head, *rows = csv.reader(stream)
    assert head[0] == "image"
    assert head[-1] == "class"
    return np.array([row[1:-1] for row in rows], dtype=float)


@pytest.mark.parametrize("policy", EXPORTED)
def test_an_export_answers_as_the_run_it_came_of(
    runs: dict[str, Path], asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    run, out = runs[policy], tmp_path / "model"
    of_run = predicted(run, asked, tmp_path / "run.csv")
    assert "3 images, by the model of site-1 after round 1" in capsys.readouterr().out
    assert main(["export", str(run), str(out)]) == 0
    assert f"{out} holds the model of site-1 after round 1 of tiny, for plain images" in capsys.readouterr().out
    np.testing.assert_allclose(predicted(out, asked, tmp_path / "export.csv"), of_run, atol=2e-6)
    assert of_run.shape == (3, 2)
    of_views = [predicted(each, asked, tmp_path / "views.csv", "--views", "4") for each in (run, out)]
    np.testing.assert_allclose(*of_views, atol=2e-6)
    assert np.abs(of_views[0] - of_run).max() > 1e-5
    capsys.readouterr()
    assert main(["predict", str(out), str(asked), "--out", str(tmp_path / "none.csv"), "--views", "0"]) == 2
    assert "'views' is out of its range; 1 to 64" in capsys.readouterr().err
    card = (out / "MODEL_CARD.md").read_text()
    assert "2, simulated on one machine" in card
    assert "as the server promised" not in card


def test_an_export_is_asked_about_as_many_views_as_its_run_was_measured_with(
    runs: dict[str, Path], asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(runs["plain"]), str(tmp_path / "model")]) == 0
    found = predicted(tmp_path / "model", asked, tmp_path / "as-measured.csv")
    assert ", each the mean of 3 views at level medium" in capsys.readouterr().out
    told = ("--views", "3", "--view-level", "medium")
    np.testing.assert_array_equal(found, predicted(runs["plain"], asked, tmp_path / "told.csv", *told))
    alone = predicted(tmp_path / "model", asked, tmp_path / "alone.csv", "--views", "1")
    assert np.abs(alone - found).max() > 1e-5
    assert "and `predict` asks so" in (tmp_path / "model" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("policy", ["default", "light"])
def test_the_lines_of_its_card_load_it_in_timm(
    runs: dict[str, Path], asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    assert main(["export", str(runs[policy]), str(tmp_path / "model"), "--site", "site-2"]) == 0
    wanted = predicted(tmp_path / "model", asked, tmp_path / "export.csv")
    (lines,) = re.findall(r"```python\n(.*?)```", (tmp_path / "model" / "MODEL_CARD.md").read_text(), re.DOTALL)
    assert len(lines.splitlines()) == 3
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted(asked.iterdir())])
    names = {"pixels": torch.from_numpy(pixels[:, None].astype(np.float32))}
    monkeypatch.chdir(tmp_path / "model")
    exec(lines, names)
    np.testing.assert_allclose(names["p"].detach().numpy(), wanted, atol=2e-6)


@pytest.mark.parametrize(("policy", "scope"), [("plain", "full"), ("light", "lora-core")])
def test_an_export_begins_another_run_by_its_folder(
    runs: dict[str, Path], tmp_path: Path, tiny_settings: list[str], policy: str, scope: str
) -> None:
    assert main(["export", str(runs[policy]), str(tmp_path / "warm")]) == 0
    still = ["rounds=1", "train.lr=1e-12", "keys.policy=none", f"model.pretrained={tmp_path / 'warm'}"]
    still.append(f"train.scope={scope}")
    run_experiment(load_config(ExperimentConfig, None, [*tiny_settings, *still]), tmp_path / "next", progress=False)
    assert main(["export", str(tmp_path / "next"), str(tmp_path / "after")]) == 0
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("warm", "after"))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-6, rtol=1e-5)


def test_the_default_folder_is_in_the_run_and_is_never_written_over(
    runs: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(runs["default"])]) == 0
    assert (runs["default"] / "model" / "config.json").is_file()
    assert main(["export", str(runs["default"])]) == 2
    assert "model: is there already; choose a new folder" in capsys.readouterr().err


def test_sites_of_a_run_answer_each_with_its_own_stem(runs: dict[str, Path], asked: Path, tmp_path: Path) -> None:
    first, second = (predicted(runs["default"], asked, tmp_path / "p.csv", "--site", f"site-{n}") for n in (1, 2))
    assert np.abs(first - second).max() > 1e-5
    again = predicted(runs["default"], asked, tmp_path / "p.csv", "--site", "site-1")
    np.testing.assert_array_equal(first, again)
    alone = [predicted(runs["alone"], asked, tmp_path / "p.csv", "--site", f"site-{n}") for n in (1, 2)]
    assert np.abs(alone[0] - alone[1]).max() > 1e-5


@pytest.mark.parametrize("policy", ["secret", "shared"])
def test_what_no_export_may_lay_open_still_answers_here(
    runs: dict[str, Path], asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    assert main(["export", str(runs[policy]), str(tmp_path / "model")]) == 2
    said = capsys.readouterr().err
    assert f"'medveil-sim predict {runs[policy]} IMAGES --out FILE' asks it here" in said
    assert "--hidden" not in said
    assert not (tmp_path / "model").exists()
    assert predicted(runs[policy], asked, tmp_path / "p.csv").shape == (3, 2)


def test_the_images_are_needed_once(
    runs: dict[str, Path], asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = predicted(runs["default"], asked, tmp_path / "p.csv")
    assert list((runs["default"] / "sites" / "site-1" / MODELS).iterdir())
    monkeypatch.setattr("simulations.site_models.make_plan", None)
    np.testing.assert_array_equal(predicted(runs["default"], asked, tmp_path / "p.csv"), first)


@pytest.fixture
def places(runs: dict[str, Path], asked: Path, tmp_path: Path) -> dict[str, Path]:
    return {"none": tmp_path / "none", "asked": asked, "run": runs["default"]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export", "{none}"], "is not a run folder"),
        (["predict", "{none}", "{asked}", "--out", "{none}/p.csv"], "is not a run folder"),
        (["predict", "{run}", "{none}", "--out", "{none}.csv"], "no such file or folder"),
        (["export", "{run}", "{none}", "--site", "site-9"], "no site is called 'site-9'; one of site-1, site-2"),
    ],
)
def test_what_cannot_be_used_is_named(
    places: dict[str, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main([each.format(**places) for each in arguments]) == 2
    assert says in capsys.readouterr().err
    assert not places["none"].exists()


@pytest.mark.parametrize("words", [["export", "none"], ["predict", "none", ".", "--out", "p.csv"]])
def test_what_is_no_run_is_refused_before_torch_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for heavy in ("fl_client.export.asking", "fl_client.export.ready", "fl_client.export.write"):
        monkeypatch.setitem(sys.modules, heavy, None)
    assert main(words) == 2
    assert "none: is not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["default", "plain", "shared", "secret", "light"])
def test_the_report_shows_hits_and_misses_as_they_were_answered(
    runs: dict[str, Path], tiny_npz: Path, policy: str
) -> None:
    looked = dict(np.load(runs[policy] / "looked.npz"))
    assert str(looked["refused"]) == ""
    assert looked["images"].shape[1:] == (1, 16, 16)
    assert 2 <= len(looked["images"]) <= 2 * 2 * 2
    with np.load(tiny_npz) as stored:
        images, labels = stored["images"], stored["labels"]
    for image, label in zip(looked["images"], looked["labels"], strict=True):
        assert label in labels[(images == image[0]).all(axis=(1, 2))], "it is no image of the run"
    by_id = {
        (site, each): row
        for site, said in load_predictions(runs[policy]).items()
        for each, row in zip(said.ids, said.probabilities, strict=True)
    }
    for site, each, row in zip(looked["sites"], looked["ids"], looked["probabilities"], strict=True):
        np.testing.assert_array_equal(by_id[site, each], row)
    page = (runs[policy] / "report.html").read_text()
    assert page.count('class="tint"') == len(looked["images"])
    assert "It is no explanation of the answer" in page


@pytest.mark.parametrize("policy", ["default", "light"])
def test_attention_on_hidden_images_is_shown_as_that_of_the_model_for_plain_ones(
    runs: dict[str, Path], policy: str
) -> None:
    looked = dict(np.load(runs[policy] / "looked.npz"))
    for site in set(looked["sites"].tolist()):
        own = looked["sites"] == site
        plain = timm_model(runs[policy], site=site)
        wanted = rollout(plain, normalise(torch.from_numpy(looked["images"][own])))
        np.testing.assert_allclose(looked["shares"][own], wanted, atol=1e-6)
        assert float(wanted.std(dim=1).max()) > 1e-5, "every patch has the same"


def test_predict_shows_what_it_answered_where_a_page_is_asked_for(
    runs: dict[str, Path], asked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted(runs["default"], asked, tmp_path / "said.csv", "--page", str(tmp_path / "said.html"))
    assert "said.html: " in capsys.readouterr().out
    page = (tmp_path / "said.html").read_text()
    assert (tmp_path / "said.html").stat().st_mode & 0o777 == 0o600
    assert "which class is right is not known here" in page
    assert 'class="tint"' in page
    wrong = ["predict", str(runs["default"]), str(asked), "--out", str(tmp_path / "x.csv"), "--page", str(tmp_path)]
    assert main(wrong) == 2
    assert not (tmp_path / "x.csv").exists()


def test_no_picture_is_kept_where_none_is_asked_for(tmp_path: Path, runs: dict[str, Path]) -> None:
    config = from_mapping(ExperimentConfig, read_manifest(runs["default"])["experiment"], where="manifest")
    plan = make_plan(replace(config, hits_shown=0), runs["default"], run=read_manifest(runs["default"])["run"])
    kept = (runs["default"] / "looked.npz").read_bytes()
    try:
        assert write_looked(plan) is None
        assert not (runs["default"] / "looked.npz").exists()
    finally:
        (runs["default"] / "looked.npz").write_bytes(kept)
    with pytest.raises(ConfigError, match="'hits_shown' is 9"):
        make_plan(replace(config, hits_shown=9), tmp_path)
