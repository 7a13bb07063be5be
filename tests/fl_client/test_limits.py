"""What a server may ask of a site: the contract field by field, and the site's own limits."""

from __future__ import annotations

import json
import re
import time
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from crypto.config import CipherConfig
from fl_client.deployment.hours import check_hours
from fl_client.deployment.limits import check_bytes, check_images, check_round, check_store, checked_run
from fl_client.deployment.limits_config import LimitsConfig
from medveil.config import to_mapping
from medveil.contract import RUN_KEY, SERVER_KEY, SITES_KEY, RunConfig
from medveil.errors import ConfigError, MedVeilError, PolicyError
from medveil.predicting import PredictConfig
from medveil.pretraining import MASKED, MaskedConfig
from medveil.secagg.config import SecAggConfig
from medveil.training import TrainConfig
from models.config import ModelConfig

MODEL = ModelConfig(image_size=32, patch=8, channels=1, classes=2, width=24, depth=2, heads=2)


def run(**changes: Any) -> RunConfig:
    values: dict[str, Any] = {
        "run": "0f2c7cf0-5b6e-4a8c-9e1b-0123456789ab",
        "rounds": 3,
        "classes": ["none", "mass"],
        "image_size": 32,
        "model": to_mapping(MODEL),
        "train": to_mapping(TrainConfig()),
        "predict": to_mapping(PredictConfig()),
        "cipher": {"scheme": "block-pixel", "block": 8, "negate": True, "derivation": 1},
        "keys": "per-site",
        "stem_init": "adapted",
        "stem_train": "local",
        "least_sites": 2,
    }
    return RunConfig(**{**values, **changes})


def asked(config: RunConfig, limits: LimitsConfig | None = None, weights: Path = Path("/none")) -> RunConfig:
    return checked_run({RUN_KEY: config.to_json()}, limits or LimitsConfig(), weights)


def refused(config: RunConfig, limits: LimitsConfig | None = None, weights: Path = Path("/none")) -> str:
    with pytest.raises(MedVeilError) as error:
        asked(config, limits, weights)
    return str(error.value)


def changed(section: str, **values: Any) -> dict[str, Any]:
    return {section: {**getattr(run(), section), **values}}


def test_a_run_within_the_contract_and_the_limits_is_taken() -> None:
    assert asked(run()) == run()
    assert asked(run(predict={})) == run(), "a run of an older MedVeil asks about images alone"


def test_what_was_judged_is_what_the_site_goes_by() -> None:
    """A section may leave fields out: what reads it later does not meet that."""
    short = {"image_size": 32, "patch": 8, "channels": 1, "classes": 2, "width": 24, "depth": 2, "heads": 2}
    taken = asked(run(model=short, train={"lr": 0.01}, cipher={"block": 8, "negate": False}))
    assert taken.model == to_mapping(MODEL)
    assert taken.train == to_mapping(TrainConfig(lr=0.01))
    assert taken.cipher == to_mapping(CipherConfig(block=8, negate=False, derivation=1))


@pytest.mark.parametrize(
    "changes", [{"model": {"patch": "8"}}, {"train": {"lr": "1e-2"}}, {"cipher": {"negate": "false"}}]
)
def test_numbers_that_came_as_text_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has a value of the wrong type: it is text"):
        asked(run(**changes))


def test_whatever_else_a_server_sends_is_not_looked_at() -> None:
    sent = {RUN_KEY: run().to_json(), SERVER_KEY: "{", SITES_KEY: '{"data": {"path": "/etc"}}', "x": 1}
    assert checked_run(sent, LimitsConfig(), Path("/none")) == run()


@pytest.mark.parametrize("text", [None, 7, "", "{", "[]", "x" * (2**20 + 1)])
def test_what_is_no_run_is_refused(text: object) -> None:
    with pytest.raises(MedVeilError):
        checked_run({RUN_KEY: text}, LimitsConfig(), Path("/none"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"run": ""}, "'run' is empty"),
        ({"run": "../../home"}, "'run' is no identity of a run"),
        ({"name": "../x"}, "'name' is no name"),
        ({"task": "multi-label"}, "'task' is not supported; supported: single-label"),
        ({"channels": 7}, "'channels' is not supported; 1 or 3"),
        ({"image_size": 4096}, "'image_size' is out of its range; at least 1, at most 2048"),
        ({"stem_warmup": 10**9, "stem_train": "local"}, "'stem_warmup' is out of its range"),
        (changed("model", width=10**6), "'model.width' is out of its range; at least 1, at most 4096"),
        (changed("model", depth=-1), "'model.depth' is out of its range"),
        (changed("model", heads=0), "'model.heads' is out of its range"),
        (changed("model", image_size=64), "'model.image_size' is not what the rest of the run makes it"),
        (changed("model", patch=16), "'model.patch' is not what"),
        (changed("model", classes=3), "'model.classes' is not what"),
        (changed("model", name="hf-hub:someone/else"), "'model.name' is no name"),
        (changed("model", name="local-dir:/etc"), "'model.name' is no name"),
        (changed("model", dropout=0.5), "unknown key 'dropout'"),
        (changed("model", pretrained="true"), "no weights of that name"),
        (changed("model", pretrained="/etc/passwd"), "'model.pretrained' is no name"),
        (changed("model", pretrained="../stems/x.safetensors"), "'model.pretrained' is no name"),
        (changed("model", pretrained="~/x.safetensors"), "'model.pretrained' is no name"),
        (changed("model", pretrained="x.pth"), "is a pickle by its name"),
        (changed("model", pretrained="X.BIN"), "is a pickle by its name"),
        (changed("train", epochs=10**6), "'train.epochs' is out of its range; at least 1, at most 1000"),
        (changed("train", batch_size=10**9), "'train.batch_size' is out of its range"),
        (changed("train", lr=-1.0), "'lr' is out of its range"),
        (changed("train", optimiser="sgd"), "unknown key 'optimiser'"),
        (changed("cipher", block=0), "'cipher.block' is out of its range"),
        (changed("cipher", key="00"), "unknown key 'key'"),
    ],
)
def test_what_is_not_in_the_contract_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    assert says in refused(run(**changes))


@pytest.mark.parametrize(
    ("limits", "changes", "says"),
    [
        ({"policies": ["shared"]}, {}, "limits.policies: this site does not accept 'per-site + adapted + local'"),
        ({}, {"keys": "none", "stem_init": "public"}, "this site does not accept 'none + public + local'"),
        (
            {"policies": ["none", "shared"]},
            {"keys": "shared", "stem_init": "public", "stem_train": "averaged"},
            "limits.send_stem: this site sends no stem",
        ),
        ({"most_rounds": 2}, {}, "limits.most_rounds: this site agrees to at most 2 rounds, and the run has more"),
        ({"least_sites": 3}, {}, "limits.least_sites: this site wants 3 sites aggregated, and the run promises fewer"),
        ({"secagg": True}, {}, "limits.secagg: this site's updates leave under masks alone, and the run has none"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_with_the_limit(
    limits: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    assert says in refused(run(**changes), LimitsConfig(**limits))


@pytest.mark.parametrize("scheme", ["pixel-wise", "pixel-wise-fresh"])
def test_a_scheme_that_is_made_to_be_broken_hides_nothing_real(scheme: str) -> None:
    chosen = run(**changed("cipher", scheme=scheme))
    # Whatever the site's file says, and however the limits were made.
    for limits in (LimitsConfig(), LimitsConfig(schemes=[scheme, "block-pixel"])):
        assert f"limits.schemes: '{scheme}' is made to be broken" in refused(chosen, limits)
    with pytest.raises(MedVeilError, match=r"'limits.schemes' is .*made to be broken"):
        LimitsConfig(schemes=[scheme]).check(where="site.yaml")


def test_a_site_says_which_schemes_hide_its_images() -> None:
    assert set(LimitsConfig().schemes) == {"block-pixel", "per-block", "etc", "orthogonal", "aes-ctr"}
    only = LimitsConfig(schemes=["orthogonal"])
    assert asked(run(**changed("cipher", scheme="orthogonal")), only)
    assert "limits.schemes: this site does not hide its images with 'block-pixel'" in refused(run(), only)
    # A preset is what it stands for.
    preset = run(
        image_size=50,
        cipher={"scheme": "seed-paper"},
        model=to_mapping(replace(MODEL, image_size=50, patch=25)),
    )
    assert asked(preset)
    assert "with 'block-pixel'" in refused(preset, only)
    assert "'cipher.scheme' is no cipher" in refused(run(**changed("cipher", scheme="rot13")))


def test_keys_without_a_cipher_hide_nothing_and_are_refused() -> None:
    bare = run(**changed("cipher", scheme="none"))
    assert "limits.schemes: this site does not hide its images with 'none'" in refused(bare)
    plain = run(**changed("cipher", scheme="none"), keys="none", stem_init="public", stem_train="local")
    assert asked(plain, LimitsConfig(policies=["none"]))


@pytest.mark.parametrize(
    "sizes",
    [
        {"width": 4096, "depth": 128, "heads": 8},
        {"width": 4096, "depth": 128, "heads": 128},
        {"width": 4096, "depth": 32, "heads": 8},
        {"name": "vit_giant_patch14_dinov2.lvd142m", "width": None, "depth": None, "heads": None},
        {"name": "vit_large_patch16_224", "width": None, "depth": 128, "heads": None},
        {"width": None, "depth": 128, "heads": 1, "name": "vit_gigantic_patch14_224"},
    ],
)
def test_a_model_beyond_the_memory_is_refused_before_it_is_built(
    sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    empty = torch.empty

    def watched(*shape: Any, **given: Any) -> torch.Tensor:
        made = empty(*shape, **given)
        if made.device.type != "meta":
            built.append(made.numel())
        return made

    monkeypatch.setattr(torch, "empty", watched)
    began = time.process_time()
    said = refused(run(**changed("model", **sizes)))
    assert re.search(r"would take \d+ MB of memory, and this site's limit is 16384 MB|a round moves \d", said), said
    assert sum(built) < 10**6
    assert time.process_time() - began < 20


def test_numbers_alone_refuse_a_model_timm_never_hears_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.vit.create", None)
    monkeypatch.setattr("models.vit.build_vit", None)
    said = refused(run(**changed("model", width=4096, depth=128, heads=8)))
    assert "limits.most_memory: model and training would take 2" in said
    assert " MB of memory, and this site's limit is 16384 MB" in said


@pytest.mark.parametrize(
    "changes",
    [
        changed("train", batch_size=65536),
        {"image_size": 2048, **changed("model", image_size=2048)},
        {"image_size": 2048, "cipher": {"block": 1}, **changed("model", image_size=2048, patch=1)},
        changed("model", depth=128, width=2048, heads=1),
    ],
)
def test_everything_that_sizes_training_counts(changes: dict[str, Any]) -> None:
    said = refused(run(**changes), LimitsConfig(most_memory=256))
    assert "limits.most_memory" in said
    assert asked(run(), LimitsConfig(most_memory=256)) == run()


def test_what_training_remembers_sizes_it_too() -> None:
    wide = changed("model", width=384, heads=1)
    lean, average = run(**wide), run(**wide, **changed("train", ema=0.9))
    kept = run(**wide, **changed("train", state="kept"))
    needed = [
        float(re.findall(r"would take (\d+) MB", refused(each, LimitsConfig(most_memory=1)))[0])
        for each in (lean, average, kept)
    ]
    # Two blocks of width 384 have 1.2 M numbers at least: 5 MB a copy. An average is one more, and moments are four.
    assert needed[1] - needed[0] == pytest.approx(5, abs=1)
    assert needed[2] - needed[0] == pytest.approx(19, abs=1.5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (changed("train", optimizer="muon", scope="head"), "'optimizer' is muon, .* 'scope' trains no block"),
        (changed("train", scope="lora"), r"'scope' is LoRA, .* mean\(B A\) is not mean\(B\) mean\(A\)"),
        (changed("train", scope="stem"), "'scope' is not known; one of full, head, bias"),
        (changed("train", scope="lora-core", rank=10**9), "'rank' is out of its range; 1 to 256"),
        (changed("train", scope="lora-core", rank=255), "run config, train: 'rank' is not 1 to "),
        (
            {**changed("train", scope="bias"), **changed("model", name="aimv2_large_patch14_224")},
            "'scope' is bias, and the trunk of this model has no such parameters",
        ),
        (changed("train", scope="last-99-blocks"), "model, train.scope: describes no model that can be built"),
        (changed("train", ema=1.0), "'ema' is out of its range"),
        (changed("train", patch_dropout=1.0), "'patch_dropout' is out of its range"),
        (changed("train", minutes=1e9), "'minutes' is out of its range"),
        (changed("train", minutes=1.0, epochs=2), "'minutes' and 'epochs' are both set"),
        (changed("train", augment="huge"), "'augment' is not known"),
        (changed("train", recipe="huge"), "'recipe' is not known"),
        (changed("predict", views=65), "'views' is out of its range"),
        (changed("predict", augment="none"), "'augment' is not known"),
        (changed("model", init="other"), "model.init: describes no model that can be built"),
    ],
)
def test_what_fits_small_data_is_judged_field_by_field(changes: dict[str, Any], says: str) -> None:
    said = refused(run(**changes))
    assert re.search(says, said), said
    assert "\n" not in said


def test_a_site_bounds_how_long_a_run_trains_by_the_clock() -> None:
    limits = LimitsConfig(most_minutes=30)
    assert asked(run(**changed("train", minutes=30.0)), limits)
    said = refused(run(**changed("train", minutes=31.0)), limits)
    assert "limits.most_minutes: this site trains at most 30 minutes by the clock, and the run asks for more" in said
    for most in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"limits\.most_minutes"):
            LimitsConfig(most_minutes=most).check(where="site.yaml")


def test_the_tensors_of_a_round_are_counted_before_there_are_any() -> None:
    # 14570 numbers of trunk and head, there and back.
    assert asked(run(), LimitsConfig(most_megabytes=0.2))
    assert "limits.most_megabytes: a round moves 0.1 MB" in refused(run(), LimitsConfig(most_megabytes=0.1))
    assert asked(run(wire="bf16"), LimitsConfig(most_megabytes=0.1))
    head = run(**changed("train", scope="head"))
    assert asked(head, LimitsConfig(most_megabytes=0.001))


def test_a_store_is_measured_before_it_is_made() -> None:
    limits = LimitsConfig(most_store=1.0)
    # 2 bytes a value of 32 x 32.
    check_store(488, run(), 1, limits)
    for images, views in ((489, 1), (245, 2)):
        with pytest.raises(MedVeilError, match=r"limits.most_store: .* limit of 1 MB") as caught:
            check_store(images, run(), views, limits)
        assert str(images) not in str(caught.value)


CANARY = "canary-7c1e"


@pytest.mark.parametrize("field", [each.name for each in fields(RunConfig)])
@pytest.mark.parametrize(
    "value", [CANARY, "${oc.env:MEDVEIL_PASSPHRASE}", [CANARY], {CANARY: CANARY}, 77777777.5, None]
)
def test_no_value_of_a_run_comes_back(field: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", CANARY)
    document = json.loads(run().to_json()) | {field: value}
    try:
        checked_run({RUN_KEY: json.dumps(document)}, LimitsConfig(), Path("/none"))
    except MedVeilError as error:
        # A key that nobody knows is a field, and named.
        said = str(error).replace(f"unknown key '{CANARY}'", "").replace(f"unknown key '{field}.{CANARY}'", "")
        assert CANARY not in said
        assert "77777777" not in said
        assert "oc.env" not in said


@pytest.mark.parametrize("section", ["model", "train", "cipher", "predict", "secagg"])
@pytest.mark.parametrize(
    "value", [CANARY, "${oc.env:MEDVEIL_PASSPHRASE}", [CANARY], {CANARY: CANARY}, 77777777, -77777777.5]
)
def test_no_value_of_a_section_comes_back(section: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", CANARY)
    kinds: dict[str, Any] = {"model": ModelConfig, "train": TrainConfig, "cipher": CipherConfig}
    kinds |= {"predict": PredictConfig, "secagg": SecAggConfig}
    for each in fields(kinds[section]):
        document = json.loads(run().to_json())
        document[section][each.name] = value
        try:
            checked_run({RUN_KEY: json.dumps(document)}, LimitsConfig(), Path("/none"))
        except MedVeilError as error:
            said = str(error).replace(f"unknown key '{CANARY}'", "")
            assert CANARY not in said, each.name
            assert "77777777" not in said, each.name
            assert "oc.env" not in said, each.name


def test_limits_meet_at_their_edges() -> None:
    edge = LimitsConfig(most_rounds=3, least_sites=2, policies=["per-site + adapted + local"])
    assert asked(run(), edge) == run()
    opened = LimitsConfig(policies=["shared"], send_stem=True)
    averaged = run(keys="shared", stem_init="public", stem_train="averaged")
    assert asked(averaged, opened) == averaged
    summed = run(kind="delta", secagg=SecAggConfig(on=True), roster="0" * 64)
    assert asked(summed, LimitsConfig(secagg=True)) == summed
    check_images(32, LimitsConfig(least_images=32))
    check_bytes(1_500_000, LimitsConfig(most_megabytes=1.5))
    for judge in (
        lambda: check_images(31, LimitsConfig(least_images=32)),
        lambda: check_bytes(1_500_001, LimitsConfig(most_megabytes=1.5)),
    ):
        with pytest.raises(MedVeilError, match=r"limit"):
            judge()


def test_too_few_images_are_not_counted_to_the_server() -> None:
    with pytest.raises(MedVeilError) as error:
        check_images(7, LimitsConfig(least_images=32))
    assert "7" not in str(error.value)


def test_rounds_are_the_runs_and_repeated_ones_count() -> None:
    limits = LimitsConfig(most_rounds=5)
    check_round(3, run(), done=4, limits=limits)
    for round_, done, says in ((4, 0, "none of the run's"), (-1, 0, "none of the run's"), (1, 5, "answered 5 times")):
        with pytest.raises(MedVeilError, match=says):
            check_round(round_, run(), done=done, limits=limits)


def test_weights_are_the_sites_own_file_of_that_name(tmp_path: Path) -> None:
    named = run(**changed("model", pretrained="vit.safetensors"))
    assert "no weights of that name" in refused(named, weights=tmp_path)
    (tmp_path / "vit.safetensors").write_bytes(b"")
    taken = asked(named, LimitsConfig(weights=["any"]), weights=tmp_path)
    assert taken.model["pretrained"] == str(tmp_path / "vit.safetensors")


def test_every_word_of_a_refusal_comes_from_the_run_or_the_limits(tmp_path: Path) -> None:
    # The refusal is sent: nothing of the site may be in it.
    for config in (run(**changed("model", pretrained="x.safetensors")), run(rounds=10**6), run(image_size=4096)):
        assert str(tmp_path) not in refused(config, weights=tmp_path)


def test_unknown_fields_are_refused_as_the_contract_does() -> None:
    document = json.loads(run().to_json()) | {"sites": 3}
    with pytest.raises(MedVeilError, match="unknown key 'sites'"):
        checked_run({RUN_KEY: json.dumps(document)}, LimitsConfig(), Path("/none"))


@pytest.mark.parametrize(
    ("limits", "changes", "says"),
    [
        ({"scopes": ["head", "bias"]}, {}, "limits.scopes: this site does not train what 'train.scope' says"),
        ({"scopes": ["full"]}, changed("train", scope="last-2-blocks"), "limits.scopes: this site does not train"),
        ({"noise": 1.0}, {}, "limits.noise: this site trains with noise of 1 at least, and the run has no 'privacy'"),
    ],
)
def test_what_a_site_does_not_do_is_refused_by_its_limit(
    limits: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    assert refused(run(**changes), LimitsConfig(**limits)).startswith(says)
    assert asked(run(**changes), LimitsConfig(scopes=["full", "last-N-blocks"])).train["scope"]


@pytest.mark.parametrize(
    "limits",
    [
        {"scopes": []},
        {"scopes": ["everything"]},
        {"clip": 0.0},
        {"clip": float("inf")},
        {"clip": float("nan")},
        {"noise": -1.0},
        {"hours": "always"},
        {"hours": "24:00-06:00"},
        {"hours": "19:00-19:00"},
        {"hours": "19:00-06:60"},
    ],
)
def test_limits_that_make_no_sense_stop_a_site_from_starting(limits: dict[str, Any]) -> None:
    (name,) = limits
    with pytest.raises(ConfigError, match=rf"'limits\.{name}'"):
        LimitsConfig(**limits).check(where="site.yaml")


@pytest.mark.parametrize(
    ("hours", "works", "rests"),
    [
        (None, ["00:00", "12:00", "23:59"], []),
        ("08:00-17:30", ["08:00", "17:29"], ["07:59", "17:30", "23:00"]),
        ("19:00-06:30", ["19:00", "23:59", "00:00", "06:29"], ["06:30", "12:00", "18:59"]),
    ],
)
def test_work_begins_in_the_hours_a_site_sets(hours: str | None, works: list[str], rests: list[str]) -> None:
    for at in works:
        check_hours(hours, now=datetime.fromisoformat(f"2026-01-02T{at}"))
    for at in rests:
        with pytest.raises(PolicyError, match=r"limits\.hours: this site begins work from"):
            check_hours(hours, now=datetime.fromisoformat(f"2026-01-02T{at}"))


def pixels(**changes: Any) -> RunConfig:
    masked = to_mapping(MaskedConfig(decoder_width=16, decoder_heads=2))
    model = {**to_mapping(MODEL), "classes": None}
    return run(**{"task": MASKED, "pretrain": masked, "classes": [], "model": model, **changes})


def test_a_run_that_learns_pixels_is_taken_with_what_it_leaves_unsaid_filled() -> None:
    willing = LimitsConfig(tasks=[MASKED])
    assert asked(pixels(), willing) == pixels()
    assert asked(pixels(pretrain={"mask": 0.5}), willing).pretrain == to_mapping(MaskedConfig(mask=0.5))


def test_who_agreed_to_classes_is_not_made_to_learn_pixels() -> None:
    said = refused(pixels())
    assert said == "limits.tasks: this site takes no part in 'masked-autoencoding'; it accepts single-label"
    assert "limits.tasks: this site takes no part in 'single-label'" in refused(run(), LimitsConfig(tasks=[MASKED]))
    for tasks in ([], ["multi-label"]):
        with pytest.raises(ConfigError, match=r"limits\.tasks"):
            LimitsConfig(tasks=tasks).check(where="site.yaml")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classes": ["none", "mass"]}, "'classes' names classes, and the task has none"),
        ({"pretrain": {"mask": 1.0}}, "'mask' is out of its range"),
        ({"pretrain": {"mask": "a" * 99}}, "has a value of the wrong type"),
        ({"pretrain": {"decoder_width": 10**9}}, "'decoder_width' is out of its range; 4 to 2048"),
        ({"pretrain": {"depth": 2}}, "unknown key 'depth'"),
        ({"pretrain": {"normalise_pixels": True}}, "that of negated pixels is another"),
        ({"stem_init": "secret"}, "fits no public one"),
        ({"stem_init": "public"}, "no public stem fits"),
        ({"train": {"mixup": 0.5}}, "'mixup' is set, and masked autoencoding learns no classes"),
        ({"model": {**to_mapping(MODEL), "classes": 2}}, "'model.classes' is not what the rest of the run makes it"),
        ({"pretrain": {"decoder_width": 2048, "decoder_depth": 32, "decoder_heads": 8}}, "limits.most_memory"),
    ],
)
def test_pixels_are_learned_within_the_contract_and_the_limits_alone(changes: dict[str, Any], says: str) -> None:
    assert says in refused(pixels(**changes), LimitsConfig(most_memory=2000, tasks=[MASKED]))
