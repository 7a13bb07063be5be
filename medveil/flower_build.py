"""How Flower bundles an app: the part of its command line that is no promised interface, beside `medveil.flower`."""

from __future__ import annotations

from pathlib import Path


def build_fab(folder: Path) -> bytes:
    """Bundle the app in a folder as ``flwr build`` and ``flwr run`` do."""
    from flwr.cli.build import build_fab_from_disk  # noqa: PLC0415

    return build_fab_from_disk(folder)
