"""The model of a run, as configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

BEGINNINGS = ("default", "mimetic")


@dataclass
class ModelConfig:
    """A timm Vision Transformer by name, with overrides; None keeps what timm defines for that name.

    The only random regularisation offered is stochastic depth: it drops whole samples, so training on hidden images
    stays equal to training on plain ones. Attention, projection and position dropout, timm's own PatchDropout and
    CutMix would meet other tokens under a permutation, and are not offered; ``train.patch_dropout`` follows the key.
    """

    name: str = field(
        default="vit_tiny_patch16_224",
        metadata={"help": "timm name of a ViT with learned or rotary positions, with or without a tag."},
    )
    image_size: int | None = field(
        default=None, metadata={"help": "Height and width of the padded image in pixels; a multiple of patch."}
    )
    patch: int | None = field(default=None, metadata={"help": "Patch size in pixels; equal to the cipher's block."})
    channels: int | None = field(default=None, metadata={"help": "Channels of an image."})
    classes: int | None = field(default=None, metadata={"help": "Number of classes; filled from the experiment."})
    width: int | None = field(default=None, metadata={"help": "Embedding width; a multiple of heads."})
    depth: int | None = field(default=None, metadata={"help": "Number of transformer blocks."})
    heads: int | None = field(default=None, metadata={"help": "Attention heads per block."})
    pretrained: str = field(
        default="false",
        metadata={"help": "Weights: false (fresh), true (timm hub), a .safetensors or Google's .npz, or an export."},
    )
    mean: list[float] | None = field(
        default=None,
        metadata={"help": "Channel means (0 to 1) the pretrained weights expect; unset takes the named model's own."},
    )
    std: list[float] | None = field(
        default=None,
        metadata={"help": "Channel deviations the pretrained weights expect; unset takes the named model's own."},
    )
    init: str = field(
        default="default",
        metadata={
            "help": "Fresh weights: default (timm's), or mimetic (attention as training leaves it, sine-cosine "
            "positions)."
        },
    )
    drop_path: float = field(default=0.0, metadata={"help": "Stochastic depth rate of the last block, 0 to below 1."})
