"""Runs that learn pixels, what they leave, and the runs that begin with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fl_client.data.partition import site_parts
from fl_server import federation
from medveil.errors import ConfigError, FormatError, IntegrityError, MedVeilError, PolicyError
from models.config import ModelConfig
from models.vit import build_vit, normalise
from simulations.cli import main
from simulations.config import ExperimentConfig
from simulations.plan import make_plan
from simulations.pretraining import as_pretraining, is_tested_elsewhere, pretrain
from simulations.report.page import write_report
from simulations.run import run_experiment

Tiny = Callable[..., ExperimentConfig]
MASKED = ("task=masked-autoencoding", "pretrain.decoder_width=16", "pretrain.decoder_depth=1")
SIZES = {"image_size": 16, "patch": 4, "channels": 1, "width": 24, "depth": 2, "heads": 2}


def no_page(folder: Path) -> Path:
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_settings: list[str]) -> dict[str, Path]:
    """A federated run of masked autoencoding under a key per site, and its twin on plain images."""
    from medveil.config import load_config  # noqa: PLC0415

    torch.set_num_threads(1)
    made = {}
    for name, policy in (("hidden", ()), ("plain", ("keys.policy=none", "stem.train=local"))):
        made[name] = tmp_path_factory.mktemp("pixels") / name
        settings = [*tiny_settings, *MASKED, "rounds=2", "train.precision=fp32", *policy]
        run_experiment(load_config(ExperimentConfig, None, settings), made[name], progress=False, report=no_page)
    return made


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_federated_run_on_hidden_images_measures_what_its_plain_twin_does(runs: dict[str, Path]) -> None:
    hidden, plain = lines_of(runs["hidden"]), lines_of(runs["plain"])
    assert [(each["round"], each["site"], each["phase"]) for each in hidden] == [
        (each["round"], each["site"], each["phase"]) for each in plain
    ]
    for a, b in zip(hidden, plain, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert (a["accuracy"], a["auroc"], a["n"]) == (None, None, b["n"])
    judged = [each["loss"] for each in hidden if each["site"] == "all" and each["phase"] == "validation"]
    assert judged[-1] < judged[0]
    summary = json.loads((runs["hidden"] / "summary.json").read_text())
    assert (summary["task"], summary["accuracy"], summary["auroc"]) == ("masked-autoencoding", None, None)
    assert "no classes" in summary["intervals_note"]
    assert not list(runs["hidden"].glob("sites/*/predictions.npz"))


def test_no_pixel_of_a_key_reaches_the_server(runs: dict[str, Path]) -> None:
    newest = sorted((runs["hidden"] / "checkpoints").glob("*.safetensors"))[-1]
    names = set(load_file(newest))
    assert any("decoder.blocks" in name for name in names)
    at_home = ("patch_embed", "pos_embed", "decoder.pos_embed", "decoder.out")
    assert not [name for name in names if name.removeprefix("model/").startswith(at_home)]


@pytest.mark.usefixtures("drawn")
def test_its_page_and_status_speak_of_pixels(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    page = write_report(runs["hidden"]).read_text()
    assert "to tell pixels that were left out: loss" in page
    assert "Reconstruction loss" in page
    assert "cross-entropy" not in page


def test_what_it_leaves_begins_another_run(runs: dict[str, Path], tiny: Tiny, tmp_path: Path) -> None:
    left = runs["hidden"] / "pretrained.safetensors"
    config = ModelConfig(**SIZES, classes=2, pretrained=str(left))
    model, fresh = build_vit(config, seed=0), build_vit(ModelConfig(**SIZES, classes=2), seed=0)
    x = normalise(torch.zeros(1, 1, 16, 16, dtype=torch.uint8))
    assert model(x).shape == (1, 2)
    assert not torch.equal(model.blocks[1].mlp.fc1.weight, fresh.blocks[1].mlp.fc1.weight)
    tuned = run_experiment(
        tiny("rounds=1", f"model.pretrained={left}"), tmp_path / "tuned", progress=False, report=no_page
    )
    assert tuned.summary["accuracy"] is not None
    card = left.with_name("pretrained.card.md").read_text()
    for said in (
        "- model: width ",
        "licence of the data: not stated",
        "seed: 0",
        "per-site + adapted + local",
        "stayed there",
        "medveil",
    ):
        assert said in card


def test_an_export_moves_a_sites_own_stem_back_to_plain_images(runs: dict[str, Path], tmp_path: Path) -> None:
    found = {}
    for name, run in runs.items():
        assert main(["export", str(run), str(tmp_path / name), "--site", "site-2"]) == 0
        found[name] = load_file(tmp_path / name / "model.safetensors")
    assert set(found["hidden"]) == set(found["plain"])
    for name, tensor in found["plain"].items():
        torch.testing.assert_close(found["hidden"][name], tensor, atol=2e-5, rtol=1e-3)
    model = build_vit(ModelConfig(**SIZES, classes=3, pretrained=str(tmp_path / "hidden")), seed=0)
    assert torch.equal(model.patch_embed.proj.weight, found["hidden"]["patch_embed.proj.weight"])


# -- one place ---------------------------------------------------------------------------------------------------------


def test_pretraining_in_one_place_goes_on_after_it_was_killed(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("rounds=3", "pretrain.decoder_width=16", "pretrain.decoder_depth=1")
    whole = pretrain(config, tmp_path / "whole.safetensors", licence="CC0", progress=False, report=no_page)
    trained = federation.Federation._train

    def killed(self: Any, round_: int, strategy: Any) -> None:
        if round_ == 2:
            raise KeyboardInterrupt
        trained(self, round_, strategy)

    out = tmp_path / "cut.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(federation.Federation, "_train", killed)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config, out, progress=False, report=no_page)
    assert not out.exists()
    with pytest.raises(ConfigError, match=r"was begun with other settings \(seed\); the same settings again"):
        pretrain(tiny("rounds=3", "seed=4", *[f"pretrain.decoder_{k}" for k in ("width=16", "depth=1")]), out)
    again = pretrain(config, out, progress=False, report=no_page)
    one, other = load_file(whole.weights), load_file(again.weights)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not [name for name in one if name.startswith(("head", "decoder"))]
    card = whole.card.read_text()
    assert "licence of the data: CC0" in card
    assert "processor time: " in card
    with pytest.raises(ConfigError, match="is there already; name another file"):
        pretrain(config, out)


def test_what_an_experiment_sets_for_classes_does_not_count_where_none_are_learned(tiny: Tiny) -> None:
    config = tiny("train.label_smoothing=0.1", "train.mixup=0.2", "predict.views=4", "stem.warmup=5", "rounds=2")
    made = as_pretraining(config)
    assert (made.train.label_smoothing, made.train.mixup, made.predict.views, made.stem.warmup) == (0, 0, 1, 0)
    assert (made.task, made.federation, made.keys.policy, made.rounds) == (MASKED[0][5:], "centralised", "none", 2)
    assert config.train.mixup == 0.2
    with pytest.raises(ConfigError, match="full: all of it is pre-trained"):
        as_pretraining(tiny("train.scope=head"))


def test_a_test_that_sites_draw_for_themselves_is_told_of(tiny: Tiny, tmp_path: Path) -> None:
    assert is_tested_elsewhere(tiny())
    for setting in ("data.partition.test=common", "federation=centralised", "data.test=0", "sites=1"):
        assert not is_tested_elsewhere(tiny(setting))
    # With a common test the same images are kept back, whatever becomes of the others.
    common = tiny("data.partition.test=common")
    kept = []
    for config in (common, as_pretraining(common)):
        plan = make_plan(config, tmp_path / "run")
        assert plan.source is not None
        data, sites = plan.sites.data, plan.sites.sites
        parts = [site_parts(plan.source, data, sites=sites, index=i, seed=plan.run.seed) for i in range(sites)]
        kept.append(set(parts[0].test.tolist()))
        assert not kept[-1] & set(np.concatenate([each.train for each in parts]).tolist())
    assert kept[0] == kept[1]


def test_supervised_pretraining_leaves_stem_and_trunk(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny("rounds=1", "pretrain.task=supervised")
    made = pretrain(config, tmp_path / "s.safetensors", progress=False, report=no_page)
    assert "task single-label" in made.card.read_text()
    build_vit(ModelConfig(**SIZES, classes=5, pretrained=str(made.weights)), seed=0)


# -- images without labels ---------------------------------------------------------------------------------------------


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    from PIL import Image  # noqa: PLC0415

    rng = np.random.default_rng(0)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for i in range(24):
        where = tmp_path / "images" / ("deep" if i % 2 else ".") / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(where)
    return tmp_path / "images"


def test_images_without_labels_are_learned_from_without_classes(tiny: Tiny, tmp_path: Path, unlabelled: Path) -> None:
    data = (f"data.path={unlabelled}", "data.source=images", "data.labels=none", "data.image_size=16")
    plan = make_plan(tiny(*MASKED, *data, "data.classes=null"), tmp_path / "run")
    assert plan.run.classes == []
    assert plan.source is not None
    assert len(plan.source) == 24
    done = run_experiment(tiny(*MASKED, *data, "rounds=1"), tmp_path / "run", progress=False, report=no_page)
    assert done.summary["loss"] > 0
    with pytest.raises(ConfigError, match=r"data.labels: is none, and classes are to be learned"):
        make_plan(tiny(*data), tmp_path / "other")
    with pytest.raises(ConfigError, match=r"data.labels: is none, and classes are to be learned"):
        pretrain(tiny(*data, "pretrain.task=supervised"), tmp_path / "x.safetensors", progress=False)


def test_an_npz_without_labels_is_a_source_too(tiny: Tiny, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", images=np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8))
    plan = make_plan(tiny(*MASKED, f"data.path={tmp_path / 'bare.npz'}", "data.labels=none"), tmp_path / "run")
    assert plan.source is not None
    assert {item.label for item in plan.source.items} == {0}
    assert plan.source.classes == ("unlabelled",)


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (("cipher.negate=true", "pretrain.normalise_pixels=true"), "that of negated pixels is another"),
        (("cipher.scheme=orthogonal", "cipher.negate=false", "pretrain.normalise_pixels=true"), "of mixed pixels"),
        (("cipher.scheme=per-block", "stem.init=public"), "no public stem fits"),
        (("stem.init=secret",), "fits no public one"),
        (("keys.policy=none", "stem.init=secret"), "fits no public one"),
        (("keys.policy=shared",), "gives the key away"),
        (("stem.init=public",), "leave a trunk that no public stem fits"),
        (("stem.warmup=2",), "'stem.warmup' fits a stem to classes"),
        (("pretrain.mask=0",), "'mask' is out of its range"),
        (("pretrain.mask=1",), "'mask' is out of its range"),
        (("pretrain.mask=.nan",), "'mask' is out of its range"),
        (("pretrain.decoder_width=18",), "no multiple of decoder_heads"),
        (("pretrain.decoder_depth=0",), "'decoder_depth' is out of its range"),
        (("pretrain.task=contrastive",), "'task' is not known"),
        (("train.mixup=0.2",), "'mixup' is set, and masked autoencoding learns no classes"),
        (("train.label_smoothing=0.1",), "'label_smoothing' is set"),
        (("train.scope=head",), "'scope' is set"),
        (("predict.views=4",), "'views' is set, and masked autoencoding predicts nothing"),
        (("federation=svm", "keys.policy=none"), "is svm, which classifies"),
        (("federation=local-only",), "the shared trunk is all that is wanted"),
        (("task=multi-label",), "'task' is not supported"),
    ],
)
def test_what_cannot_be_learned_so_is_refused_in_one_line_before_images_are_looked_at(
    settings: tuple[str, ...], told: str, tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, PolicyError)) as caught:
        make_plan(tiny(*MASKED, "data.path=/nowhere.npz", *settings), tmp_path / "run")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mask_of_one_patch_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    from simulations.run import check_model  # noqa: PLC0415

    plan = make_plan(tiny(*MASKED, "cipher.block=16"), tmp_path / "run")
    with pytest.raises(ConfigError, match="of 1 patches leaves none to tell"):
        check_model(plan)


@pytest.mark.parametrize("damage", ["nan", "cut", "changed", "other heads", "other width", "other depth"])
def test_weights_that_are_not_whole_are_refused_before_anything_starts(
    damage: str, runs: dict[str, Path], tiny: Tiny, tmp_path: Path
) -> None:
    whole, path, more = runs["plain"] / "pretrained.safetensors", tmp_path / "w.safetensors", ()
    if damage == "cut":
        path.write_bytes(whole.read_bytes()[:-1000])
    else:
        path.write_bytes(whole.read_bytes())
    if damage in {"nan", "changed"}:
        with safe_open(whole, "pt") as opened:
            metadata = opened.metadata() if damage == "changed" else {}
        tensors = load_file(whole)
        tensors["norm.weight"][0] = float("nan") if damage == "nan" else 3.0
        save_file(tensors, path, metadata=metadata)
    more = {"other heads": ("model.heads=4",), "other width": ("model.width=32",), "other depth": ("model.depth=3",)}
    with pytest.raises((ConfigError, FormatError, IntegrityError)) as caught:
        run_experiment(
            tiny(f"model.pretrained={path}", *more.get(damage, ())), tmp_path / "run", progress=False, report=no_page
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["compare", "ablate"])
def test_a_run_without_accuracy_is_not_compared(command: str, tiny: Tiny, tmp_path: Path) -> None:
    from simulations.ablation import ablate  # noqa: PLC0415
    from simulations.compare import compare  # noqa: PLC0415

    begin: Callable[..., Any] = {"compare": compare, "ablate": ablate}[command]
    with pytest.raises(MedVeilError, match="has no accuracy to compare"):
        begin(tiny(*MASKED), tmp_path / "table")
