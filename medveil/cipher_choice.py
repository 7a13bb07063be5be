"""The cipher of a run, as everyone may say it; what its schemes are, `crypto` knows and the server does not."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class CipherChoice:
    """The cipher every site hides its images with; its key is the site's own."""

    scheme: str = field(default="block-pixel", metadata={"help": "Image cipher; sites refuse one they do not know."})
    block: int = field(default=16, metadata={"help": "Edge of a cipher block in pixels; it is the model's patch size."})
    negate: bool = field(default=False, metadata={"help": "Also negate pixels at keyed positions of a block."})
    derivation: int = field(
        default=2, metadata={"help": "How a key becomes a cipher: 2, or 1 as sites of MedVeil before there were two."}
    )
