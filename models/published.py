"""Where timm's published weights are taken from, so that none of them is unpickled.

Most lie on the Hugging Face hub as safetensors, beside a pickle of the same numbers that timm falls back on; asked for
by that name, there is nothing to fall back on. A few lie at an address of their own: Google's archives hold plain
arrays, and the rest are pickles.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from medveil.errors import ConfigError
from models.timm_import import import_timm

import_timm()

from timm.models import get_pretrained_cfg  # noqa: E402 - import_timm comes first

_SAFE = "model.safetensors"
_OPEN_CLIP = {
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
    "pytorch_model.bin": _SAFE,
}
_PLAIN = (".safetensors", ".npz")


def source_of(name: str) -> dict[str, Any]:
    """What `timm.create_model` gets as ``pretrained_cfg_overlay`` to load published weights without a pickle.

    Raises
    ------
    ConfigError
        They are published as a pickle alone.
    """
    found = get_pretrained_cfg(name)
    if found is None:
        return {}
    if found.hf_hub_id:
        named = str(found.hf_hub_filename or _SAFE)
        if PurePosixPath(named).suffix not in _PLAIN:
            named = _OPEN_CLIP.get(named, str(PurePosixPath(named).with_suffix(".safetensors")))
        if named == found.hf_hub_filename:
            return {"url": ""}
        return {"url": "", "hf_hub_filename": named}
    if found.url and PurePosixPath(str(found.url)).suffix not in _PLAIN:
        problem = f"timm's weights of '{name}' are published as a pickle, and nothing is unpickled"
        cure = f"download {found.url}, and convert it with 'medveil-sim convert-checkpoint'"
        raise ConfigError(problem, where="model.pretrained", cure=cure)
    return {}
