"""The Vision Transformer of a run, built by timm.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medveil.bounded import word
from medveil.called import typed
from medveil.errors import ConfigError
from medveil.values import shown_value
from models.checkpoint import adapt_channels, create, fold_normalisation, load_file, load_hub, say_once
from models.config import BEGINNINGS, ModelConfig
from models.exported import is_export, refuse_other_normalisation
from models.hashes import model_hash
from models.mimetic import begin_mimetic
from models.rotary import carry_rows, is_rotary, refuse_heads
from models.saved import expected_by, weights_in
from models.suited import why_refused
from models.timm_import import import_timm
from models.without_storage import without_storage

__all__ = ["build_vit", "check_beginning", "model_hash", "normalise"]

import_timm()

import timm  # noqa: E402 - import_timm comes first
from timm.layers.weight_init import trunc_normal_  # noqa: E402
from timm.models import split_model_name_tag  # noqa: E402

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_WANTED = "a Vision Transformer with a plain patch embedding, and learned absolute or fixed rotary positions"


def build_vit(config: ModelConfig, *, seed: int, whole: bool = False) -> VisionTransformer:
    """Build the model of a run, ready for its stem to be adapted.

    Its input is `normalise`'s; the mean and deviation a checkpoint expects are folded into the patch embedding, and
    its patch and position embeddings resampled to the configured size. Fresh weights (all of them, or the head when
    the classes differ from the checkpoint's) depend on `seed` alone; torch's global generator is left as it was.

    Parameters
    ----------
    config
        The model; None in a field keeps timm's value for the name.
    seed
        Seed of fresh weights.
    whole
        Refuse weights whose head is not for these classes, in place of giving the model a fresh one.

    Returns
    -------
    VisionTransformer
        Of exactly timm's class of that name or of its `Eva`, for images of one size; float32, on the CPU, in training
        mode. Or of one of the classes that no stem of a key goes with: see `models.suited`.

    Raises
    ------
    ConfigError
        The name is unknown, its architecture is none that trains here, an override does not fit it, or the head is to
        be the weights' own and is not.
    StorageError, FormatError
        The weights file is missing or no checkpoint.

    Examples
    --------
    >>> model = build_vit(ModelConfig(image_size=64, patch=8, channels=1, classes=2, depth=2), seed=0)
    >>> logits = model(normalise(torch.zeros(1, 1, 64, 64, dtype=torch.uint8)))
    """
    probe = _probe(config.name)
    _refuse_architecture(probe, config.name)
    arguments = _arguments(config, probe)
    pretrained = config.pretrained.strip()
    check_beginning(config.init, pretrained)
    model: Any
    beside: dict[str, list[float]] = {}
    with _seeded(seed):
        if pretrained.lower() == "false":
            fresh = _fresh(config, arguments)
            if config.init == "mimetic":
                begin_mimetic(fresh, seed=seed)
            return fresh
        if pretrained.lower() == "true":
            _refuse_other_architecture(config)
            model = load_hub(config.name, arguments)
        else:
            weights = weights_in(pretrained)
            model = _from_file(config, weights, arguments)
            beside = {} if is_export(weights) else expected_by(weights)
    expected = {**model.pretrained_cfg, **beside}
    fold_normalisation(
        model,
        mean=expected["mean"] if config.mean is None else config.mean,
        std=expected["std"] if config.std is None else config.std,
    )
    adapt_channels(model, model.in_chans if config.channels is None else config.channels)
    if whole and config.classes != model.num_classes:
        had = f"have a head of {model.num_classes} classes" if model.num_classes else "have no head"
        problem = f"these weights {had}, and {config.classes} are to be told apart as they are"
        raise ConfigError(problem, where="model.pretrained", cure="an export of a run over these classes")
    with _seeded(seed):
        _adapt_head(model, config.classes)
    carry_rows(model)
    built: VisionTransformer = model
    return built


@typed
def normalise(images: Tensor, bits: int = 8, dtype: torch.dtype = torch.float32, *, gain: float = 1.0) -> Tensor:
    """Pixels as the model takes them: ``gain * (2 v - maxval) / maxval`` with ``maxval = 2**bits - 1``.

    Rounding is symmetric, so a negated pixel (``maxval - v``) becomes exactly the number with the other sign.

    Parameters
    ----------
    images
        uint8 or uint16, any shape.
    bits
        Bits of a pixel, 1 to 16.
    dtype
        Floating type of the result.
    gain
        Factor; 1 but for ciphertexts whose cipher says otherwise: under ``orthogonal`` sqrt(L), L values a block.

    Returns
    -------
    Tensor
        Of the same shape, in [-gain, gain].

    Raises
    ------
    ConfigError
        The images are not of an unsigned integer type, or `bits` does not fit it; or the result has no floating type,
        or none that holds `gain`.
    """
    if not dtype.is_floating_point:
        raise ConfigError(f"is {dtype}", where="normalise(dtype=...)", cure="a floating type")
    if not abs(gain) <= torch.finfo(dtype).max:
        raise ConfigError(f"is {gain:g}", where="normalise(gain=...)", cure=f"a number that {dtype} holds")
    return normalised(images, bits, dtype, gain=gain)


def normalised(images: Tensor, bits: int, dtype: torch.dtype, *, gain: float) -> Tensor:
    """`normalise` for batch after batch: arguments are not held against the signature."""
    widest = {torch.uint8: 8, torch.uint16: 16}.get(images.dtype)
    if widest is None or not 1 <= bits <= widest:
        raise ConfigError(f"{bits}-bit images cannot be {images.dtype}", cure="uint8 to 8 bits, uint16 to 16")
    maxval = 2**bits - 1
    exact = torch.promote_types(dtype, torch.float32)
    numbers = images.to(exact).mul_(2).sub_(maxval).div_(maxval)
    return (numbers if gain == 1 else numbers.mul_(gain)).to(dtype)


def check_beginning(init: str, pretrained: str) -> None:
    """Refuse a way to begin that there is none of, or that has nothing to begin (ConfigError)."""
    if init not in BEGINNINGS:
        raise ConfigError(f"is '{word(init)}'", where="model.init", cure=f"one of {', '.join(BEGINNINGS)}")
    if init != "default" and pretrained.lower() != "false":
        cure = "default, or model.pretrained=false"
        raise ConfigError(f"is {init}, and 'pretrained' weights begin as they are", where="model.init", cure=cure)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    if not -(2**63) <= seed < 2**64:
        raise ConfigError(f"is {shown_value(seed)}", where="seed", cure="one of 64 bits")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@functools.lru_cache(maxsize=16)
def _probe(name: str) -> Any:
    """Build the named architecture without storage, to look at its layers and sizes; nobody changes what it returns."""
    architecture, _ = split_model_name_tag(name)
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        cure = f"did you mean {' or '.join(near)}?" if near else "see timm.list_models('*vit*')"
        raise ConfigError(f"timm has no model '{name}'", where="model.name", cure=cure)
    try:
        with without_storage():
            return create(name)
    except Exception as error:  # an unknown tag, or a model that cannot be built from its name alone
        raise ConfigError(f"timm cannot build '{name}': {error}", where="model.name") from error


def _refuse_architecture(model: Any, name: str) -> None:
    problem = why_refused(model)
    if problem is not None:
        raise ConfigError(f"'{name}' {problem}", where="model.name", cure=f"name {_WANTED}")


def _from_file(config: ModelConfig, path: Path, arguments: dict[str, Any]) -> VisionTransformer:
    model = load_file(config.name, path, arguments)
    if is_export(path):
        refuse_other_normalisation(config.mean, config.std, where=path)
    return model


def _refuse_other_architecture(config: ModelConfig) -> None:
    for name in ("width", "depth", "heads"):
        if getattr(config, name) is not None:
            raise ConfigError(
                f"timm's weights of '{config.name}' are for its own {name}",
                where=f"model.{name}",
                cure=f"leave {name} unset, give a weights file of that {name}, or set pretrained to 'false'",
            )


def _arguments(config: ModelConfig, probe: Any) -> dict[str, Any]:
    for name in ("image_size", "patch", "channels", "width", "depth", "heads"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"is {value}", where=f"model.{name}", cure="at least 1")
    if config.classes is not None and config.classes < 2:
        raise ConfigError(f"is {config.classes}", where="model.classes", cure="at least 2")
    if not 0 <= config.drop_path < 1:
        raise ConfigError(f"is {config.drop_path}", where="model.drop_path", cure="0 to below 1")
    size = config.image_size or _square(probe.patch_embed.img_size, config.name)
    patch = config.patch or _square(probe.patch_embed.patch_size, config.name)
    if size % patch:
        up = -(-size // patch) * patch
        cure = f"pad the images to {up} (as the cipher does), or choose a patch that divides {size}"
        raise ConfigError(f"{size} is no multiple of the patch size {patch}", where="model.image_size", cure=cure)
    width = config.width or probe.embed_dim
    heads = config.heads or next(layer.num_heads for layer in probe.modules() if hasattr(layer, "num_heads"))
    if width % heads:
        raise ConfigError(
            f"{heads} heads do not divide the width {width}", where="model.heads", cure="a divisor of the width"
        )
    if is_rotary(probe):
        refuse_heads(width, heads)
    overrides = {"embed_dim": config.width, "depth": config.depth, "num_heads": config.heads}
    if getattr(probe, "dynamic_img_size", False):
        # Images of any size have no fixed list of patches; those of a run are all of one.
        overrides["dynamic_img_size"] = False
    return {
        "img_size": size,
        "patch_size": patch,
        "drop_path_rate": config.drop_path,
        **{key: value for key, value in overrides.items() if value is not None},
    }


def _square(size: tuple[int, int], name: str) -> int:
    if size[0] != size[1]:
        raise ConfigError(f"'{name}' takes {size[0]} x {size[1]}, which is not square", where="model.name")
    return size[0]


def _fresh(config: ModelConfig, arguments: dict[str, Any]) -> VisionTransformer:
    if config.mean is not None or config.std is not None:
        raise ConfigError(
            "mean and std describe pretrained weights, and pretrained is 'false'",
            where="model.mean, model.std",
            cure="leave them unset",
        )
    given: dict[str, Any] = {"in_chans": config.channels, "num_classes": config.classes}
    chosen = {key: value for key, value in given.items() if value is not None}
    try:
        model: VisionTransformer = create(config.name, pretrained=False, **arguments, **chosen)
    except (AssertionError, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(f"timm cannot build '{config.name}' so: {error}", where="model") from error
    _refuse_headless(model)
    carry_rows(model)
    return model


def _adapt_head(model: Any, classes: int | None) -> None:
    if classes is not None and classes != model.num_classes:
        if model.num_classes:
            say_once(f"the weights' head has {model.num_classes} classes; a fresh one of {classes} takes its place")
        model.reset_classifier(classes)
        trunc_normal_(model.head.weight, std=0.02)
        nn.init.zeros_(model.head.bias)
    _refuse_headless(model)


def _refuse_headless(model: VisionTransformer) -> None:
    if not isinstance(model.head, nn.Linear):
        raise ConfigError("the model has no classifier", where="model.classes", cure="give the number of classes")
