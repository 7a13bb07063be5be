"""A model as a MONAI bundle (https://docs.monai.io/en/stable/mb_specification.html): a folder, without MedVeil in it.

The network is timm's, made by its own call; weights, in ``models/model.pt``, are the tensors of ``model.safetensors``
as PyTorch saves them, and nothing else is pickled with them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import timm
import torch

from medveil.files import make_folder, write_bytes, write_json, write_text

if TYPE_CHECKING:
    from torch import nn

    from fl_client.export.described import Description

BUNDLE = "monai"
"""Folder of the bundle, in an export."""
MONAI = "1.6.1"
"""The version its configuration was tried with."""
METADATA, INFERENCE, MODEL = "configs/metadata.json", "configs/inference.json", "models/model.pt"
_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_RESEARCH = "Research use only. Not a medical device: it must not be used to diagnose, treat or triage patients."
_LARGEST = 255.0


def write_bundle(folder: Path, made: Description, model: nn.Module) -> None:
    """Write the bundle of a model that reads plain images into a new folder (StorageError where the disk refuses)."""
    for name in ("configs", "models", "docs"):
        make_folder(folder / name)
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    packed = io.BytesIO()
    torch.save(tensors, packed)
    write_bytes(folder / MODEL, packed.getvalue())
    write_json(folder / METADATA, metadata(made))
    write_json(folder / INFERENCE, inference(made))
    write_text(folder / "docs" / "README.md", _readme(made))


def metadata(made: Description) -> dict[str, Any]:
    """What the bundle says of itself."""
    side, grey = made.padded_size, made.channels == 1
    image = {
        "type": "image",
        "format": "magnitude" if grey else "RGB",
        "modality": "n/a",
        "num_channels": made.channels,
        "spatial_shape": [side, side],
        "dtype": "float32",
        "value_range": [-1, 1],
        "is_patch_data": False,
        "channel_def": {"0": "grey"} if grey else {"0": "red", "1": "green", "2": "blue"},
    }
    answer = {
        "type": "probabilities",
        "format": "classification",
        "num_channels": len(made.classes),
        "spatial_shape": [],
        "dtype": "float32",
        "value_range": [0, 1],
        "is_patch_data": False,
        "channel_def": {str(i): name for i, name in enumerate(made.classes)},
    }
    return {
        "schema": _SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"round {made.round} of run {made.run}"},
        "monai_version": MONAI,
        "pytorch_version": torch.__version__.split("+", 1)[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"timm": timm.__version__, "pytorch-ignite": "0.5.5", "pillow": "13.0.0"},
        "name": made.name,
        "task": f"classification into {', '.join(made.classes)}",
        "description": f"A Vision Transformer ({made.architecture}) trained by federated learning. {_RESEARCH}",
        "authors": "the sites of the run",
        "copyright": "of the sites of the run",
        "intended_use": _RESEARCH,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": answer}},
    }


def inference(made: Description) -> dict[str, Any]:
    """How the bundle is asked: images of ``@dataset_dir``, prepared, their probabilities as a CSV."""
    keys, side = "image", made.image_size
    more = made.padded_size - side
    prepared: list[dict[str, Any]] = [
        # As a picture has them, rows first.
        {"_target_": "LoadImaged", "keys": keys, "reader": "PILReader", "reverse_indexing": False,
         "converter": f"$lambda image: image.convert({'L' if made.channels == 1 else 'RGB'!r})"},
        {"_target_": "EnsureChannelFirstd", "keys": keys},
        {"_target_": "Resized", "keys": keys, "spatial_size": [side, side], "mode": "bilinear", "anti_aliasing": True},
    ]  # fmt: skip
    if more:
        prepared.append({"_target_": "SpatialPadd", "keys": keys, "spatial_size": [side + more] * 2, "method": "end"})
    prepared.append(
        {"_target_": "ScaleIntensityRanged", "keys": keys, "a_min": 0.0, "a_max": _LARGEST, "b_min": -1.0, "b_max": 1.0}
    )
    return {
        "imports": ["$import glob", "$import os", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "classes": list(made.classes),
        "temperature": made.temperature,
        "network_def": {"_target_": "timm.create_model", "model_name": made.architecture, **made.arguments},
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": prepared},
        "datalist": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.png')))",
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': each} for each in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 8, "shuffle": False},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                # A lambda sees no other entry of this file.
                {"_target_": "Lambdad", "keys": "pred", "func": f"$lambda logits: logits / {made.temperature!r}"},
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            ],
        },
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
                "map_location": "@device",
            },
            {
                "_target_": "ClassificationSaver",
                "output_dir": "@output_dir",
                "filename": "predictions.csv",
                "batch_transform": "$lambda batch: [each['image'].meta for each in batch]",
                "output_transform": "$lambda output: [each['pred'] for each in output]",
            },
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _readme(made: Description) -> str:
    side, columns = f"{made.image_size} x {made.image_size}", ", ".join(made.classes)
    alike = f"Resizing is MONAI's: images of {side} pixels are not resized, and get the answers that MedVeil gives."
    if made.padded_size != made.image_size:
        alike = (
            "Images are resized by MONAI and padded with zeros: answers differ a little from those that MedVeil gives."
        )
    return f"""\
# {made.name}

{_RESEARCH}

The PNG images of a folder, 8 bit and windowed as DATA_CARD.md of the export says, are put before the model by

```sh
python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES
```

`eval/predictions.csv` has a row an image: its path, and the probabilities of {columns}. {alike}
"""
