"""An exported model: a folder of weights, configuration and cards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

from fl_client.export.bundle import BUNDLE, write_bundle
from fl_client.export.data_card import data_card
from fl_client.export.described import HIDDEN, Description, describe, document_of, written
from fl_client.export.domain import Keys, cipher_of, model_of, restored
from fl_client.export.fields import ONNX, SEALED, WEIGHTS
from fl_client.export.kept import KeptModel
from fl_client.export.model_card import model_card
from fl_client.export.onnx_file import check_onnx, onnx_bytes
from fl_client.export.sealed_model import save_sealed
from medveil.errors import ConfigError, StorageError
from medveil.files import new_folder, write_bytes, write_text
from models.checkpoint import create
from models.exported import CONFIG, PLAIN
from models.rotary import give_table_back
from models.sizes import heads_of
from models.stem import absorb_bias
from models.without_storage import without_storage

if TYPE_CHECKING:
    from fl_client.deployment.own_keys import OwnKeys
    from models.vits import VisionTransformer

MODEL_CARD, DATA_CARD = "MODEL_CARD.md", "DATA_CARD.md"


def export_plain(kept: KeptModel, keys: Keys, folder: Path, *, onnx: bool = False, bundle: bool = False) -> None:
    """Export the model moved to plain images; nothing of it needs the key, or MedVeil.

    Parameters
    ----------
    onnx
        Whether to write ONNX as well.
    bundle
        Whether to write a MONAI bundle as well, in a folder of its own.

    Raises
    ------
    PolicyError
        Moved back, it would give away more than a model; see `fl_client.export.domain`.
    ConfigError
        `onnx` is asked for without its extra.
    StorageError
        The folder is there already, or the disk refuses.
    """
    refuse_folder(folder)
    if onnx:
        check_onnx()
    model = plain_model(kept, keys)
    described = describe(kept, domain=PLAIN, arguments=arguments_of(kept, model))
    files = {WEIGHTS: _weights(model, described)}
    if onnx:
        files[ONNX] = onnx_bytes(model, channels=kept.run.channels, side=kept.facts["padded"][0])
    with new_folder(folder) as made:
        for name, data in files.items():
            write_bytes(made / name, data)
        side = described.padded_size
        _write_papers(made, kept, described, files, (described.channels, side, side))
        if bundle:
            write_bundle(made / BUNDLE, described, model)


def plain_model(kept: KeptModel, keys: Keys) -> VisionTransformer:
    """The model moved to plain images, as timm has it: float32, on the CPU, in evaluation mode.

    Raises
    ------
    PolicyError
        As `export_plain`.
    """
    return _as_timm_has_it(restored(kept, cipher_of(kept, keys)), kept)


def export_hidden(kept: KeptModel, keys: OwnKeys, folder: Path) -> None:
    """Export the model as it is, which reads hidden images, sealed under the site's key.

    Raises
    ------
    ConfigError
        The folder is there already.
    StorageError
        The disk refuses.
    """
    refuse_folder(folder)
    model = model_of(kept)
    described = describe(kept, domain=HIDDEN, arguments=arguments_of(kept, model))
    with new_folder(folder, mode=0o700) as made:
        save_sealed(made / SEALED, _weights(model, described), keys.own.current)
        files = {SEALED: (made / SEALED).read_bytes()}
        _write_papers(made, kept, described, files)


def _write_papers(
    folder: Path, kept: KeptModel, made: Description, files: dict[str, bytes], shape: tuple[int, int, int] | None = None
) -> None:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    write_bytes(folder / CONFIG, written(made, digests))
    write_text(folder / MODEL_CARD, model_card(kept.facts, domain=made.domain, shape=shape))
    write_text(folder / DATA_CARD, data_card(kept.facts))


def _as_timm_has_it(model: VisionTransformer, kept: KeptModel) -> VisionTransformer:
    """The same with timm's own rotary table, and without the bias of a patch embedding that folding a mean made."""
    give_table_back(model)
    with without_storage():
        theirs = create(kept.run.model["name"], **arguments_of(kept, model))
    if theirs.patch_embed.proj.bias is None:
        absorb_bias(model)
    return model


def arguments_of(kept: KeptModel, model: VisionTransformer) -> dict[str, int]:
    """What timm makes the model with."""
    return {
        "img_size": kept.facts["padded"][0],
        "patch_size": model.patch_embed.patch_size[0],
        "in_chans": kept.run.channels,
        "num_classes": len(kept.run.classes),
        "embed_dim": model.embed_dim,
        "depth": len(model.blocks),
        "num_heads": heads_of(model),
    }


def _weights(model: VisionTransformer, made: Description) -> bytes:
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    return save(tensors, metadata={"format": "pt", "medveil": json.dumps(document_of(made), allow_nan=False)})


def refuse_folder(folder: Path) -> None:
    """Refuse to export where something lies (ConfigError), or where a file stands in the way (StorageError)."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError("is there already", where=folder, cure="choose a new folder")
    if folder.is_file():
        raise StorageError("is a file where a folder is needed", where=folder, cure="choose a new folder")
