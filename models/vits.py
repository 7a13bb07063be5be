"""timm's transformers that a stem is known for, as one type for signatures.

Nothing is imported when the program runs: timm takes seconds, and a signature needs none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer as Plain

    VisionTransformer: TypeAlias = Plain | Eva
    """ViT, DeiT and kin with learned positions; and EVA, DINOv3 and kin, whose positions may be rotary."""
