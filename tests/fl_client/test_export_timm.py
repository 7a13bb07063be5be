"""What the card of an export says to someone who has timm and no MedVeil: its lines are run as they stand."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from one_site import SIZE, evaluated
from PIL import Image

from crypto import sealed_file
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from fl_client.data.config import PhantomConfig
from fl_client.data.phantoms import draw_phantoms
from fl_client.deployment.own_keys import OwnKeys
from fl_client.export.folder import open_folder
from fl_client.export.held import MODELS, find_kept
from fl_client.export.kept import KeptModel, open_kept
from fl_client.export.predicting import predict_files
from fl_client.export.ready import from_folder
from fl_client.export.write import export_hidden, export_plain
from medveil.config import to_mapping
from medveil.errors import ConfigError, FormatError, IntegrityError
from models.checkpoint import create
from models.config import ModelConfig
from models.suited import why_refused
from models.vit import build_vit, normalise

Started = Callable[..., tuple[ModelConfig, Any]]
KEYS = OwnKeys(Keyring(SiteKey.generate("st-anna")))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> KeptModel:
    torch.set_num_threads(1)
    images, site = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("site")
    draw_phantoms(images, PhantomConfig(sites=1, images=40, classes=2, size=SIZE))
    evaluated(site, images, KEYS, width=16, depth=1)
    found = open_kept(find_kept(site / MODELS, None), KEYS.own)
    return replace(found, facts={**found.facts, "calibration": {**found.facts["calibration"], "temperature": 0.4}})


@pytest.fixture
def started(tmp_path: Path) -> Started:
    """Makes a run's first model from a checkpoint of an architecture, whose normalisation it folds in, tiny."""

    def make(name: str, *, channels: int = 3) -> tuple[ModelConfig, Any]:
        sizes = {"embed_dim": 24, "depth": 1, "num_heads": 2}
        with torch.random.fork_rng():
            torch.manual_seed(5)
            theirs = create(name, img_size=32, patch_size=16, num_classes=3, **sizes)
            for tensor in theirs.parameters():
                # Fresh ones are zeros in places, and would hide a difference there.
                torch.nn.init.normal_(tensor, std=0.3)
        safetensors.torch.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
        config = ModelConfig(
            name=name, image_size=32, patch=16, channels=channels, classes=3, width=24, depth=1, heads=2
        )
        ours = replace(config, pretrained=str(tmp_path / "theirs.safetensors"), mean=[0.48, 0.46, 0.41], std=[0.2] * 3)
        return config, build_vit(ours, seed=0).eval()

    return make


def kept_as(kept: KeptModel, config: ModelConfig, model: Any) -> KeptModel:
    """A model as a run without keys leaves it."""
    changed = {
        "model": to_mapping(config),
        "channels": config.channels,
        "image_size": config.image_size,
        "classes": ["a", "b", "c"],
        "keys": "none",
        "stem_init": "public",
        "stem_train": "averaged",
        "cipher": {"scheme": "none"},
    }
    facts = {**kept.facts, "run_config": {**kept.facts["run_config"], **changed}, "padded": [config.image_size] * 2}
    counts = {part: [20] * 3 for part in ("train", "validation", "test")}
    return KeptModel(dict(model.state_dict()), {**facts, "data": {**facts["data"], "counts": counts}})


def lines_of(card: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(found)


def run_lines(folder: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> tuple[str, np.ndarray]:
    lines = lines_of((folder / "MODEL_CARD.md").read_text())
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"pixels": torch.from_numpy(pixels.astype(np.float32))}
    with torch.no_grad():
        exec(lines, names)
    return lines, names["p"].numpy()


def test_the_lines_of_the_card_answer_as_predict_does(
    kept: KeptModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, asked = tmp_path / "model", tmp_path / "asked"
    export_plain(kept, KEYS, folder)
    pixels = np.random.default_rng(1).integers(0, 256, (3, 1, SIZE, SIZE), dtype=np.uint8)
    asked.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image[0]).save(asked / f"{number}.png")
    lines, said = run_lines(folder, pixels, monkeypatch)
    assert len(lines.splitlines()) == 3
    wanted = predict_files(from_folder(folder, no_keys), asked, device=CPU).probabilities
    np.testing.assert_allclose(said, wanted, atol=1e-5)
    assert np.ptp(wanted[:, 0]) > 1e-4


STEMS = {
    "class token": "vit_base_patch16_224",
    "CLIP: no bias": "vit_base_patch16_clip_224",
    "no bias, no row of a class token, parallel blocks": "vit_base_patch16_xp_224",
    "rotary positions, images of any size": "vit_small_patch16_lingbot",
}
OTHERS = [
    "vit_base_patch14_reg4_dinov2",
    "vit_base_patch16_siglip_gap_224",
    "flexivit_base",
    "test_vit3",
    "vit_base_patch14_dinov2",
    "vit_base_patch14_reg1_tipsv2",
    "vit_base_patch16_18x2_224",
    "vit_base_patch16_224_miil",
    "vit_base_patch16_clip_quickgelu_224",
    "vit_base_patch16_gap_224",
    "vit_base_patch16_plus_240",
    "vit_base_patch16_radio_v3",
    "vit_base_patch16_reg4_gap_256",
    "vit_base_patch16_rpn_224",
    "vit_base_patch16_siglip_224",
    "vit_base_patch32_siglip_256",
    "vit_base_patch32_siglip_gap_256",
    "vit_betwixt_patch16_gap_256",
    "vit_betwixt_patch16_reg1_gap_256",
    "vit_betwixt_patch16_reg4_gap_256",
    "vit_dlittle_patch16_reg1_gap_256",
    "vit_dpwee_patch16_reg1_gap_256",
    "vit_giant_patch14_dinov2",
    "vit_giant_patch14_reg1_tipsv2",
    "vit_giant_patch14_reg4_dinov2",
    "vit_giant_patch16_gap_224",
    "vit_giant_patch16_radio_v3",
    "vit_huge_patch14_224",
    "vit_huge_patch16_radio_v4",
    "vit_large_patch14_clip_224",
    "vit_pwee_patch16_reg1_gap_256",
    "vit_small_patch8_224",
    "vit_so150m2_patch16_reg1_gap_256",
    "vit_so150m_patch16_reg4_gap_256",
    "vit_so150m_patch16_reg4_map_256",
    "aimv2_1b_patch14_224",
    "beit3_base_patch16_224",
    "eva_large_patch14_196",
    "vit_small_patch16_dinov3",
    "vit_small_plus_patch16_dinov3",
    "vit_tiny_patch16_dinov3_qkvb",
    "eva02_base_patch14_224",
    "eva02_base_patch16_clip_224",
    "vit_small_patch16_rope_mixed_ape_224",
    "vit_pe_core_tiny_patch16_384",
    "vit_pe_lang_gigantic_patch14_448",
    "beitv2_base_patch16_224",
    "vit_relpos_small_patch16_224",
    "deit3_base_patch16_224",
    "eva02_base_patch14_448",
    "eva02_enormous_patch14_clip_224",
    "eva02_small_patch14_224",
    "eva02_small_patch14_336",
    "eva_giant_patch14_224",
    "eva_giant_patch14_clip_224",
    "vit_base_patch16_rope_224",
    "vit_base_patch16_rope_ape_224",
    "vit_base_patch16_rope_mixed_224",
    "vit_base_patch16_rope_reg1_gap_256",
    "vit_betwixt_patch16_rope_reg4_gap_256",
    "vit_giant_patch16_lingbot",
    "vit_pe_core_gigantic_patch14_448",
    "vit_pe_lang_large_patch14_448",
    "vit_relpos_base_patch16_cls_224",
    "vit_relpos_base_patch16_clsgap_224",
    "vit_relpos_base_patch16_plus_240",
    "vit_relpos_base_patch16_rpn_224",
    "vit_relpos_base_patch32_plus_rpn_256",
    "vit_srelpos_medium_patch16_224",
    "test_vit2",
    "test_vit4",
    "vit_intern300m_patch14_448",
]
"""One of each kind of architecture that a run accepts; `test_every_family_is_tried` looks for more."""


def faults(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.faults)


@pytest.mark.parametrize("name", [*(pytest.param(name, id=kind) for kind, name in STEMS.items()), *map(faults, OTHERS)])
def test_run_and_export_and_weights_to_begin_with_and_plain_timm_are_one_model(
    kept: KeptModel, started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config, model = started(name)
    pixels = np.random.default_rng(2).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    export_plain(kept_as(kept, config, model), KEYS, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    again = build_vit(replace(config, pretrained=str(weights)), seed=1).eval()
    renamed = shutil.copy(weights, tmp_path / "alone.safetensors")
    alone = build_vit(replace(config, pretrained=str(renamed), mean=[0.5] * 3), seed=1).eval()
    _, opened = open_folder(tmp_path / "model", no_keys)
    lines, said = run_lines(tmp_path / "model", pixels, monkeypatch)
    assert len(lines.splitlines()) == 3
    with torch.no_grad():
        numbers = normalise(torch.from_numpy(pixels))
        wanted = model(numbers)
        for each in (again, alone, opened):
            torch.testing.assert_close(each(numbers), wanted, rtol=1e-5, atol=1e-5)
        # The card's lines end in probabilities at the run's temperature.
        told = torch.softmax(wanted / kept.temperature, dim=1)
    np.testing.assert_allclose(said, told, atol=1e-5)
    assert float(wanted.std(dim=0).max()) > 1e-3, "the images are all one to it"
    # Whoever begins with it in grey has what its copy in three channels gives.
    grey = build_vit(replace(config, channels=1, pretrained=str(weights)), seed=1).eval()
    with torch.no_grad():
        torch.testing.assert_close(grey(numbers[:, :1]), model(numbers[:, :1].repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.faults
def test_every_family_is_tried() -> None:
    """Whatever of timm's a run accepts has the layers of one that is tried, whatever their sizes."""
    import timm  # noqa: PLC0415 - models.vit declares what its torchvision lacks, and must come first

    tried, missing = {_layers(name) for name in (*STEMS.values(), *OTHERS)}, []
    families = ("vision_transformer", "deit", "eva", "beit", "vision_transformer_relpos")
    for name in (name for family in families for name in timm.list_models(module=family)):
        layers = _layers(name)
        if layers is not None and layers not in tried:
            missing.append(name)
    assert not missing


def _layers(name: str) -> str | None:
    """Everything that is printed of an architecture but its sizes; None where no run accepts it."""
    try:
        with torch.device("meta"):
            made = create(name, embed_dim=24, depth=1, num_heads=2)
    except AssertionError:
        # Blocks that differ by number, which no run has in another depth.
        return None
    if why_refused(made) is not None:
        return None
    prefix = 0 if getattr(made, "no_embed_class", False) else made.num_prefix_tokens
    return f"{re.sub('[0-9]+', 'N', repr(made))} {made.global_pool} {prefix} {made.num_prefix_tokens > 0}"


def test_an_export_in_grey_begins_a_run_as_it_is(kept: KeptModel, tmp_path: Path) -> None:
    export_plain(kept, KEYS, tmp_path / "model")
    made, model = open_folder(tmp_path / "model", no_keys)
    given = {"width": 16, "depth": 1, "heads": made.arguments["num_heads"]}
    config = ModelConfig(image_size=SIZE, patch=made.arguments["patch_size"], channels=1, classes=2, **given)
    again = build_vit(replace(config, pretrained=str(tmp_path / "model" / "model.safetensors")), seed=1).eval()
    numbers = torch.rand(2, 1, SIZE, SIZE) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(again(numbers), model(numbers), rtol=1e-5, atol=1e-5)


def test_what_an_export_expects_cannot_be_told_otherwise(kept: KeptModel, started: Started, tmp_path: Path) -> None:
    config, model = started("vit_base_patch16_224")
    export_plain(kept_as(kept, config, model), KEYS, tmp_path / "model")
    weights = str(tmp_path / "model" / "model.safetensors")
    for name in ("mean", "std"):
        with pytest.raises(ConfigError, match=f"model.{name}: is .0.4, 0.5, 0.5.*exported by MedVeil"):
            build_vit(replace(config, pretrained=weights, **{name: [0.4, 0.5, 0.5]}), seed=0)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_exports_of_earlier_versions_begin_a_run_as_they_are(
    kept: KeptModel, started: Started, tmp_path: Path, version: int
) -> None:
    """An earlier one of CLIP has a bias that timm has not; version 1 says what it is in its config.json alone."""
    config, model = started("vit_base_patch16_clip_224")
    assert model.patch_embed.proj.bias is not None
    document = {"format": "medveil-model", "version": version, "domain": "plain"}
    words = {"format": "pt"} | ({} if version == 1 else {"medveil": json.dumps(document)})
    weights = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights, metadata=words)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (tmp_path / "config.json").write_text(json.dumps({**document, "sha256": {weights.name: digest}}))
    again = build_vit(replace(config, pretrained=str(weights)), seed=1).eval()
    numbers = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(again(numbers), model(numbers), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ('{"format": "medveil-model", "version": 99, "domain": "plain"}', FormatError, "version 99"),
        ('{"format": "medveil-model", "version": 4, "domain": "hidden"}', ConfigError, "reads hidden images"),
        ('{"format": "medveil-key", "version": 1}', FormatError, "is not a medveil-model file"),
        ("[1]", IntegrityError, "is damaged"),
        ("nonsense", FormatError, "is not JSON"),
    ],
)
def test_what_says_that_it_is_another_is_refused_by_name(
    started: Started, tmp_path: Path, words: str, kind: type, said: str
) -> None:
    config, model = started("vit_base_patch16_224")
    weights = tmp_path / "model.safetensors"
    safetensors.torch.save_file(model.state_dict(), weights, metadata={"medveil": words})
    with pytest.raises(kind, match=said):
        build_vit(replace(config, pretrained=str(weights)), seed=0)


def test_timm_loads_it_for_other_classes_and_channels_too(kept: KeptModel, tmp_path: Path) -> None:
    import timm  # noqa: PLC0415 - as above

    export_plain(kept, KEYS, tmp_path / "model")
    shutil.move(tmp_path / "model", tmp_path / "moved")
    whole = timm.create_model(f"local-dir:{tmp_path / 'moved'}", pretrained=True)
    assert whole.pretrained_cfg["label_names"] == ["none", "mass"]
    other = timm.create_model(f"local-dir:{tmp_path / 'moved'}", pretrained=True, num_classes=5, in_chans=3)
    assert other.head.out_features == 5
    block = "blocks.0.attn.qkv.weight"
    assert torch.equal(other.state_dict()[block], whole.state_dict()[block])
    # What timm itself would prepare images with brings 0 and 255 to -1 and 1.
    config = timm.data.resolve_model_data_config(whole)
    assert config["input_size"] == (1, SIZE, SIZE)
    assert set(config["mean"]) == set(config["std"]) == {0.5}


def test_a_sealed_export_shows_no_such_lines(kept: KeptModel, tmp_path: Path) -> None:
    export_hidden(kept, KEYS, tmp_path / "model")
    assert "```python" not in (tmp_path / "model" / "MODEL_CARD.md").read_text()


def no_keys() -> OwnKeys:
    raise AssertionError("a passphrase was asked for")
