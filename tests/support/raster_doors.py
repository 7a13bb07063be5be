"""What each door makes of a raster file: `medveil-crypto` (hidden for training, and opened), and a training source."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from crypto.config import CipherConfig
from crypto.files.hiding import nonces_of
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.keys import SiteKey
from crypto.tree.tasks import words
from fl_client.data.config import DataConfig
from fl_client.data.source import Source, open_source
from medveil.errors import DataError

KEY = SiteKey(bytes(range(32)), "mercy")
SIDE = 32

Seen = list[np.ndarray] | str
"""The images, uint8 (C, SIDE, SIDE), or the words of the refusal."""


def steward(path: Path, home: Path, *, window: tuple[float, float] | None = None) -> Seen:
    """Hide a file for training, and open its ciphertext in memory."""
    recipe = Recipe(purpose="training", cipher=CipherConfig(block=4), size=SIDE, window=window)
    kind, hidden = kind_of(path), home / "hidden"
    assert kind is not None
    try:
        kind.hide(path, hidden, recipe, KEY)
    except DataError as error:
        return words(error)
    found = kind_of(hidden)
    assert found is not None
    header = found.header(hidden)
    cipher = header.cipher(KEY)
    return [cipher.decrypt(found.ciphertext(hidden, i), nonces_of(header, i)) for i in range(header.frames)]


def source_of(path: Path, home: Path, **settings: object) -> Source:
    """A source of one class that holds this file, under its own name, and one that nothing is in."""
    folder = home / "source"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "a").mkdir(parents=True)
    os.link(path, folder / "a" / path.name)
    given = {"source": "images", "classes": ["a", "b"], "image_size": SIDE, "min_side": 1, **settings}
    return open_source(DataConfig(path=str(folder), **given))  # type: ignore[arg-type]


def training(path: Path, home: Path, *, window: tuple[float, float] | None = None) -> Seen:
    """Read a file as a source of training images does."""
    try:
        source = source_of(path, home, window=None if window is None else list(window))
        return [source.read(index) for index in range(len(source))]
    except DataError as error:
        try:
            # With its channels given, a source opens without reading, and the words are those over the file.
            source_of(path, home, channels=1).read(0)
        except DataError as found:
            return words(found)
        return words(error)


def both(path: Path, home: Path, *, window: tuple[float, float] | None = None) -> Seen:
    """What both doors make of a file, once it is seen that it is the same."""
    one, other = steward(path, home, window=window), training(path, home, window=window)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other, (one, other)
    else:
        assert len(one) == len(other), (len(one), len(other))
        for mine, yours in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine, yours)
    return one
