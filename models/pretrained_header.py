"""What weights that pre-training left say of themselves in their header (`models.pretrained`)."""

from __future__ import annotations

FORMAT = "medveil-pretrained"
VERSION = 1
