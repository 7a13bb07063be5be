from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from medveil.errors import ConfigError, FormatError, StorageError
from models import checkpoint
from models.checkpoint import adapt_channels, create, fold_normalisation
from models.resampled import resized_patches
from models.vit import build_vit, model_hash, normalise

CLIP = "vit_xsmall_patch16_clip_224"
SMALL = {"img_size": 32, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3}


def original(name="vit_tiny_patch16_224", *, seed=21, **changes):
    """A timm model whose every tensor is random, as trained ones are."""
    torch.manual_seed(seed)
    model = create(name, **{**SMALL, "num_classes": 3, **changes}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def save(model, path):
    state = model.state_dict()
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        np.savez(path, **google_archive(state))
    return str(path)


def google_archive(state, heads=3):
    """The layout of the original JAX release, written from its own names."""
    numbers = {name: tensor.numpy() for name, tensor in state.items()}
    width = numbers["pos_embed"].shape[-1]
    made = {
        "embedding/kernel": numbers["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": numbers["patch_embed.proj.bias"],
        "cls": numbers["cls_token"],
        "Transformer/posembed_input/pos_embedding": numbers["pos_embed"],
        "Transformer/encoder_norm/scale": numbers["norm.weight"],
        "Transformer/encoder_norm/bias": numbers["norm.bias"],
        "head/kernel": numbers["head.weight"].T,
        "head/bias": numbers["head.bias"],
    }
    for i in range(SMALL["depth"]):
        theirs, ours = f"Transformer/encoderblock_{i}/", f"blocks.{i}."
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        for j, part in enumerate(("query", "key", "value")):
            rows = slice(j * width, (j + 1) * width)
            made[f"{attention}{part}/kernel"] = numbers[f"{ours}attn.qkv.weight"][rows].T.reshape(width, heads, -1)
            made[f"{attention}{part}/bias"] = numbers[f"{ours}attn.qkv.bias"][rows].reshape(heads, -1)
        made[f"{attention}out/kernel"] = numbers[f"{ours}attn.proj.weight"].T.reshape(heads, -1, width)
        made[f"{attention}out/bias"] = numbers[f"{ours}attn.proj.bias"]
        for norm, number in (("norm1", 0), ("norm2", 2)):
            made[f"{theirs}LayerNorm_{number}/scale"] = numbers[f"{ours}{norm}.weight"]
            made[f"{theirs}LayerNorm_{number}/bias"] = numbers[f"{ours}{norm}.bias"]
        for j in range(2):
            made[f"{theirs}MlpBlock_3/Dense_{j}/kernel"] = numbers[f"{ours}mlp.fc{j + 1}.weight"].T
            made[f"{theirs}MlpBlock_3/Dense_{j}/bias"] = numbers[f"{ours}mlp.fc{j + 1}.bias"]
    return made


def as_timm_sees(images, model):
    """timm's own preprocessing: scale to 0..1, subtract the mean, divide by the deviation."""
    mean = torch.tensor(model.pretrained_cfg["mean"]).view(1, -1, 1, 1)
    std = torch.tensor(model.pretrained_cfg["std"]).view(1, -1, 1, 1)
    return (images.float() / 255 - mean) / std


def compare(ours, theirs, images, atol=1e-5):
    with torch.no_grad():
        wanted = theirs(as_timm_sees(images, theirs))
        found = ours.eval()(normalise(images))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=atol)
    return wanted


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_local_file_gives_the_original(suffix, tmp_path, tiny, draw_images):
    theirs = original()
    ours = build_vit(tiny(pretrained=save(theirs, tmp_path / f"weights{suffix}")), seed=0)
    compare(ours, theirs, draw_images(theirs))
    assert model_hash(ours) == model_hash(theirs)  # its mean and deviation are 1/2: nothing to fold
    assert "state_dict" not in ours.pretrained_cfg


def test_own_mean_and_deviation_are_folded_and_a_bias_is_made(tmp_path, tiny, draw_images):
    theirs = original(CLIP)
    assert theirs.patch_embed.proj.bias is None
    ours = build_vit(tiny(name=CLIP, pretrained=save(theirs, tmp_path / "clip.safetensors")), seed=0)
    assert ours.patch_embed.proj.bias.shape == (48,)
    wanted = compare(ours, theirs, draw_images(theirs))
    with torch.no_grad():
        strayed = theirs(normalise(draw_images(theirs))) - wanted
    assert strayed.abs().max() > 1e-2, "unfolded, the logits must differ"


def test_configured_mean_and_deviation_win(tmp_path, tiny, draw_images):
    theirs = original()
    path = save(theirs, tmp_path / "weights.safetensors")
    mean, std = [0.2, 0.4, 0.6], [0.1, 0.2, 0.3]
    ours = build_vit(tiny(pretrained=path, mean=mean, std=std), seed=0)
    theirs.pretrained_cfg.update(mean=mean, std=std)
    compare(ours, theirs, draw_images(theirs))


@pytest.mark.parametrize("named", ["warm", "warm/model.safetensors"])
def test_a_folder_says_what_its_weights_expect_before_their_name_does(tmp_path, tiny, draw_images, named):
    theirs = original(CLIP)
    theirs.pretrained_cfg.update(mean=[0.5] * 3, std=[0.5] * 3)  # as an export is, whatever its architecture
    (tmp_path / "warm").mkdir()
    save(theirs, tmp_path / "warm/model.safetensors")
    beside = tmp_path / "warm/config.json"
    beside.write_text(json.dumps({"architecture": CLIP, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}))
    ours = build_vit(tiny(name=CLIP, pretrained=str(tmp_path / named)), seed=0)
    compare(ours, theirs, draw_images(theirs))
    # Without it the name's own would have been folded in; and what was set goes before both.
    mean, std = [0.2, 0.4, 0.6], [0.1, 0.2, 0.3]
    ours = build_vit(tiny(name=CLIP, pretrained=str(tmp_path / named), mean=mean, std=std), seed=0)
    theirs.pretrained_cfg.update(mean=mean, std=std)
    compare(ours, theirs, draw_images(theirs))
    beside.unlink()
    ours = build_vit(tiny(name=CLIP, pretrained=str(tmp_path / named)), seed=0)
    compare(ours, original(CLIP), draw_images(theirs))


@pytest.mark.parametrize("text", ["{", '{"pretrained_cfg": {"mean": "half"}}', '{"pretrained_cfg": {"std": [true]}}'])
def test_what_lies_beside_weights_is_read_as_a_strangers(tmp_path, tiny, text):
    save(original(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(FormatError, match=r"config\.json"):
        build_vit(tiny(pretrained=str(tmp_path)), seed=0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mean": [0.1, 0.2]}, "model.mean: has 2 values for weights of 3 channels"),
        ({"std": [0.1, 0.0, 0.2]}, "deviations above zero"),
        ({"std": [-1.0]}, "deviations above zero"),
        ({"mean": [float("nan")]}, "finite values"),
    ],
)
def test_means_and_deviations_that_cannot_be_are_refused(changes, says, tmp_path, tiny):
    path = save(original(), tmp_path / "weights.safetensors")
    with pytest.raises(ConfigError, match=says):
        build_vit(tiny(pretrained=path, **changes), seed=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("size", [{"image_size": 64}, {"image_size": 40, "patch": 8}, {"patch": 2}, {"image_size": 48}])
def test_sizes_are_resampled_as_timm_does(suffix, size, tmp_path, tiny, draw_images):
    small = original()
    path = save(small, tmp_path / f"weights{suffix}")
    config = tiny(pretrained=path, **size)
    ours = build_vit(config, seed=0)
    overlay = {"file": path, "custom_load": suffix == ".npz", "num_classes": 3}
    given = {**SMALL, "img_size": config.image_size, "patch_size": config.patch, "num_classes": 3}
    theirs = create("vit_tiny_patch16_224", pretrained=True, pretrained_cfg_overlay=overlay, **given).eval()
    assert ours.pos_embed.shape[1] == 1 + (config.image_size // config.patch) ** 2
    compare(ours, theirs, draw_images(ours))
    assert not torch.equal(ours.pos_embed[:, 1:5], small.pos_embed[:, 1:5])
    assert torch.equal(ours.pos_embed[:, :1], small.pos_embed[:, :1])


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_another_size_ends_on_the_same_bits_whatever_the_number_of_threads(suffix, tmp_path, tiny):
    torch.manual_seed(3)
    wide = {**SMALL, "embed_dim": 96, "num_heads": 3, "img_size": 64, "patch_size": 8}
    path = save(create("vit_tiny_patch16_224", **wide), tmp_path / f"weights{suffix}")
    config = tiny(pretrained=path, width=96, heads=3, image_size=28, patch=4)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(model_hash(build_vit(config, seed=0)))
    finally:
        torch.set_num_threads(before)
    assert len(set(found)) == 1


def test_resampled_weights_lie_on_a_grid_far_coarser_than_what_machines_differ_by():
    torch.manual_seed(4)
    moved = resized_patches(torch.randn(12, 3, 8, 8), (4, 4)).double()
    steps = moved / 2.0 ** (math.frexp(float(moved.abs().max()))[1] - 16)
    assert moved.shape == (12, 3, 4, 4)
    assert torch.equal(steps, steps.round())
    assert len(steps.unique()) > 500


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", CLIP])
def test_a_grey_image_gives_what_its_rgb_copy_gave(name, tmp_path, tiny, draw_images):
    theirs = original(name)
    ours = build_vit(tiny(name=name, channels=1, pretrained=save(theirs, tmp_path / "weights.safetensors")), seed=0)
    grey = draw_images(ours)
    with torch.no_grad():
        wanted = theirs(as_timm_sees(grey.expand(-1, 3, -1, -1), theirs))
        torch.testing.assert_close(ours.eval()(normalise(grey)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 3, 6])
def test_weights_of_one_channel_serve_several(channels, tmp_path, tiny, draw_images):
    theirs = original(in_chans=1)
    ours = build_vit(tiny(channels=channels, pretrained=save(theirs, tmp_path / "weights.safetensors")), seed=0)
    images = draw_images(theirs)
    with torch.no_grad():
        wanted = theirs(normalise(images))
        found = ours.eval()(normalise(images.expand(-1, channels, -1, -1)))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_unset_channels_and_classes_are_the_files(suffix, tmp_path, tiny):
    theirs = original(in_chans=1, num_classes=5) if suffix != ".npz" else original(num_classes=5)
    path = save(theirs, tmp_path / f"weights{suffix}")
    ours = build_vit(tiny(channels=None, classes=None, pretrained=path), seed=0)
    assert model_hash(ours) == model_hash(theirs)


def test_another_number_of_classes_draws_a_new_head_from_the_seed(tmp_path, tiny):
    theirs = original(num_classes=5)
    path = save(theirs, tmp_path / "weights.safetensors")
    first, again, other = (build_vit(tiny(pretrained=path), seed=seed) for seed in (0, 0, 1))
    assert first.head.weight.shape == (3, 48)
    assert model_hash(first) == model_hash(again) != model_hash(other)
    for name, tensor in first.state_dict().items():
        assert name.startswith("head.") or torch.equal(tensor, theirs.state_dict()[name])


def test_weights_without_a_head_get_one(tmp_path, tiny):
    path = save(original(num_classes=0), tmp_path / "weights.safetensors")
    assert build_vit(tiny(pretrained=path), seed=0).head.out_features == 3
    with pytest.raises(ConfigError, match="no classifier"):
        build_vit(tiny(pretrained=path, classes=None), seed=0)


def test_loading_leaves_the_global_generator_alone(tmp_path, tiny):
    path = save(original(), tmp_path / "weights.safetensors")
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    build_vit(tiny(pretrained=path), seed=0)
    assert torch.equal(torch.rand(2), wanted)


def spoiled(kind: str, folder: Path) -> Path:
    safe = Path(save(original(), folder / "whole.safetensors")).read_bytes()
    archive = Path(save(original(), folder / "whole.npz")).read_bytes()
    header = int.from_bytes(safe[:8], "little")
    contents = {
        "cut.safetensors": safe[: len(safe) // 2],
        "beheaded.safetensors": safe[: header // 2],
        "empty.safetensors": b"",
        "text.safetensors": b"not weights at all, but long enough for a header",
        "giant.safetensors": (2**40).to_bytes(8, "little") + safe[8:],
        "list.safetensors": (2).to_bytes(8, "little") + b"[]",
        "nothing.safetensors": (2).to_bytes(8, "little") + b"{}",
        "cut.npz": archive[: len(archive) // 2],
        "empty.npz": b"",
        "text.npz": b"not an archive",
    }
    path = folder / kind
    if kind in contents:
        path.write_bytes(contents[kind])
    elif kind == "many.safetensors":
        one = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        header = json.dumps({str(number): one for number in range(2**14 + 1)}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header)
    elif kind == "long.safetensors":
        safetensors.torch.save_file({"x" * 600: torch.zeros(1)}, path)
    elif kind == "foreign.npz":
        np.savez(path, images=np.zeros((2, 3)))
    elif kind == "objects.npz":
        np.savez(path, **{"embedding/kernel": np.array([{}], dtype=object)})
    return path


@pytest.mark.parametrize(
    "kind",
    [
        *(f"{kind}.safetensors" for kind in ("cut", "beheaded", "empty", "text", "giant", "list", "nothing")),
        *("many.safetensors", "long.safetensors"),
        *("cut.npz", "empty.npz", "text.npz", "foreign.npz", "objects.npz"),
    ],
)
def test_files_that_are_no_weights_are_refused(kind, tmp_path, tiny):
    path = spoiled(kind, tmp_path)
    with pytest.raises(FormatError) as caught:
        build_vit(tiny(pretrained=str(path)), seed=0)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_files_and_unknown_kinds_are_refused(tmp_path, tiny):
    with pytest.raises(StorageError, match="no such weights file"):
        build_vit(tiny(pretrained=str(tmp_path / "none.safetensors")), seed=0)
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    with pytest.raises(StorageError, match=r"has no weights in it; an export of plain images has 'model.safetensors'"):
        build_vit(tiny(pretrained=str(folder)), seed=0)
    for kind in ("weights.onnx", "yes", ""):
        with pytest.raises(ConfigError, match="is no weights file"):
            build_vit(tiny(pretrained=kind), seed=0)


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("changes", [{"width": 96, "heads": 3}, {"depth": 3}, {"depth": 1}, {"width": 96, "depth": 5}])
def test_weights_of_another_architecture_are_refused(suffix, changes, tmp_path, tiny):
    path, sizes = save(original(), tmp_path / f"weights{suffix}"), {"width": 48, "depth": 2}
    with pytest.raises(ConfigError) as caught:
        build_vit(tiny(pretrained=path, **changes), seed=0)
    said = str(caught.value)
    assert said.startswith(f"{path}: does not fit '")
    for name in set(changes) & set(sizes):
        assert f"{name} {sizes[name]}" in said
        assert f"{name} {changes[name]}" in said
        assert f"model.{name}={sizes[name]}" in said
    assert "size mismatch" not in said
    assert "state_dict" not in said


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            lambda state: state.update({"blocks.0.mlp.fc1.weight": torch.ones(8, 64)}),
            "'blocks.0.mlp.fc1.weight' is 8 x ",
        ),
        (
            lambda state: state.update({"blocks.1.norm1.beta": state.pop("blocks.1.norm1.bias")}),
            r"it has no tensor 'blocks\.1\.norm1\.bias' \(it has 'blocks\.1\.norm1\.beta'\)",
        ),
        (
            lambda state: [state.pop(f"blocks.1.norm{one}.bias") for one in (1, 2)],
            r"it has no tensor 'blocks\.1\.norm1\.bias' and 1 more",
        ),
        (
            lambda state: state.update({"blocks.1.attn.qkv.weights": torch.ones(1)}),
            r"a tensor 'blocks\.1\.attn\.qkv\.weights', .* \(the model has 'blocks\.1\.attn\.qkv\.weight'\)",
        ),
        (
            lambda state: state.update({"reg_token": torch.ones(1, 4, 64)}),
            "a tensor 'reg_token', and the model has none",
        ),
        (lambda state: state.update({"x\x1b[2J": torch.ones(1)}), "a tensor 'x.*', and the model has none"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(edit, says, tmp_path, tiny):
    path = tmp_path / "weights.safetensors"
    state = dict(original().state_dict())
    edit(state)
    safetensors.torch.save_file(state, path)
    with pytest.raises(ConfigError, match=says) as caught:
        build_vit(tiny(pretrained=str(path)), seed=0)
    assert "\x1b" not in str(caught.value)
    assert "model.pretrained=false" in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path, tiny):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(torch.nn.Linear(3, 3).state_dict(), path)
    for name in ("vit_tiny_patch16_224", "vit_base_patch16_siglip_gap_224"):  # timm loads the second without a word
        with pytest.raises(ConfigError, match="does not fit"):
            build_vit(tiny(name=name, pretrained=str(path)), seed=0)


def test_the_hub_out_of_reach_names_the_cure(tiny, monkeypatch):
    import huggingface_hub.constants  # noqa: PLC0415 - only this test touches the hub client

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    config = tiny(pretrained="True", width=None, depth=None, heads=None, name="vit_tiny_patch16_384")
    with pytest.raises(ConfigError) as caught:
        build_vit(config, seed=0)
    assert "cannot be loaded" in caught.value.problem
    assert "give the path" in caught.value.cure


def test_hub_weights_are_resampled_folded_and_given_a_head(tiny, monkeypatch, draw_images):
    torch.manual_seed(8)
    theirs = create("test_vit3").eval()
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", lambda *_, **__: theirs.state_dict())
    config = tiny(pretrained="true", name="test_vit3", width=None, depth=None, heads=None, image_size=48, patch=8)
    ours = build_vit(config, seed=0)
    assert torch.equal(ours.blocks[0].attn.qkv.weight, theirs.blocks[0].attn.qkv.weight)
    assert (ours.pos_embed.shape[1], ours.head.out_features) == (1 + 36, 3)
    given = {"img_size": 48, "patch_size": 8, "num_classes": 3}
    resampled = create("test_vit3", pretrained=True, **given).eval()
    resampled.head.load_state_dict(ours.head.state_dict())
    compare(ours, resampled, draw_images(ours))


def test_hub_weights_are_for_their_own_architecture(tiny):
    with pytest.raises(ConfigError, match=r"model\.width: timm's weights"):
        build_vit(tiny(pretrained="true"), seed=0)


def test_folding_is_exact_in_double_precision():
    model = original(CLIP).double()
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.1, 0.5, 0.7]).double(), torch.tensor([0.2, 0.5, 0.9]).double()
    with torch.no_grad():
        wanted = model((images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))
        fold_normalisation(model, mean=mean.tolist(), std=std.tolist())
        torch.testing.assert_close(model(2 * images - 1), wanted, rtol=0, atol=1e-12)


def test_folding_nothing_changes_nothing():
    model = original(CLIP)
    before = model_hash(model)
    fold_normalisation(model, mean=[0.5], std=[0.5])
    adapt_channels(model, 3)
    assert model_hash(model) == before


KERNEL = "patch_embed.proj.weight"


@pytest.mark.parametrize(
    ("kernel", "head"),
    [
        ((16, 3, 4, 4), ()),
        ((16, 3, 4, 4), (10**9, 0)),
        ((16, 3, 4, 4), (2**16 + 1, 0)),
        ((0, 3_000_000, 4, 4), (2, 16)),
        ((16, 0, 4, 4), (2, 16)),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_sizes_that_no_weights_have_are_refused_before_a_model_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kernel: tuple[int, ...], head: tuple[int, ...]
) -> None:
    """An empty tensor of a few hundred bytes may claim a head of terabytes, and a head may be a single number."""

    def built(*_: object, **__: object) -> None:
        raise AssertionError("a model was built")

    path = tmp_path / f"odd{suffix}"
    if suffix == ".npz":
        width, channels, *sides = kernel
        np.savez(
            path,
            **{
                "embedding/kernel": np.zeros((*sides, channels, width), np.float32),
                "head/bias": np.zeros(head, np.float32),
                "Transformer/encoderblock_0/x": np.zeros(1, np.float32),
            },
        )
    else:
        safetensors.torch.save_file({KERNEL: torch.zeros(kernel), "head.weight": torch.zeros(head)}, path)
    monkeypatch.setattr(checkpoint, "create", built)
    with pytest.raises(FormatError, match="claims sizes no weights have"):
        checkpoint.load_file("vit_tiny_patch16_224", path, {"img_size": 16, "patch_size": 4})


def test_an_archive_that_claims_more_than_it_holds_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (16, 16, 3, 100000000), }"
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("embedding/kernel.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    with pytest.raises(FormatError, match="claims 307200000000 bytes, and the archive says 0"):
        checkpoint.load_file("vit_tiny_patch16_224", path, {"img_size": 16, "patch_size": 4})
