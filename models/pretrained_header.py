"""What weights say of themselves: in the header that pre-training left (`models.pretrained`), or beside them."""

from __future__ import annotations

FORMAT = "medveil-pretrained"
VERSION = 1
EXPORT = "config.json"
"""The file of an exported folder that says what it is (`models.exported`)."""
