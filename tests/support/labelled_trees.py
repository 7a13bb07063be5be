"""Folders of tiny images, made for a test, and the small inputs that MedVeil once read wrongly, where they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fl_client.data.config import DataConfig
from fl_client.data.partition import Parts, site_parts
from fl_client.data.source import Source, open_source

CASES = Path(__file__).parents[3] / "shared" / "cases" / "images"
here = pytest.mark.skipif(not CASES.is_dir(), reason=f"no cases at {CASES}")


def put(root: Path, *names: str) -> Path:
    """Write an image of its own under each name."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = np.random.default_rng(list(name.encode("utf-8", "surrogateescape"))).integers(
            0, 256, (16, 16), dtype=np.uint8
        )
        Image.fromarray(drawn).save(path, format="PNG")
    return root


def classes(root: Path, *names: str, images: int = 4) -> Path:
    """One folder a class, with images in each."""
    return put(root, *(f"{name}/i{i}.png" for name in names for i in range(images)))


def table(root: Path, rows: Iterable[tuple[str, ...]], *, name: str = "labels.csv", mark: str = ",") -> Path:
    """Write a table as it is given: nothing is quoted."""
    (root / name).write_text("".join(f"{mark.join(row)}\n" for row in rows), encoding="utf-8")
    return root


def images(root: Path, **settings: Any) -> Source:
    """Open a folder of images."""
    return open_source(DataConfig(source="images", path=str(root), image_size=16, **settings))


def labelled(root: Path, rows: Iterable[tuple[str, ...]], **settings: Any) -> Source:
    """Write a table of labels into a folder and open it."""
    return images(table(root, rows), labels="labels.csv", **settings)


def parts_of(source: Source, **settings: Any) -> Parts:
    """How one site splits it."""
    config = DataConfig(source="images", path=str(source.path), **settings)
    return site_parts(source, config, sites=1, index=0, seed=0)


def said(source: Source) -> str:
    """Everything that is to be said of a source."""
    return "\n".join((*source.warnings, *source.remarks))
