"""Pretrained weights: timm's own loading, then normalisation and channels folded into the patch embedding.

Order matters. timm loads a checkpoint with its own number of channels and classes, its patch and position embeddings
resampled to the run's size (`models.resampled`); then the checkpoint's mean and deviation go into weight and bias,
channel by channel; only then are channels summed or repeated. So a grey image gives what its RGB copy gives the
original.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from medveil.errors import ConfigError, FormatError
from medveil.log import logger
from models.exported import EXPECTED, is_export, refuse_changed
from models.fits import difference, refuse_other_sizes
from models.published import source_of
from models.resampled import resampled
from models.states import Unwrapped, refuse_other_types, without_distillation
from models.timm_import import import_timm
from models.unpickled import check_suffix
from models.weight_files import check_readable, read_archive, read_state, short

import_timm()

import timm  # noqa: E402 - import_timm comes first

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_BIAS = "patch_embed.proj.bias"
_SIZES = ("img_size", "patch_size")
# Fixed, so that a tensor no checkpoint replaced can be told by its still having this seed's values.
_LOADING_SEED = 0x6D656476
_log = logger("model")


def create(name: str, **arguments: Any) -> Any:
    """`timm.create_model`, whose declared type says less than a ViT needs."""
    return timm.create_model(name, **arguments)


def load_hub(name: str, arguments: dict[str, Any]) -> VisionTransformer:
    """Build the named model with timm's published weights, from the network or the local cache.

    Raises
    ------
    ConfigError
        The weights cannot be fetched, do not fit the arguments, or are published as a pickle alone.
    """
    source = source_of(name)
    native = {key: value for key, value in arguments.items() if key not in _SIZES}
    torch.default_generator.manual_seed(_LOADING_SEED)
    try:
        model: VisionTransformer = create(name, pretrained=True, pretrained_cfg_overlay=source, **native)
    except Exception as error:  # timm, the hub client and torch each raise types of their own
        raise ConfigError(
            f"timm's weights of '{name}' cannot be loaded: {short(error)}",
            where="model.pretrained",
            cure="give the path of a downloaded .safetensors or .npz file, or 'false' for fresh weights",
        ) from error
    sized: VisionTransformer = create(name, pretrained=False, **arguments)
    sized.load_state_dict(resampled(model.state_dict(), sized))
    sized.pretrained_cfg = model.pretrained_cfg
    return sized


def load_file(name: str, path: Path, arguments: dict[str, Any]) -> VisionTransformer:
    """Build the named model with the weights of a local file.

    Parameters
    ----------
    name
        timm name of the architecture.
    path
        A state dict (.safetensors), under the names of the model or wrapped ones, or a Google ViT archive (.npz).
    arguments
        What `timm.create_model` gets beside the name: the run's `img_size` and `patch_size` and the architecture's
        overrides. Channels and classes are the file's own.

    Raises
    ------
    StorageError
        The file is missing or unreadable.
    FormatError
        It is no checkpoint, is damaged, a pickle, or holds numbers that weights are not made of.
    ConfigError
        Its tensors do not fit the named model, or its name is none of a weights file.
    """
    check_suffix(path)
    check_readable(path)
    archive = path.suffix.lower() == ".npz"
    given, found = (Unwrapped({}), read_archive(path)) if archive else read_state(path)
    sizes = arguments | {key: found[key] for key in ("num_classes", "in_chans") if key in found}
    with torch.device("meta"):
        outline = create(name, pretrained=False, **sizes)
    refuse_other_sizes(found, outline, name, where=path)
    refuse_changed(path, given.state, heads_in(outline))
    given = without_distillation(given, outline)
    refuse_other_types(given.state, outline, where=path)
    _absorb_made_bias(given.state, outline)
    given.state.update(resampled(given.state, outline))
    source: dict[str, Any] = {"file": str(path), "custom_load": True} if archive else {"state_dict": given.state}
    model = _loaded(name, sizes, source, found, outline, where=path)
    _refuse_unloaded(model, name, sizes, where=path)
    _refuse_not_finite(model, where=path)
    for line in given.said:
        say_once(f"{path}: {line}")
    return model


def _loaded(
    name: str,
    sizes: dict[str, Any],
    source: dict[str, Any],
    found: dict[str, int],
    outline: VisionTransformer,
    *,
    where: Path,
) -> VisionTransformer:
    overlay: dict[str, Any] = {**source, "label_offset": 0}
    if is_export(where):
        overlay |= {"mean": (EXPECTED,), "std": (EXPECTED,)}
    if "num_classes" in found:
        size = sizes["img_size"]
        overlay |= {"num_classes": found["num_classes"], "input_size": (found["in_chans"], size, size)}
    torch.default_generator.manual_seed(_LOADING_SEED)
    try:
        # Its converter of DINOv3 prints what it meets; what it resamples itself (Google's archives) would end on other
        # bits with other threads.
        with contextlib.redirect_stdout(io.StringIO()), _one_thread():
            model = create(name, pretrained=True, pretrained_cfg_overlay=overlay, **sizes)
    except Exception as error:  # timm raises what its converters meet: KeyError, RuntimeError, AttributeError
        # Its own words are a page of tensors.
        said = difference(source["state_dict"], outline) if "state_dict" in source else None
        problem = said or f"timm cannot make one of it ({type(error).__name__})"
        cure = "name the architecture it was saved from, or set model.pretrained=false"
        raise ConfigError(f"does not fit '{name}': {problem}", where=where, cure=cure) from error
    for key in source:
        model.pretrained_cfg.pop(key, None)
    loaded: VisionTransformer = model
    return loaded


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def heads_in(model: VisionTransformer) -> int:
    """Attention heads of a block, whatever it calls its attention."""
    return next(int(each.num_heads) for each in model.modules() if hasattr(each, "num_heads"))  # type: ignore[arg-type]


@functools.cache
def say_once(line: str) -> None:
    """Tell what was done to somebody's weights, once in a process: every site builds the model."""
    _log.warning("%s", line)


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
    first = 0 if getattr(outline, "no_embed_class", False) else outline.num_prefix_tokens
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
    for name, tensor in model.state_dict().items():
        if not bool(tensor.isfinite().all()):
            problem = f"its tensor '{name}' holds values that are not finite"
            raise FormatError(problem, where=where, cure="give weights of a training that did not fail")


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
