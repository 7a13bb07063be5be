"""Which of timm's Vision Transformers train here, by name: `python -m models.listed`.

A name of a class that a stem can be before is built without storage, one block deep, and looked at as a run looks at
it; of the others the class alone is looked up. So the list is of the installed timm, and takes some seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medveil.plain import tell
from models.checkpoint import create
from models.suited import MOVED, UNMOVED, why_of_class, why_refused, why_unmoved
from models.timm_import import import_timm
from models.without_storage import without_storage

import_timm()

import timm  # noqa: E402 - import_timm comes first

FAMILIES = (
    *("vision_transformer", "deit", "eva", "beit", "vision_transformer_relpos", "vision_transformer_hybrid"),
    *("vision_transformer_sam", "vitamin", "naflexvit", "deepseek_vit", "gemma4_vit", "qwen3_vit", "cait", "xcit"),
    *("volo", "tnt", "convit", "pit", "crossvit", "swin_transformer", "swin_transformer_v2", "swin_transformer_v2_cr"),
    *("hiera", "mvitv2", "twins", "levit", "tiny_vit", "nest", "coat"),
)
"""Modules of timm with Transformers that cut images into patches; one that this timm lacks has no names."""
EXACT, PUBLIC, REFUSED = "adapts exactly", "trains with a public stem alone", "refused"


@dataclass(frozen=True)
class Verdict:
    """What a name of timm's is here, and the reason where it does not adapt."""

    name: str
    kind: str
    reason: str = ""


def names() -> list[str]:
    """The names of timm that are listed, in timm's order."""
    wanted = {name for family in FAMILIES for name in timm.list_models(module=family)}
    return [name for name in timm.list_models() if name in wanted]


def verdict(name: str) -> Verdict:
    """What a name of timm's is here."""
    declared = _declared(name)
    if declared is not None and declared not in {kind.__name__ for kind in MOVED + UNMOVED}:
        return Verdict(name, REFUSED, why_of_class(declared))
    model = _outline(name)
    refused, unmoved = why_refused(model), why_unmoved(model)
    if refused is not None:
        return Verdict(name, REFUSED, refused)
    return Verdict(name, EXACT) if unmoved is None else Verdict(name, PUBLIC, unmoved)


def verdicts() -> Iterator[Verdict]:
    """What each is."""
    return (verdict(name) for name in names())


def _declared(name: str) -> str | None:
    """The class that timm says a name makes; None where it does not say."""
    found: Any = timm.model_entrypoint(name).__annotations__.get("return")
    return None if found is None else str(getattr(found, "__name__", found)).rsplit(".", maxsplit=1)[-1]


def _outline(name: str) -> Any:
    """The named model without storage, one block deep where timm lets it be."""
    with without_storage():
        try:
            return create(name, depth=1)
        except (AssertionError, TypeError):
            # Blocks that differ by number, or no such argument.
            return create(name)


def main() -> None:
    """Print the list, a name a line."""
    for each in verdicts():
        tell(": ".join(part for part in (each.name, each.kind, each.reason) if part))


if __name__ == "__main__":
    main()
