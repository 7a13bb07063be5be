"""Augmentation before encryption: small rotations, shifts, scales and brightness, and flips where they are right.

After encryption nothing can be augmented: a shifted ciphertext is no ciphertext of a shifted image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from medveil.errors import ConfigError

Bytes = npt.NDArray[np.uint8]


class Strength(NamedTuple):
    """Largest rotation (degrees), shift (fraction of the side), scale, and contrast and brightness (fractions)."""

    degrees: float
    shift: float
    scale: float
    light: float


STRENGTHS = {
    "none": Strength(0.0, 0.0, 0.0, 0.0),
    "light": Strength(7.0, 0.04, 0.05, 0.1),
    "standard": Strength(15.0, 0.08, 0.1, 0.2),
}


def augment(image: Bytes, *, name: str, flip: bool, rng: np.random.Generator) -> Bytes:
    """Make one augmented view.

    Parameters
    ----------
    image
        uint8 (C, S, S).
    name
        A key of `STRENGTHS`.
    flip
        Also mirror and turn by quarters at random: tissue has no up and down, anatomy has.

    Returns
    -------
    uint8 (C, S, S)

    Raises
    ------
    ConfigError
        The name is unknown.
    """
    if name not in STRENGTHS:
        raise ConfigError(f"'{name}' is no augmentation", where="data.augment", cure=f"one of {', '.join(STRENGTHS)}")
    if flip:
        image = np.rot90(image, k=int(rng.integers(4)), axes=(1, 2))
        image = image[:, :, ::-1] if rng.random() < 0.5 else image
    strength = STRENGTHS[name]
    if strength.degrees == 0:
        return np.ascontiguousarray(image)
    return _relight(_move(image, strength, rng), strength.light, rng)


def _move(image: Bytes, strength: Strength, rng: np.random.Generator) -> Bytes:
    """Rotate, scale and shift about the centre; what comes in from outside repeats the edge."""
    side = image.shape[-1]
    angle = math.radians(rng.uniform(-strength.degrees, strength.degrees))
    zoom = 1.0 + rng.uniform(-strength.scale, strength.scale)
    shift_x, shift_y = rng.uniform(-strength.shift, strength.shift, 2) * side
    margin = math.ceil(side * (strength.shift + 0.25))
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    centre = (side - 1) / 2
    # Pillow maps each target pixel to where it comes from, in coordinates of the padded image.
    from_x = margin + centre - shift_x - cos * centre - sin * centre
    from_y = margin + centre - shift_y + sin * centre - cos * centre
    matrix = (cos, sin, from_x, -sin, cos, from_y)
    padded = np.pad(image, ((0, 0), (margin, margin), (margin, margin)), mode="edge")
    moved = [
        np.asarray(
            Image.fromarray(plane).transform(
                (side, side), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR
            )
        )
        for plane in padded
    ]
    return np.stack(moved)


def _relight(image: Bytes, light: float, rng: np.random.Generator) -> Bytes:
    contrast = 1.0 + rng.uniform(-light, light)
    brightness = 255.0 * rng.uniform(-light, light) / 2
    middle = float(image.mean())
    made = (image.astype(np.float32) - middle) * contrast + middle + brightness
    return np.asarray(np.rint(np.clip(made, 0, 255)), dtype=np.uint8)
