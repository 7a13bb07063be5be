"""The marks by which a hidden file is known: written by `crypto.files`, and looked for wherever images are read."""

from __future__ import annotations

FORMAT = "medveil-hidden"
KEYWORD = "medveil"
"""Of the text chunk of a PNG."""
HEADER_TAG = 65333
"""The private tag of a TIFF."""
SEALED_MAGIC = b"MVSTREAM"
"""The first bytes of a sealed file."""
