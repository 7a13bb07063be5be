"""Which cipher hides the images, as configuration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from medveil.errors import ConfigError


@dataclass
class CipherConfig:
    """The image cipher of a run or a site."""

    scheme: str = field(
        default="block-pixel",
        metadata={
            "help": "Image cipher: block-pixel, per-block, etc, orthogonal, aes-ctr, none, the preset seed-paper, "
            "or pixel-wise and pixel-wise-fresh, which are there to be broken by attacks."
        },
    )
    block: int = field(
        default=16, metadata={"help": "Edge of a cipher block in pixels; the model's patch size must equal it."}
    )
    negate: bool = field(
        default=False,
        metadata={
            "help": "Also negate pixels at keyed positions of a block (block-pixel and per-block; ignored by the "
            "others: etc and pixel-wise always negate, orthogonal, aes-ctr and none never)."
        },
    )


PRESETS = {"seed-paper": CipherConfig(scheme="block-pixel", block=25, negate=False)}
"""Names that stand for a whole configuration. `seed-paper` is arXiv:2501.15363: 200x200 RGB, 64 blocks of 25x25x3."""


def resolve(config: CipherConfig) -> CipherConfig:
    """Replace a preset's name by what it stands for; anything else comes back as a copy.

    Raises
    ------
    ConfigError
        The block or the negation asked for contradicts the preset.
    """
    preset = PRESETS.get(config.scheme)
    if preset is not None and (config.block not in (CipherConfig.block, preset.block) or config.negate):
        raise ConfigError(
            f"preset {config.scheme} has block {preset.block} and no negation", where="cipher", cure="leave both unset"
        )
    return replace(PRESETS.get(config.scheme, config))
