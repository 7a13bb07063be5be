"""An exported model: a folder of weights, configuration and cards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from fl_client.export.cards import Loading, data_card, model_card
from fl_client.export.described import HIDDEN, PLAIN, Description, describe, document_of, written
from fl_client.export.domain import Keys, cipher_of, model_of, restored
from fl_client.export.fields import ONNX, SEALED, WEIGHTS
from fl_client.export.kept import KeptModel
from fl_client.export.onnx_file import check_onnx, onnx_bytes
from fl_client.export.sealed_model import save_sealed
from medveil.errors import ConfigError, StorageError
from medveil.files import new_folder, write_bytes, write_text
from models.checkpoint import create

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

    from fl_client.deployment.own_site import OwnKeys

CONFIG, MODEL_CARD, DATA_CARD = "config.json", "MODEL_CARD.md", "DATA_CARD.md"


def export_plain(kept: KeptModel, keys: Keys, folder: Path, *, onnx: bool = False) -> None:
    """Export the model moved to plain images; nothing of it needs the key, or MedVeil.

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
    model = restored(kept, cipher_of(kept, keys))
    described = describe(kept, domain=PLAIN, arguments=arguments_of(kept, model))
    files = {WEIGHTS: _weights(model, described)}
    if onnx:
        files[ONNX] = onnx_bytes(model, channels=kept.run.channels, side=kept.facts["padded"][0])
    with new_folder(folder) as made:
        for name, data in files.items():
            write_bytes(made / name, data)
        _write_papers(made, kept, described, files, _loading(model, described))


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
    folder: Path, kept: KeptModel, made: Description, files: dict[str, bytes], loading: Loading | None = None
) -> None:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    write_bytes(folder / CONFIG, written(made, digests))
    write_text(folder / MODEL_CARD, model_card(kept.facts, domain=made.domain, loading=loading))
    write_text(folder / DATA_CARD, data_card(kept.facts))


def _loading(model: VisionTransformer, made: Description) -> Loading:
    """How timm loads it: folding a checkpoint's mean into the patch embedding may have made a bias timm has not."""
    with torch.device("meta"):
        theirs = create(made.architecture, **made.arguments)
    side = made.padded_size
    return Loading((made.channels, side, side), bias=model.state_dict().keys() != theirs.state_dict().keys())


def arguments_of(kept: KeptModel, model: VisionTransformer) -> dict[str, int]:
    """What timm makes the model with."""
    return {
        "img_size": kept.facts["padded"][0],
        "patch_size": model.patch_embed.patch_size[0],
        "in_chans": kept.run.channels,
        "num_classes": len(kept.run.classes),
        "embed_dim": model.embed_dim,
        "depth": len(model.blocks),
        "num_heads": _heads(model),
    }


def _heads(model: VisionTransformer) -> int:
    block: Any = model.blocks[0]
    return int(block.attn.num_heads)


def _weights(model: VisionTransformer, made: Description) -> bytes:
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    return save(tensors, metadata={"format": "pt", "medveil": json.dumps(document_of(made), allow_nan=False)})


def refuse_folder(folder: Path) -> None:
    """Refuse to export where something lies (ConfigError), or where a file stands in the way (StorageError)."""
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError("is there already", where=folder, cure="choose a new folder")
    if folder.is_file():
        raise StorageError("is a file where a folder is needed", where=folder, cure="choose a new folder")
