"""Pretrained weights: timm's own loading, then normalisation and channels folded into the patch embedding.

Order matters. timm loads a checkpoint with its own number of channels and classes, and resamples patch and position
embeddings to the run's size; then the checkpoint's mean and deviation go into weight and bias, channel by channel;
only then are channels summed or repeated. So a grey image gives what its RGB copy gives the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medveil import npz
from medveil.errors import ConfigError, DataError, FormatError, StorageError
from medveil.files import storage_error
from models.exported import EXPECTED, is_export, refuse_changed
from models.fits import difference, refuse_other_sizes, sizes_of
from models.torchvision_ops import declare_missing_ops

declare_missing_ops()

import timm  # noqa: E402 - torchvision's operators must be declared before timm imports it
from timm.models import load_state_dict  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".npz")
_BIAS = "patch_embed.proj.bias"
_NPZ_PREFIXES = ("", "opt/target/", "params/", "params/img/")
_SIZES = {"in_chans": (1, 2**8), "num_classes": (0, 2**16), "depth": (1, 2**10)}
"""Least and most of what a weights file tells of its model; ImageNet-21k has 21,843 classes."""
# Fixed, so that a tensor no checkpoint replaced can be told by its still having this seed's values.
_LOADING_SEED = 0x6D656476


def create(name: str, **arguments: Any) -> Any:
    """`timm.create_model`, whose declared type says less than a ViT needs."""
    return timm.create_model(name, **arguments)


def load_hub(name: str, arguments: dict[str, Any]) -> VisionTransformer:
    """Build the named model with timm's published weights, from the network or the local cache.

    Raises
    ------
    ConfigError
        The weights cannot be fetched, or do not fit the arguments.
    """
    torch.default_generator.manual_seed(_LOADING_SEED)
    try:
        model: VisionTransformer = create(name, pretrained=True, **arguments)
    except Exception as error:  # timm, the hub client and torch each raise types of their own
        raise ConfigError(
            f"timm's weights of '{name}' cannot be loaded: {_short(error)}",
            where="model.pretrained",
            cure="give the path of a downloaded .safetensors, .pth or .npz file, or 'false' for fresh weights",
        ) from error
    return model


def load_file(name: str, path: Path, arguments: dict[str, Any]) -> VisionTransformer:
    """Build the named model with the weights of a local file.

    Parameters
    ----------
    name
        timm name of the architecture.
    path
        A state dict (.safetensors, .pth, .pt, .bin; read with `weights_only`) or a Google ViT archive (.npz).
    arguments
        What `timm.create_model` gets beside the name: the run's `img_size` and `patch_size` and the architecture's
        overrides. Channels and classes are the file's own.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    FormatError
        It is no checkpoint, is damaged, or would have to run code.
    ConfigError
        Its tensors do not fit the named model.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        cure = f"'false', 'true' or a path ending in {', '.join(SUFFIXES)}"
        raise ConfigError(f"'{path}' is no weights file", where="model.pretrained", cure=cure)
    _refuse_unreadable(path)
    source, found = _peek_archive(path) if suffix == ".npz" else _peek_state(path)
    _refuse_sizes(found, path)
    given = arguments | {key: found[key] for key in ("num_classes", "in_chans") if key in found}
    overlay: dict[str, Any] = {**source, "label_offset": 0}
    if is_export(path):
        overlay |= {"mean": (EXPECTED,), "std": (EXPECTED,)}
    if "num_classes" in found:
        size = arguments["img_size"]
        overlay |= {"num_classes": found["num_classes"], "input_size": (found["in_chans"], size, size)}
    with torch.device("meta"):
        outline = create(name, pretrained=False, **given)
    refuse_other_sizes(found, outline, name, where=path)
    refuse_changed(path, source.get("state_dict", {}), heads_in(outline))
    _absorb_made_bias(source.get("state_dict", {}), outline)
    torch.default_generator.manual_seed(_LOADING_SEED)
    try:
        model = create(name, pretrained=True, pretrained_cfg_overlay=overlay, **given)
    except Exception as error:  # timm raises what its converters meet: KeyError, RuntimeError, AttributeError
        # Its own words are a page of tensors, or of pickled code.
        said = difference(source.get("state_dict", {}), outline) if "state_dict" in source else None
        problem = said or f"timm cannot make one of it ({type(error).__name__})"
        cure = "name the architecture it was saved from, or set model.pretrained=false"
        raise ConfigError(f"does not fit '{name}': {problem}", where=path, cure=cure) from error
    for key in source:
        model.pretrained_cfg.pop(key, None)
    _refuse_unloaded(model, name, given, where=path)
    _refuse_not_finite(model, where=path)
    loaded: VisionTransformer = model
    return loaded


def heads_in(model: VisionTransformer) -> int:
    """Attention heads of a block, whatever it calls its attention."""
    return next(int(each.num_heads) for each in model.modules() if hasattr(each, "num_heads"))  # type: ignore[arg-type]


def fold_normalisation(model: VisionTransformer, *, mean: Sequence[float], std: Sequence[float]) -> None:
    """Make a model that expects ``(v / maxval - mean) / std`` expect ``(2 v - maxval) / maxval``, in place.

    With x = (2v - maxval) / maxval the old input of channel c is a_c x + b_c, where a_c = 1 / (2 std_c) and
    b_c = (1/2 - mean_c) / std_c: a_c scales the weight, and b_c goes to the bias, which is made when absent. A patch
    embedding has no padding, so this is exact everywhere.

    Parameters
    ----------
    mean, std
        One value per channel of the patch embedding, or equal values that stand for all.

    Raises
    ------
    ConfigError
        Their number is not that of the channels, a deviation is not positive, or a value is not finite.
    """
    projection: nn.Conv2d = model.patch_embed.proj
    means = _per_channel(mean, projection.in_channels, "mean")
    deviations = _per_channel(std, projection.in_channels, "std")
    if not bool((deviations > 0).all()):
        raise ConfigError(f"is {list(std)}", where="model.std", cure="deviations above zero")
    shift = (0.5 - means) / deviations
    weight = projection.weight.detach().double()
    offset = (weight * shift).sum(dim=(1, 2, 3))
    with torch.no_grad():
        projection.weight.copy_(weight * (0.5 / deviations))
        if projection.bias is not None:
            projection.bias.copy_(projection.bias.double() + offset)
        elif bool(shift.any()):
            projection.bias = nn.Parameter(offset.to(projection.weight.dtype))


def adapt_channels(model: VisionTransformer, channels: int) -> None:
    """Sum the patch embedding's channels into one, or repeat and rescale them into several, in place.

    timm's rule (`adapt_input_conv`), for any number of channels in the weights.
    """
    old: nn.Conv2d = model.patch_embed.proj
    had = old.in_channels
    if had == channels:
        return
    weight = old.weight.detach().double()
    if channels == 1:
        weight = weight.sum(dim=1, keepdim=True)
    else:
        weight = weight[:, torch.arange(channels) % had] * (had / channels)
    old.weight = nn.Parameter(weight.to(old.weight.dtype))
    old.in_channels = channels
    model.in_chans = channels


def _refuse_unreadable(path: Path) -> None:
    try:
        with open(path, "rb"):
            return
    except FileNotFoundError:
        raise StorageError("no such weights file", where=path) from None
    except OSError as error:
        raise storage_error(error, path, "read the weights") from error


def _peek_state(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        state = load_state_dict(str(path))
    except Exception as error:  # safetensors, zipfile, pickle and torch each raise types of their own
        cure = "give a whole .safetensors file, or a .pth file of tensors only"
        raise FormatError(f"cannot be read as weights: {_short(error)}", where=path, cure=cure) from error
    if not isinstance(state, dict) or not any(isinstance(each, torch.Tensor) for each in state.values()):
        raise FormatError("holds no tensors", where=path, cure="give a state dict")
    found = sizes_of(state)
    weight = state.get("patch_embed.proj.weight")
    if isinstance(weight, torch.Tensor) and weight.ndim == 4:
        head = state.get("head.weight")
        found |= {"in_chans": weight.shape[1], "num_classes": _first(getattr(head, "shape", (0,)))}
    return {"state_dict": state}, found


def _peek_archive(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        shapes = npz.shapes(path)
    except DataError as error:
        raise FormatError(error.problem, where=path, cure="give a whole .npz file") from None
    prefix = next((each for each in _NPZ_PREFIXES if len(shapes.get(f"{each}embedding/kernel", ())) == 4), None)
    if prefix is None:
        raise FormatError("is not a Google ViT archive", where=path, cure="it needs an 'embedding/kernel' of 4 axes")
    stacked = shapes.get(f"{prefix}Transformer/encoderblock/LayerNorm_0/scale")
    blocks = {key.split("encoderblock_")[1].split("/")[0] for key in shapes if "encoderblock_" in key}
    found = {
        "in_chans": shapes[f"{prefix}embedding/kernel"][2],
        "width": shapes[f"{prefix}embedding/kernel"][3],
        "num_classes": _first(shapes.get(f"{prefix}head/bias", (0,))),
        "depth": stacked[0] if stacked else len(blocks),
    }
    return {"file": str(path), "custom_load": True}, found


def _first(shape: Sequence[int]) -> int:
    """Classes of a head's tensor, by its first axis; one that has none tells none, and is no head either."""
    return shape[0] if shape else -1


def _refuse_sizes(found: dict[str, int], where: Path) -> None:
    """Refuse sizes that no weights have, before a model of them is built: an empty tensor may claim any."""
    for name, (least, most) in _SIZES.items():
        if not least <= found.get(name, least) <= most:
            problem = f"claims sizes no weights have ({name} is not {least} to {most})"
            raise FormatError(problem, where=where, cure="give a whole weights file")


def _absorb_made_bias(state: dict[str, Any], outline: VisionTransformer) -> None:
    """Bring a state to an architecture whose patch embedding has no bias: see `models.stem.absorb_bias`.

    Folding a checkpoint's mean made it, in runs and in exports of an earlier MedVeil.
    """
    bias, position = state.get(_BIAS), state.get("pos_embed")
    if not isinstance(bias, torch.Tensor) or not isinstance(position, torch.Tensor):
        return
    if outline.patch_embed.proj.bias is not None or position.ndim != 3 or bias.shape != position.shape[2:]:
        # Whoever loads it says what does not fit.
        return
    first = 0 if outline.no_embed_class else outline.num_prefix_tokens
    moved = position.double().clone()
    moved[:, first:] += bias.double()
    state["pos_embed"] = moved.to(position.dtype)
    del state[_BIAS]


def _refuse_unloaded(model: VisionTransformer, name: str, arguments: dict[str, Any], *, where: Path) -> None:
    """Refuse a file that left tensors at their random start: timm loads some families without saying so."""
    torch.default_generator.manual_seed(_LOADING_SEED)
    fresh = create(name, pretrained=False, **arguments).state_dict()
    untouched = [
        key
        for key, tensor in model.state_dict().items()
        if tensor.ndim > 1 and bool(fresh[key].any()) and torch.equal(tensor, fresh[key])
    ]
    if untouched:
        more = f" and {len(untouched) - 1} more" if len(untouched) > 1 else ""
        raise ConfigError(f"does not fit '{name}': it has no '{untouched[0]}'{more}", where=where)


def _refuse_not_finite(model: VisionTransformer, *, where: Path) -> None:
    """Refuse a NaN among the weights: every site would train on it and none could say where it is from."""
    bad = next((name for name, tensor in model.state_dict().items() if not bool(tensor.isfinite().all())), None)
    if bad is not None:
        cure = "weights of a training that did not diverge"
        raise FormatError(f"its tensor '{bad}' holds values that are no numbers", where=where, cure=cure)


def _per_channel(values: Sequence[float], channels: int, name: str) -> torch.Tensor:
    given = list(values)
    if len(given) != channels and len(set(given)) == 1:
        given = given[:1] * channels
    if len(given) != channels:
        raise ConfigError(
            f"has {len(given)} values for weights of {channels} channels",
            where=f"model.{name}",
            cure="one value per channel of the weights",
        )
    tensor = torch.tensor(given, dtype=torch.float64)
    if not bool(tensor.isfinite().all()):
        raise ConfigError(f"is {given}", where=f"model.{name}", cure="finite values")
    return tensor.view(1, channels, 1, 1)


def _short(error: Exception, limit: int = 240) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]} ..."
