"""Opening an exported model: a folder that may come from anyone.

Nothing in it is run or unpickled. What it says of itself is checked first (`fl_client.export.described`), then a model
of that description is laid out without memory, and its weights must be of exactly these names, types and shapes, in a
file no larger than they need.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load
from torch import Tensor, nn

from fl_client.export.described import CARRIED, HIDDEN, Description, identity_of, parsed
from fl_client.export.fields import SEALED, WEIGHTS
from fl_client.export.sealed_model import open_sealed, sealed_bytes
from medveil.bounded import parse_json
from medveil.errors import FormatError, IntegrityError, KeyMaterialError, MedVeilError, StorageError
from medveil.files import storage_error
from models.config import ModelConfig
from models.exported import CONFIG, HEADER, LARGEST_HEADER
from models.rotary import ROWS, give_table_back, unfit_rows
from models.sizes import least_shape
from models.vit import build_vit
from models.without_storage import without_storage

if TYPE_CHECKING:
    from fl_client.deployment.own_keys import OwnKeys
    from models.vits import VisionTransformer

LARGEST_CONFIG = 2**20
_WHOLE = "ask who sent it for a whole copy"
_NEEDED = "--model names a folder that 'medveil-site export' wrote"
_BYTES = torch.float32.itemsize
_PROJECTION = "patch_embed.proj.bias"


def open_folder(folder: Path, keys: Callable[[], OwnKeys]) -> tuple[Description, VisionTransformer]:
    """Open an exported model: what it is, and the model, float32, on the CPU, in evaluation mode.

    Parameters
    ----------
    folder
        The folder.
    keys
        Opens the site's keys; asked only where the model is sealed.

    Raises
    ------
    StorageError
        A file is missing or no plain file.
    FormatError
        It is no exported model, of a newer version, or says what no model is.
    IntegrityError
        A file is cut short, damaged or was changed, or does not belong to the others.
    KeyMaterialError
        It is sealed under a key this site does not hold.
    """
    if not folder.is_dir():
        raise StorageError("no such folder", where=folder, cure=_NEEDED)
    config = folder / CONFIG
    made, document = parsed(_read(config, LARGEST_CONFIG), where=config)
    name = SEALED if made.domain == HIDDEN else WEIGHTS
    _check_size(made, folder / name)
    model = _laid_out(made, config)
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    most = size + LARGEST_HEADER
    data = _read(folder / name, sealed_bytes(most) if made.domain == HIDDEN else most)
    if name not in document["sha256"]:
        raise FormatError(f"lacks the field 'sha256.{name}'", where=config)
    if hashlib.sha256(data).hexdigest() != document["sha256"][name]:
        raise IntegrityError(f"is damaged, or not the one {CONFIG} describes", where=folder / name, cure=_WHOLE)
    if made.domain == HIDDEN:
        data = _unsealed(folder / name, keys())
    _fill(model, _tensors(data, document, folder / name), folder / name)
    return made, _with_tables(model, made).eval()


def _check_size(made: Description, weights: Path) -> None:
    """Refuse a description of a larger model than its file has weights for, before the model is laid out."""
    try:
        found = weights.stat()
    except FileNotFoundError:
        raise StorageError("no such file", where=weights, cure=_NEEDED) from None
    except OSError as error:
        raise storage_error(error, weights, "read the file") from error
    if not stat.S_ISREG(found.st_mode):
        raise StorageError("is no plain file", where=weights, cure=_NEEDED)
    least = _BYTES * least_shape(_config_of(made)).parameters
    if found.st_size < least:
        problem = f"has {found.st_size} bytes, and the model that {CONFIG} describes takes at least {least}"
        raise IntegrityError(problem, where=weights, cure=_WHOLE)


def _config_of(made: Description) -> ModelConfig:
    given = made.arguments
    return ModelConfig(
        name=made.architecture,
        image_size=given["img_size"],
        patch=given["patch_size"],
        channels=given["in_chans"],
        classes=given["num_classes"],
        width=given["embed_dim"],
        depth=given["depth"],
        heads=given["num_heads"],
    )


def _laid_out(made: Description, where: Path) -> VisionTransformer:
    """The model without weights or memory for them."""
    try:
        with without_storage():
            return _built(made)
    except MedVeilError as error:
        raise FormatError(f"describes no model: {error}", where=where) from None


def _built(made: Description) -> VisionTransformer:
    model = build_vit(_config_of(made), seed=0)
    if made.domain != HIDDEN:
        give_table_back(model)
    return model


def _with_tables(model: VisionTransformer, made: Description) -> VisionTransformer:
    """The model with what no file holds because it is computed from the sizes alone, such as angles of rotation."""
    missing = {name for name, buffer in model.named_buffers() if buffer.is_meta}
    if not missing:
        return model
    whole = _built(made)
    whole.patch_embed.proj.bias = model.patch_embed.proj.bias
    whole.load_state_dict(model.state_dict(), assign=True)
    return whole


def _unsealed(path: Path, keys: OwnKeys) -> bytes:
    try:
        return open_sealed(path, keys.own)
    except KeyMaterialError as error:
        cure = "only the site that exported it opens it; its plain export serves others"
        raise KeyMaterialError(error.problem.replace("hidden", "sealed"), where=path, cure=cure) from None


def _tensors(data: bytes, document: dict[str, Any], where: Path) -> dict[str, Tensor]:
    size = int.from_bytes(data[:8], "little")
    if size > LARGEST_HEADER:
        raise IntegrityError(f"claims a header of {size} bytes", where=where, cure=_WHOLE)
    try:
        found = dict(load(data))
        header = parse_json(data[8 : 8 + size], where=where, bounds=HEADER)
        identity = parse_json(header.get("__metadata__", {}).get("medveil", "null"), where=where)
    # safetensors raises types of its own for its format, and KeyError for a dtype torch has not.
    except Exception:
        raise IntegrityError("is no whole safetensors file", where=where, cure=_WHOLE) from None
    if document["version"] >= CARRIED and identity != identity_of(document):
        raise IntegrityError(f"was not written with this {CONFIG}", where=where, cure=_WHOLE)
    return found


def _fill(model: VisionTransformer, given: dict[str, Tensor], where: Path) -> None:
    bias = given.get(_PROJECTION)
    if bias is not None and model.patch_embed.proj.bias is None:
        # Folding a checkpoint's mean into the patch embedding made it.
        model.patch_embed.proj.bias = nn.Parameter(torch.empty(model.embed_dim, device="meta"))
    wanted = model.state_dict()
    for name in sorted({*wanted, *given}):
        problem = _unfit(given.get(name), wanted.get(name))
        if problem is None and name == ROWS:
            problem = unfit_rows(given[name], model.patch_embed.num_patches)
        if problem is not None:
            raise IntegrityError(f"its tensor {name[:80]!a} {problem}", where=where, cure=_WHOLE)
    model.load_state_dict(given, assign=True)


def _unfit(found: Tensor | None, wanted: Tensor | None) -> str | None:
    if found is None:
        return "is missing"
    if wanted is None:
        return f"is none of the model's that {CONFIG} describes"
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return f"is {found.dtype} {tuple(found.shape)}, and the model's {wanted.dtype} {tuple(wanted.shape)}"
    return None if torch.isfinite(found).all() else "holds values that are not finite"


def _read(path: Path, most: int) -> bytes:
    """A plain file of at most so many bytes; a pipe or a device is never waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise StorageError("is no plain file", where=path, cure=_NEEDED)
            data = stream.read(most + 1)
    except FileNotFoundError:
        raise StorageError("no such file", where=path, cure=_NEEDED) from None
    except OSError as error:
        raise storage_error(error, path, "read the file") from error
    if len(data) > most:
        raise FormatError(f"is larger than the {most} bytes it can be", where=path, cure=_WHOLE)
    return data
