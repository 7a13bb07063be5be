"""An exported model: a folder of weights, configuration and cards."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from fl_client.export.cards import data_card, model_card
from fl_client.export.domain import cipher_of, model_of, restored
from fl_client.export.kept import KeptModel
from fl_client.export.onnx_file import check_onnx, onnx_bytes
from fl_client.export.sealed_model import LABEL, save_sealed
from medveil.errors import ConfigError, StorageError
from medveil.files import new_folder, write_bytes, write_json, write_text

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

    from fl_client.deployment.own_site import OwnKeys

FORMAT = "medveil-model"
VERSION = 1
WEIGHTS, SEALED, ONNX = "model.safetensors", "KEY-BEARING.safetensors.mvseal", "model.onnx"
CONFIG, MODEL_CARD, DATA_CARD = "config.json", "MODEL_CARD.md", "DATA_CARD.md"


def export_plain(kept: KeptModel, keys: OwnKeys, folder: Path, *, onnx: bool = False) -> None:
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
    _refuse_folder(folder)
    if onnx:
        check_onnx()
    model = restored(kept, cipher_of(kept, keys))
    weights = _weights(model)
    files = {WEIGHTS: weights}
    if onnx:
        files[ONNX] = onnx_bytes(model, channels=kept.run.channels, side=kept.facts["padded"][0])
    with new_folder(folder) as made:
        for name, data in files.items():
            write_bytes(made / name, data)
        _write_papers(made, kept, model, domain="plain", files=files)


def export_hidden(kept: KeptModel, keys: OwnKeys, folder: Path) -> None:
    """Export the model as it is, which reads hidden images, sealed under the site's key.

    Raises
    ------
    ConfigError
        The folder is there already.
    StorageError
        The disk refuses.
    """
    _refuse_folder(folder)
    model = model_of(kept)
    with new_folder(folder, mode=0o700) as made:
        save_sealed(made / SEALED, _weights(model), keys.own.current)
        files = {SEALED: (made / SEALED).read_bytes()}
        _write_papers(made, kept, model, domain="hidden", files=files)


def _write_papers(
    folder: Path, kept: KeptModel, model: VisionTransformer, *, domain: str, files: dict[str, bytes]
) -> None:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    write_json(folder / CONFIG, _config(kept, model, domain=domain, digests=digests))
    write_text(folder / MODEL_CARD, model_card(kept.facts, domain=domain))
    write_text(folder / DATA_CARD, data_card(kept.facts))


def _config(kept: KeptModel, model: VisionTransformer, *, domain: str, digests: dict[str, str]) -> dict[str, Any]:
    """What it takes to use the weights without MedVeil."""
    run, data, size = kept.run, kept.facts["data"], kept.facts["padded"][0]
    label = {"label": LABEL, "fingerprint": kept.facts["fingerprint"]} if domain == "hidden" else {}
    return {
        "format": FORMAT,
        "version": VERSION,
        **label,
        "architecture": run.model["name"],
        "library": "timm",
        "arguments": {
            "img_size": size,
            "patch_size": model.patch_embed.patch_size[0],
            "in_chans": run.channels,
            "num_classes": len(run.classes),
            "embed_dim": model.embed_dim,
            "depth": len(model.blocks),
            "num_heads": _heads(model),
        },
        "classes": list(run.classes),
        "domain": domain,
        "input": {
            "channels": run.channels,
            "image_size": run.image_size,
            "padded_size": size,
            "window": data["window"],
            "numbers": "(2 v - 255) / 255 of 8-bit pixels v" if domain == "plain" else "see medveil-site predict",
        },
        "temperature": kept.temperature,
        "policy": {"keys": run.keys, "stem_init": run.stem_init, "stem_train": run.stem_train},
        "cipher": dict(run.cipher),
        "run": run.run,
        "round": kept.facts["round"],
        "medveil": kept.facts["environment"]["medveil"],
        "sha256": digests,
    }


def _heads(model: VisionTransformer) -> int:
    block: Any = model.blocks[0]
    return int(block.attn.num_heads)


def _weights(model: VisionTransformer) -> bytes:
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    return save(tensors, metadata={"format": "pt", "medveil": json.dumps({"format": FORMAT, "version": VERSION})})


def _refuse_folder(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError("is there already", where=folder, cure="choose a new folder")
    if folder.is_file():
        raise StorageError("is a file where a folder is needed", where=folder, cure="choose a new folder")
