"""timm's transformers that a stem is known for, as one type for signatures.

Nothing is imported when the program runs: timm takes seconds, and a signature needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from medveil.errors import ConfigError

if TYPE_CHECKING:
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer as Plain

    VisionTransformer: TypeAlias = Plain | Eva
    """ViT, DeiT and kin with learned positions; and EVA, DINOv3 and kin, whose positions may be rotary."""


def check_vit(model: object) -> None:
    """Refuse what has no patch embedding, as all of them have one (ConfigError)."""
    if getattr(model, "patch_embed", None) is None:
        cure = "models.api.build(...) or simulations.api.load_model(...) gives one"
        raise ConfigError(f"is of type '{type(model).__name__}', and no Vision Transformer", where="model", cure=cure)
