"""Baselines: what each answers, on which images, and what of it a comparison and a page say."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.svm import SVC
from threadpoolctl import threadpool_info

from crypto.keys import SimulatedKey
from fl_client.data import contents
from fl_client.data.store_files import StoreSeal, read_header
from fl_client.simulated_host import _simulated_site
from medveil.basis import SPLIT, read_basis
from medveil.config import load_config
from medveil.errors import BasisError, ConfigError, DataError
from simulations.arms import ARMS, as_experiment
from simulations.baselines import cnn, limits, pooled
from simulations.baselines import run as baselines_run
from simulations.baselines import svm as svm_file
from simulations.baselines.names import BASELINES
from simulations.config import ExperimentConfig
from simulations.confs import find_conf
from simulations.predictions import load_predictions
from simulations.report.comparison import ArmResult, write_comparison
from simulations.run import resume_experiment, run_experiment
from simulations.site_models import model_of_run
from simulations.standing import Comparable

SEEDS = (0, 1)
SIDE = 16
Bytes = npt.NDArray[np.uint8]


def images(n: int, classes: int, seed: int) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Images (n, SIDE, SIDE) whose classes are bright elsewhere, with much noise, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    made = rng.normal(90, 45, (n, SIDE, SIDE))
    for label in range(classes):
        made[labels == label, 5 * label : 5 * label + 5, 3:12] += 45
    return np.clip(made, 0, 255).astype(np.uint8), labels


def write(path: Path, *, flipped: int = 0) -> tuple[Bytes, npt.NDArray[np.int64]]:
    made, labels = images(150, 3, 0)
    labels[:flipped] = (labels[:flipped] + 1) % 3
    np.savez(path, images=made, labels=labels)
    return made, labels


def settings(path: Path, *more: str) -> ExperimentConfig:
    given = ["sites=2", "rounds=2", "data.source=npz", f"data.path={path}", "cipher.block=8", "train.batch_size=16"]
    given += ["model.width=24", "model.depth=1", "model.heads=2", "data.split_seed=3", "threads=1", "train.epochs=1"]
    given += ["data.partition.test=common", "data.test=0.2", "train.lr=0.003"]
    return load_config(ExperimentConfig, None, [*given, *more])


def go(experiment: ExperimentConfig, out: Path, *, page: bool = False) -> None:
    """Run without a page, which takes longer than so small a run."""
    run_experiment(experiment, out, progress=False, **({} if page else {"report": lambda run: run}))


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    _simulated_site.cache_clear()
    contents._seen.clear()
    yield
    _simulated_site.cache_clear()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every baseline and of the plain arm over one data set: ARM/seed-N."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("baselines")
    write(root / "a.npz")
    small = (32, 8, 8, 8)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cnn, "_CHANNELS", small)
        for arm in ("plain", *BASELINES):
            for seed in SEEDS if arm != "plain" else SEEDS[:1]:
                experiment = as_experiment(settings(root / "a.npz"), ARMS[arm], seed)
                go(experiment, root / arm / f"seed-{seed}", page=arm == "svm" and not seed)
    return root


def summary(world: Path, arm: str, seed: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world / arm / f"seed-{seed}" / "summary.json").read_text())
    return found


def answers(run: Path) -> dict[str, npt.NDArray[np.float32]]:
    return {site: each.probabilities for site, each in load_predictions(run).items()}


def ids(run: Path, part: str) -> list[int]:
    """Rows of the npz that the stores of a run's sites hold in a part."""
    found = set()
    for site in run.glob("sites/*"):
        for store in (each for each in site.glob("stores/*") if each.is_dir()):
            header = read_header(store, StoreSeal.of(SimulatedKey(0, site.name)))
            found |= set(header["parts"][part]["ids"])
    assert found
    return sorted(int(each.rpartition("/")[2]) for each in found)


# -- the same split ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", BASELINES)
def test_a_baseline_stands_on_the_split_of_the_other_arms(world: Path, arm: str) -> None:
    plain, own = (world / each / "seed-0" for each in ("plain", arm))
    ours, theirs = load_predictions(own), load_predictions(plain)
    assert list(ours) == list(theirs) == ["site-1", "site-2"]
    for site, mine in ours.items():
        assert mine.ids.tolist() == theirs[site].ids.tolist()
        assert mine.labels.tolist() == theirs[site].labels.tolist()
        assert np.allclose(mine.probabilities.sum(axis=1), 1, atol=1e-5)
        records = [next((run / "sites" / site / "basis").glob("*.json")) for run in (own, plain)]
        assert len({read_basis(path).parts[SPLIT] for path in records}) == 1
    assert all(ids(own, part) == ids(plain, part) for part in ("train", "validation", "test"))


def test_the_nearest_neighbour_is_the_nearest_of_all_sites(world: Path) -> None:
    run = world / "nearest-neighbour" / "seed-0"
    stored = np.load(world / "a.npz")
    train = ids(run, "train")
    flat = stored["images"].reshape(150, -1).astype(int)
    for predictions in load_predictions(run).values():
        asked = [int(each.rpartition("/")[2]) for each in predictions.ids]
        nearest_one = [train[int(((flat[train] - flat[row]) ** 2).sum(axis=1).argmin())] for row in asked]
        assert predictions.predicted.tolist() == stored["labels"][nearest_one].tolist()


def test_the_machine_is_scikit_learns_with_the_penalty_validation_likes(world: Path) -> None:
    run = world / "svm" / "seed-0"
    chosen = summary(world, "svm")["baseline"]["chosen"]
    stored = np.load(world / "a.npz")
    parts = {part: ids(run, part) for part in ("train", "validation")}
    flat = (stored["images"].reshape(150, -1) / 255).astype(np.float32)
    count = len(parts["train"]) - 1
    components = PCA(count, svd_solver="full").fit(flat[parts["train"]])
    features = components.transform(flat)
    right = {}
    for penalty in (1.0, 10.0, 100.0):
        machine = SVC(C=penalty).fit(features[parts["train"]], stored["labels"][parts["train"]])
        said = machine.decision_function(features[parts["validation"]]).argmax(1)
        right[penalty] = int((said == stored["labels"][parts["validation"]]).sum())
    assert chosen["penalty"] == max(right, key=lambda each: right[each])
    assert chosen["components"] == count
    machine = SVC(C=chosen["penalty"]).fit(features[parts["train"]], stored["labels"][parts["train"]])
    for predictions in load_predictions(run).values():
        asked = [int(each.rpartition("/")[2]) for each in predictions.ids]
        same = predictions.predicted == machine.decision_function(features[asked]).argmax(1)
        assert same.mean() > 0.95  # Randomised components are not exact ones.


def test_they_learn(world: Path) -> None:
    for arm in ("nearest-neighbour", "svm"):
        assert summary(world, arm)["accuracy"] > summary(world, arm)["majority_rate"] + 0.15


@pytest.mark.parametrize(("images_held", "more"), [(5, ["data.views=0"]), (23, ["data.views=3", "data.augment=light"])])
def test_neither_chunks_nor_views_change_an_answer(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_held: int, more: list[str]
) -> None:
    monkeypatch.setattr(pooled, "_CELLS", SIDE * SIDE * images_held)
    go(as_experiment(settings(world / "a.npz", *more), ARMS["nearest-neighbour"], 0), tmp_path / "r")
    there = answers(world / "nearest-neighbour" / "seed-0")
    assert all(np.array_equal(each, there[site]) for site, each in answers(tmp_path / "r").items())


def test_training_images_that_are_not_stored_are_decoded_once(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled, "_CELLS", SIDE * SIDE * 5)
    read, decoded = pooled._raw, Counter[int]()

    def counting(part: pooled.Part, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        if isinstance(part, pooled.OnTheFlyPart):
            decoded.update(part.indices[rows].tolist())
        return read(part, rows)

    monkeypatch.setattr(pooled, "_raw", counting)
    go(as_experiment(settings(world / "a.npz", "data.views=0"), ARMS["nearest-neighbour"], 0), tmp_path / "r")
    # The first once more, to know its size.
    assert sorted(decoded.values())[-2:] == [1, 2]
    assert len(decoded) == len(ids(world / "nearest-neighbour" / "seed-0", "train"))


def test_the_components_take_little_more_than_the_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(svm_file, "COMPONENTS", 8)
    monkeypatch.setattr(svm_file, "_AT_ONCE", 50)
    images_ = np.random.default_rng(0).integers(0, 256, (900, 1, 64, 64), dtype=np.uint8)
    held = MagicMock(ids=tuple(map(str, range(900))), raw=lambda rows: images_[rows], __len__=lambda _: 900)
    tracemalloc.start()
    try:
        found = svm_file._components(held)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    features = images_.reshape(900, -1).astype(np.float32) / np.float32(255)
    assert peak < 1.7 * features.nbytes
    same = PCA(n_components=8, svd_solver="randomized", random_state=0).fit(features)
    np.testing.assert_array_equal(found.components_, same.components_)


def test_threads_bound_what_a_baseline_multiplies_with(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []
    find = baselines_run.nearest_neighbour

    def looking(found: pooled.Pooled) -> Any:
        seen.append({each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"})
        return find(found)

    monkeypatch.setattr(baselines_run, "nearest_neighbour", looking)
    before = threadpool_info()
    # A number that neither this machine nor its environment gives by itself.
    go(as_experiment(settings(world / "a.npz", "threads=3"), ARMS["nearest-neighbour"], 0), tmp_path / "r")
    torch.set_num_threads(1)
    assert seen == [{3}]
    assert [each["num_threads"] for each in threadpool_info()] == [each["num_threads"] for each in before]


def test_labels_of_test_images_change_no_answer(world: Path, tmp_path: Path) -> None:
    stored = dict(np.load(world / "a.npz"))
    asked = ids(world / "svm" / "seed-0", "test")
    rest = ids(world / "svm" / "seed-0", "train") + ids(world / "svm" / "seed-0", "validation")
    for arm in ("nearest-neighbour", "svm"):
        found = []
        for turn in (0, 1):
            labels = stored["labels"].copy()
            labels[asked] = (labels[asked] + turn) % 3
            arrays = {"train_images": stored["images"][rest], "train_labels": labels[rest]}
            arrays |= {"test_images": stored["images"][asked], "test_labels": labels[asked]}
            np.savez(tmp_path / f"{turn}.npz", **arrays)
            run = tmp_path / f"{arm}-{turn}"
            go(as_experiment(settings(tmp_path / f"{turn}.npz"), ARMS[arm], 0), run)
            found.append(answers(run))
        assert all(np.array_equal(found[0][site], found[1][site]) for site in found[0])


# -- seeds -------------------------------------------------------------------------------------------------------------


def test_nothing_is_drawn_in_two_of_them_and_the_network_is_seeded(world: Path) -> None:
    for arm in BASELINES:
        one, other = (answers(world / arm / f"seed-{seed}") for seed in SEEDS)
        same = all(np.array_equal(one[site], other[site]) for site in one)
        assert same == summary(world, arm)["baseline"]["deterministic"] == (arm != "cnn")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs answered alike, to the last bit."""
    return all(np.array_equal(each, other[site]) for site, each in one.items())


def go_for_a_round(experiment: ExperimentConfig, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the network, and interrupt it when it begins its second round."""
    train = cnn.Network.train

    def stops(network: cnn.Network, round_: int) -> Any:
        if round_ == 2:
            raise KeyboardInterrupt
        return train(network, round_)

    with monkeypatch.context() as patched:
        patched.setattr(cnn.Network, "train", stops)
        with pytest.raises(KeyboardInterrupt):
            go(experiment, out)


def test_the_network_goes_on_to_the_same_end(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cnn, "_CHANNELS", (32, 8, 8, 8))
    experiment, out = as_experiment(settings(world / "a.npz"), ARMS["cnn"], 0), tmp_path / "run"
    go_for_a_round(experiment, out, monkeypatch)
    assert json.loads((out / "manifest.json").read_text())["status"] == "interrupted"
    done = resume_experiment(out, progress=False, report=lambda run: run)
    assert done.summary["status"] == "finished"
    whole = world / "cnn" / "seed-0"
    assert all(np.array_equal(each, answers(whole)[site]) for site, each in answers(out).items())
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").open()] for run in (out, whole)]
    assert len(lines[0]) == len(lines[1])
    assert [line["loss"] for line in lines[0]] == [line["loss"] for line in lines[1]]
    with pytest.raises(ConfigError, match="baseline cnn, which leaves no Vision Transformer"):
        model_of_run(out)


def test_the_network_takes_of_a_recipe_what_is_no_transformers_alone(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn, "_CHANNELS", (32, 8, 8, 8))
    experiment = as_experiment(settings(world / "a.npz"), ARMS["cnn"], 0)
    experiment.train.optimizer, experiment.train.ema, experiment.train.layer_decay = "muon", 0.99, 0.75
    experiment.train.patch_dropout = 0.5
    out = tmp_path / "run"
    go(experiment, out)
    # What is left is the experiment that was run without them.
    whole = answers(world / "cnn" / "seed-0")
    assert all(np.array_equal(each, whole[site]) for site, each in answers(out).items())


def test_the_network_has_the_time_of_all_sites(world: Path) -> None:
    experiment = as_experiment(settings(world / "a.npz"), ARMS["cnn"], 0)
    assert cnn._without_a_transformers(replace(experiment.train, minutes=0.5), sites=4).minutes == 2.0
    base = settings(world / "a.npz")
    base.train.minutes = 0.5
    assert as_experiment(base, ARMS["centralised"], 0).train.minutes == 0.5 * base.sites
    assert as_experiment(base, ARMS["fedper"], 0).train.minutes == 0.5


def test_the_network_keeps_its_moments_and_is_asked_about_as_many_views(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn, "_CHANNELS", (32, 8, 8, 8))
    kept = as_experiment(settings(world / "a.npz"), ARMS["cnn"], 0)
    kept.train.state = "kept"
    go(kept, tmp_path / "whole")
    whole = answers(tmp_path / "whole")
    # The second round goes on with the moments of the first, so that it is another training, ...
    assert not same(whole, answers(world / "cnn" / "seed-0"))
    # ... also from a checkpoint.
    go_for_a_round(kept, tmp_path / "cut", monkeypatch)
    resume_experiment(tmp_path / "cut", progress=False, report=lambda run: run)
    assert same(whole, answers(tmp_path / "cut"))
    kept.predict.views, kept.predict.augment = 3, "medium"
    go(kept, tmp_path / "views")
    said = answers(tmp_path / "views")
    assert not same(whole, said)
    assert all(np.allclose(each.sum(1), 1.0, atol=1e-6) for each in said.values())


def test_what_was_fitted_at_once_is_given_no_more_rounds(world: Path) -> None:
    with pytest.raises(ConfigError, match="baseline svm, which has no rounds"):
        resume_experiment(world / "svm" / "seed-0", rounds=9, progress=False, report=lambda run: run)


def test_a_run_over_other_images_is_not_gone_on_with_nor_kept(world: Path, tmp_path: Path) -> None:
    write(tmp_path / "b.npz")
    experiment, out = as_experiment(settings(tmp_path / "b.npz"), ARMS["svm"], 0), tmp_path / "run"
    go(experiment, out)
    Comparable().check(out, experiment)
    write(tmp_path / "b.npz", flipped=9)
    contents._seen.clear()
    with pytest.raises(BasisError, match="labels"):
        Comparable().check(out, experiment)
    with pytest.raises(BasisError, match="labels"):
        resume_experiment(out, progress=False)


# -- refused -----------------------------------------------------------------------------------------------------------


def refused(tmp_path: Path, *more: str, arm: str = "svm", file: Path | None = None) -> pytest.ExceptionInfo[Any]:
    write(tmp_path / "c.npz")
    experiment = as_experiment(settings(file or tmp_path / "c.npz", *more), ARMS[arm], 0)
    with pytest.raises((ConfigError, DataError)) as caught:
        go(experiment, tmp_path / "run")
    return caught


def test_what_cannot_be_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for more, said in (
        (["keys.policy=shared"], r"keys\.policy.*reads plain images"),
        (["keys.policy=none", "data.source=hidden"], "a baseline that reads plain images, and these are hidden"),
    ):
        asked = settings(tmp_path / "none", "federation=svm", *more)
        with pytest.raises(ConfigError, match=said):
            go(asked, tmp_path / "run")
    monkeypatch.setattr(limits, "MOST_IMAGES", 60)
    assert "takes 60 at most" in str(refused(tmp_path).value)
    monkeypatch.setattr(limits, "MOST_WORK", 1e5)
    assert "which takes hours" in str(refused(tmp_path, arm="nearest-neighbour").value)
    said = str(refused(tmp_path, "data.image_size=8", "cipher.block=4", arm="cnn").value)
    assert "no network for images of 8 pixels" in said
    assert not (tmp_path / "run").exists()


def test_a_class_without_a_training_image_is_never_named(tmp_path: Path) -> None:
    made, labels = images(60, 2, 1)
    arrays = {f"{part}_images": made[start : start + 20] for part, start in (("train", 0), ("val", 20), ("test", 40))}
    arrays |= {f"{part}_labels": np.zeros(20, int) for part in ("train", "val")} | {"test_labels": labels[40:]}
    np.savez(tmp_path / "d.npz", **arrays, classes=np.array(["a", "b"]))
    assert "all training images are of one class" in str(refused(tmp_path, file=tmp_path / "d.npz").value)
    experiment = as_experiment(settings(tmp_path / "d.npz"), ARMS["nearest-neighbour"], 0)
    go(experiment, tmp_path / "one")
    assert all((each.predicted == 0).all() for each in load_predictions(tmp_path / "one").values())


# -- what is said ------------------------------------------------------------------------------------------------------


def test_a_page_says_what_it_is_and_nothing_of_a_thief(world: Path) -> None:
    page = (world / "svm" / "seed-0" / "report.html").read_text()
    assert "A baseline: principal components and a support vector machine, on plain images, those of all" in page
    assert "processor time" in page
    assert 'id="thief"' not in page
    assert 'id="policies"' not in page
    assert "vit_tiny" not in page.split("Configuration", 1)[0]
    assert summary(world, "svm")["baseline"]["cpu_seconds"] > 0
    assert "test images look like a training image" in page
    assert summary(world, "svm")["near"]["test"] == len(ids(world / "svm" / "seed-0", "test"))


def test_a_comparison_shows_them_apart_and_pairs_each_arm_with_the_best(world: Path, tmp_path: Path) -> None:
    arms = ["svm", "cnn", "plain", "nearest-neighbour"]
    rows = [
        ArmResult(arm, ARMS[arm].text, None, sorted((world / arm).glob("seed-*")), baseline=ARMS[arm].is_baseline)
        for arm in arms
    ]
    page = write_comparison(tmp_path, rows).read_text()
    found = json.loads((tmp_path / "compare.json").read_text())
    assert [each["name"] for each in found["arms"]] == ["plain", "svm", "cnn", "nearest-neighbour"]
    told = {each["name"]: each["baseline"] for each in found["arms"]}
    assert told["plain"] is None
    assert (told["svm"]["deterministic"], told["svm"]["splits"]) == (True, 1)
    assert not told["cnn"]["deterministic"]
    plain = found["arms"][0]
    pairs = {pair["name"]: pair["equivalence"]["difference"] for pair in plain["beside_baselines"]}
    assert set(pairs) == set(BASELINES)
    for name, difference in pairs.items():
        scores = [summary(world, arm)["accuracy"] for arm in ("plain", name)]
        assert difference == pytest.approx(scores[0] - scores[1], abs=1e-9)
    best = min(pairs, key=lambda name: pairs[name])
    markdown = (tmp_path / "compare.md").read_text()
    assert f"points ({best})" in markdown
    assert "1 split, nothing drawn" in markdown
    assert page.index("Baselines: plain images pooled") > page.index(">plain<")
    assert "1 split<small>nothing drawn</small>" in page
    assert len(found["near"]) == 1
    assert found["near"][0] in page
    with (tmp_path / "compare.csv").open(newline="") as stream:
        cells = {row["arm"]: row for row in csv.DictReader(stream)}
    assert (cells["plain"]["best_baseline"], cells["svm"]["best_baseline"]) == (best, "")
    assert float(cells["cnn"]["cpu_seconds"]) > 0


def test_the_comparisons_that_come_with_us_carry_them_and_split_by_group() -> None:
    for name in ("seed-paper", "brain-mri", "histology", "pneumonia"):
        config = load_config(ExperimentConfig, find_conf(name))
        assert set(BASELINES) <= set(config.compare.arms) <= set(ARMS)
        table = None if name == "pneumonia" else "labels.csv"
        assert (config.data.labels, config.data.group_by) == (table, table and "group")
