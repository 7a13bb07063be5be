"""What pre-training leaves: a trunk behind a stem for plain images, as weights for ``model.pretrained``.

One safetensors file without classifier and decoder. Its header says what it is, what it learned from and how, and the
digest of its tensors, so that neither is taken for another's; a card for people lies beside it. Its patch embedding
reads ``(2 v - maxval) / maxval``, as that of an export does (`models.exported`).

**Whose stem.** Where the stem travels, the one all sites averaged. Where it stays at its sites, their server has none
of theirs: it leaves the public one that the run began with, which is exactly the trunk's where ``stem.train`` is
frozen. A simulation, which has its sites' keys, can also leave a site's own, moved back to plain images.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from medveil.files import write_bytes, write_text
from models.checkpoint import heads_in
from models.exported import PLAIN
from models.hashes import tensors_hash
from models.pretrained_header import FORMAT, VERSION

if TYPE_CHECKING:
    from models.vits import VisionTransformer

_LEFT_OUT = ("head.", "decoder.")
_CARD = ".card.md"


def write_pretrained(path: Path, model: VisionTransformer, *, name: str, card: dict[str, Any]) -> Path:
    """Write a model's stem and trunk, and a card beside them; both atomically, the weights last.

    Parameters
    ----------
    path
        The file.
    model
        For plain images.
    name
        Of its architecture, as timm calls it.
    card
        What there is to know of it, in the order it is to be read: plain values by what they are called.

    Returns
    -------
    Path
        The card.
    """
    kept = {
        key: tensor.detach().cpu().contiguous()
        for key, tensor in model.state_dict().items()
        if not key.startswith(_LEFT_OUT)
    }
    digest = tensors_hash(kept)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "domain": PLAIN,
        "architecture": name,
        "heads": heads_in(model),
        "sha256": digest,
        "card": card,
    }
    beside = path.with_name(path.name.removesuffix(".safetensors") + _CARD)
    write_text(beside, _as_markdown(path.name, {"architecture": name, **card, "SHA-256 of its tensors": digest}))
    write_bytes(path, save(kept, metadata={"format": "pt", "medveil": json.dumps(document, allow_nan=False)}))
    return beside


def _as_markdown(name: str, card: dict[str, Any]) -> str:
    rows = "".join(f"- {key}: {_shown(value)}\n" for key, value in card.items())
    return f"# {name}\n\nWeights to begin a run with: `model.pretrained={name}`. Not a medical device.\n\n{rows}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(each)}" for key, each in value.items())
    # What people or settings wrote stays on its line.
    return " ".join(str(value).split())
