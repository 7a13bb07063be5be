"""Which cipher hides the images, as configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from medveil.cipher_choice import CipherChoice
from medveil.config import again, from_mapping
from medveil.errors import ConfigError

FIRST_DERIVATION, NEWEST_DERIVATION = 1, CipherChoice.derivation


@dataclass
class CipherConfig(CipherChoice):
    """The image cipher of a run or a site."""

    scheme: str = again(
        CipherChoice,
        "scheme",
        words="Image cipher: block-pixel, per-block, etc, orthogonal, aes-ctr, none, the preset seed-paper, "
        "or pixel-wise and pixel-wise-fresh, which are there to be broken by attacks.",
    )
    block: int = again(
        CipherChoice, "block", words="Edge of a cipher block in pixels; the model's patch size must equal it."
    )
    negate: bool = again(
        CipherChoice,
        "negate",
        words="Also negate pixels at keyed positions of a block (block-pixel and per-block; ignored by the "
        "others: etc and pixel-wise always negate, orthogonal, aes-ctr and none never).",
    )
    derivation: int = again(
        CipherChoice,
        "derivation",
        words="How the key becomes a cipher: 2 tells training files, archives and stores apart, 1 is of what was "
        "made before that.",
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
    return replace(PRESETS.get(config.scheme, config), derivation=config.derivation)


def config_of_run(values: dict[str, Any], *, where: str = "cipher") -> CipherConfig:
    """The cipher that a run, or a model of one, names; where it names no derivation it was made before there were two.

    Raises
    ------
    ConfigError
        A field is unknown or of the wrong type.
    """
    return from_mapping(CipherConfig, {"derivation": FIRST_DERIVATION, **values}, where=where)
