"""What the two doors make of a file: the steward's (hidden for training, and shown again) and the training one."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pydicom

from crypto.config import CipherConfig
from crypto.dicom.kind import DICOM
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading.dicom import frame_to_bytes
from crypto.tree.tasks import words
from fl_client.data.config import DataConfig
from fl_client.data.source import open_source
from medveil.errors import DataError, MedVeilError

SIDE = 32
KEY = SiteKey(bytes(range(32)), "mercy")

Seen = np.ndarray | str
"""The frames, uint8 (N, SIDE, SIDE, C), or the words of the refusal."""


def steward(path: Path, home: Path, *, purpose: str = "training", window: tuple[float, float] | None = None) -> Seen:
    """Hide a file and show it again."""
    training = {"size": SIDE, "window": window} if purpose == "training" else {}
    recipe = Recipe(purpose=purpose, cipher=CipherConfig(block=4, negate=True), identity="kept", **training)
    hidden, shown = home / "steward.hidden", home / "steward.shown"
    try:
        DICOM.hide(path, hidden, recipe, KEY)
    except DataError as error:
        return words(error)
    DICOM.show(hidden, shown, Keyring(KEY))
    dataset = pydicom.dcmread(shown)
    if purpose != "training":
        return np.frombuffer(dataset.PixelData, np.uint8)
    channels = dataset.SamplesPerPixel
    return dataset.pixel_array.reshape(-1, SIDE, SIDE, channels)


def training(path: Path, home: Path, *, window: tuple[float, float] | None = None) -> Seen:
    """Read a file as a source of training images does."""
    folder = home / "training"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "a").mkdir(parents=True)
    shutil.copyfile(path, folder / "a" / "x.dcm")
    settings = {"classes": ["a", "b"], "group_by": "none", "min_side": 1, "image_size": SIDE}
    config = DataConfig(source="dicom", path=str(folder), window=None if window is None else list(window), **settings)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = open_source(config)
            made = np.stack([source.read(index) for index in range(len(source))])
    except DataError as error:
        return _refusal(path, error, window)
    return made.transpose(0, 2, 3, 1)


def _refusal(path: Path, error: DataError, window: tuple[float, float] | None) -> str:
    """The words for the file behind those for the folder, which name the commonest reason."""
    if "no usable image" in error.problem:
        return error.problem.split("1 because: ", 1)[1].removesuffix(")")
    try:
        frame_to_bytes(path, window=window)
    except MedVeilError as found:
        assert error.problem.endswith(found.problem)
        return words(found)
    return words(error)


def both(path: Path, home: Path, *, window: tuple[float, float] | None = None) -> Seen:
    """What both doors make of a file, once it is seen that it is the same."""
    one, other = steward(path, home, window=window), training(path, home, window=window)
    assert isinstance(one, str) == isinstance(other, str), other if isinstance(other, str) else one
    if isinstance(one, str):
        assert one == other, (one, other)
    else:
        assert np.array_equal(one, other)
    return one
