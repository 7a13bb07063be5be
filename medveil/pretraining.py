"""What a model learns before it learns classes: settings of masked autoencoding that travel in a run's contract.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022: an encoder sees a quarter of an image's
patches, and a small decoder says the pixels of the others. No label is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from medveil.errors import ConfigError

SINGLE_LABEL, MASKED, SUPERVISED = "single-label", "masked-autoencoding", "supervised"
PRETRAINED = "pretrained.safetensors"
"""What a run of masked autoencoding leaves in its folder."""
WAYS = (MASKED, SUPERVISED)
_SIZES = {"decoder_width": (4, 2048), "decoder_depth": (1, 32), "decoder_heads": (1, 64)}
_AXES = 4


@dataclass
class MaskedConfig:
    """Masked autoencoding, the same at every site."""

    mask: float = field(
        default=0.75, metadata={"help": "Share of an image's patches that the encoder does not see, and that are told."}
    )
    decoder_width: int = field(default=128, metadata={"help": "Width of the decoder, which is thrown away afterwards."})
    decoder_depth: int = field(default=2, metadata={"help": "Blocks of the decoder."})
    decoder_heads: int = field(default=4, metadata={"help": "Attention heads of a block of the decoder."})
    normalise_pixels: bool = field(
        default=False,
        metadata={
            "help": "Tell the pixels of each patch less their mean and over their deviation; not with cipher.negate."
        },
    )

    def check(self, *, where: str = "pretrain") -> None:
        """Refuse values out of range (ConfigError)."""
        if not 0 < self.mask < 1:
            raise ConfigError("'mask' is out of its range", where=where, cure="above 0 and below 1, for example 0.75")
        for name, (least, most) in _SIZES.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f"'{name}' is out of its range", where=where, cure=f"{least} to {most}")
        for name, step in (("decoder_heads", self.decoder_heads), ("4, sines and cosines of two axes", _AXES)):
            if self.decoder_width % step:
                raise ConfigError(f"'decoder_width' is no multiple of {name}", where=where, cure="such a multiple")


@dataclass
class PretrainConfig(MaskedConfig):
    """How `medveil-sim pretrain` trains, and, but for `task`, what a run of masked autoencoding does."""

    task: str = field(
        default=MASKED,
        metadata={"help": "What 'medveil-sim pretrain' learns by: masked-autoencoding (no labels), or supervised."},
    )

    def check(self, *, where: str = "pretrain") -> None:
        """Refuse values out of range (ConfigError)."""
        if self.task not in WAYS:
            raise ConfigError("'task' is not known", where=where, cure=f"one of {', '.join(WAYS)}")
        super().check(where=where)

    @property
    def masked(self) -> MaskedConfig:
        """What of it travels in a contract."""
        return MaskedConfig(
            self.mask, self.decoder_width, self.decoder_depth, self.decoder_heads, self.normalise_pixels
        )
