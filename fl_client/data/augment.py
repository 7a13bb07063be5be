"""Augmentation before encryption: small rotations, shifts, scales and brightness, and flips where they are right.

After encryption nothing can be augmented: a shifted ciphertext is no ciphertext of a shifted image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from medveil.errors import ConfigError
from medveil.training import AUGMENTS as NAMED

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


@dataclass(frozen=True, kw_only=True)
class Level:
    """A level of a run's own, `train.augment`: half of its views are mirrored, and each number is drawn evenly.

    Attributes
    ----------
    degrees, scale, shift, shear, aspect
        Largest rotation, share by which it grows or shrinks, share of the side by which it moves, sideways move for
        each move down, and share by which width and height differ.
    gamma, gain, offset
        Largest logarithm of the exponent of grey values, and share by which they are multiplied and of white by which
        they rise.
    filters
        Whether it is blurred or sharpened.
    """

    degrees: float
    scale: float
    shift: float
    gain: float
    offset: float
    shear: float = 0.0
    aspect: float = 0.0
    gamma: float = 0.0
    filters: bool = False


LEVELS = {
    "light": Level(degrees=10, scale=0.08, shift=0.04, gain=0.1, offset=0.05),
    "medium": Level(
        degrees=15, scale=0.15, shift=0.04, shear=0.06, aspect=0.08, gamma=0.3, gain=0.15, offset=0.05, filters=True
    ),
    "strong": Level(
        degrees=20, scale=0.25, shift=0.08, shear=0.1, aspect=0.12, gamma=0.5, gain=0.25, offset=0.1, filters=True
    ),
}
assert {"none", *LEVELS} == set(NAMED)
OF_RUN = "train."
"""Before the name of a level where it stands beside those of `STRENGTHS`: both have a ``light``."""
_FILTER = 64
"""A filter's radius is a pixel in images of this side."""


def augment(image: Bytes, *, name: str, flip: bool, rng: np.random.Generator) -> Bytes:
    """Make one augmented view.

    Parameters
    ----------
    image
        uint8 (C, S, S).
    name
        A key of `STRENGTHS`, or one of `LEVELS` behind `OF_RUN`.
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
    level = LEVELS.get(name.removeprefix(OF_RUN)) if name.startswith(OF_RUN) else None
    if name not in STRENGTHS and level is None:
        raise ConfigError(f"'{name}' is no augmentation", where="data.augment", cure=f"one of {', '.join(STRENGTHS)}")
    if flip:
        image = np.rot90(image, k=int(rng.integers(4)), axes=(1, 2))
        image = image[:, :, ::-1] if rng.random() < 0.5 else image
    if level is not None:
        return _at_level(image, level, rng)
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
    return _taken(image, (cos, sin, from_x, -sin, cos, from_y), margin)


def _at_level(image: Bytes, level: Level, rng: np.random.Generator) -> Bytes:
    image = image[:, :, ::-1] if rng.random() < 0.5 else image
    moved = _warp(image, level, rng).astype(np.float32)
    power, gain = math.exp(rng.uniform(-level.gamma, level.gamma)), 1.0 + rng.uniform(-level.gain, level.gain)
    made = 255.0 * (moved / 255.0) ** power * gain + 255.0 * rng.uniform(-level.offset, level.offset)
    if level.filters:
        made = _filter(made, rng.uniform(-1.0, 1.0))
    return np.asarray(np.rint(np.clip(made, 0, 255)), dtype=np.uint8)


def _warp(image: Bytes, level: Level, rng: np.random.Generator) -> Bytes:
    """Turn, scale, shear, stretch and shift about the centre; what comes in from outside repeats the edge."""
    side = image.shape[-1]
    angle = math.radians(rng.uniform(-level.degrees, level.degrees))
    zoom, aspect = (1.0 + rng.uniform(-share, share) for share in (level.scale, level.aspect))
    shear, shift = rng.uniform(-level.shear, level.shear), rng.uniform(-level.shift, level.shift, 2) * side
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    wide, high = zoom * math.sqrt(aspect), zoom / math.sqrt(aspect)
    back = np.linalg.inv(turn @ np.array([[1.0, shear], [0.0, 1.0]]) @ np.diag([wide, high]))
    # The farthest that a corner comes from, beyond the image's own half.
    margin = math.ceil(side * (np.abs(back).sum(1).max() - 1) / 2 + np.abs(back @ shift).max()) + 1
    from_x, from_y = margin + (side - 1) / 2 - back @ ((side - 1) / 2 + shift)
    return _taken(image, (back[0, 0], back[0, 1], from_x, back[1, 0], back[1, 1], from_y), max(1, margin))


def _filter(image: npt.NDArray[np.float32], amount: float) -> npt.NDArray[np.float32]:
    """Blur where `amount` is below 0, sharpen where it is above, by as much."""
    blur = ImageFilter.GaussianBlur(image.shape[-1] / _FILTER)
    whole = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    smooth = np.stack([np.asarray(Image.fromarray(plane).filter(blur), dtype=np.float32) for plane in whole])
    return image + np.float32(amount) * (image - smooth)


def _taken(image: Bytes, matrix: tuple[float, ...], margin: int) -> Bytes:
    """Planes whose pixels come from where an affine map says, in coordinates of the image with its margin."""
    side = image.shape[-1]
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
