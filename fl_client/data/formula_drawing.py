"""Images drawn by formula, many at once: their class is the formula, and nobody's picture is in them.

*Contours*: wobbling rings about a centre, after the radial contours of Kataoka et al., "Replacing Labeled Real-Image
Datasets with Auto-Generated Contours", CVPR 2022, arXiv 2206.09132. A class is the number of rings, their spacing and
width and the waves in them; an image of it is turned, shifted and stretched.

*Fractals*: points that wander by a class's affine maps, drawn as where they come by, after Nakamura et al., "Scaling
Backwards: Minimal Synthetic Pre-training?", ECCV 2024, arXiv 2408.00677; maps as Anderson and Farrell draw them
("Improving Fractal Pre-training", WACV 2022), by singular values that contract. An image of a class shakes the maps.

What is random is drawn for each image by itself, so that an image is the same in whichever batch it is drawn; pixels
are then computed for all of them together, on the GPU where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fl_client.data.rng import generator

Bytes = npt.NDArray[np.uint8]
_RINGS, _WAVES = 8, 7
_MAPS, _POINTS, _STEPS, _SKIPPED = 4, 1024, 28, 8
_SHAKE = 0.1
_SPAN = 2.2
_BRIGHT = 255.0


class Drawn(NamedTuple):
    """Which image: its class and its number in it."""

    label: int
    number: int


def draw(formula: str, images: Sequence[Drawn], *, size: int, seed: int, device: str | None = None) -> Bytes:
    """Draw images.

    Parameters
    ----------
    formula
        One of `fl_client.data.config.FORMULAS`.
    images
        Which ones.
    size
        Side in pixels.
    seed
        Of classes and images.
    device
        Where their pixels are computed; None is the first GPU, or the CPU where there is none.

    Returns
    -------
    uint8 (n, size, size)
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.inference_mode():
        drawn = (_contours if formula == "contours" else _fractals)(images, size, seed, place)
        return (drawn * _BRIGHT).round().clamp(0, _BRIGHT).to("cpu", torch.uint8).numpy()


def _stacked(rows: Sequence[npt.NDArray[np.float64]], place: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(rows)).float().to(place)


# -- contours ----------------------------------------------------------------------------------------------------------


def _contours(images: Sequence[Drawn], size: int, seed: int, place: torch.device) -> Tensor:
    """Rings of radius R_k(t) = r_k + sum_h a_h cos(h t + p_h): (n, size, size), 0 to 1."""
    drawn = [_of_rings(each, seed) for each in images]
    rings, waves, frame = (_stacked([each[part] for each in drawn], place) for part in range(3))
    axis = torch.linspace(-1, 1, size, device=place)
    y, x = axis[None, :, None] - frame[:, 0, None, None], axis[None, None, :] - frame[:, 1, None, None]
    x = x * frame[:, 2, None, None]
    angle, radius = torch.atan2(y, x.expand(-1, size, -1)), torch.sqrt(x**2 + y**2)
    wobble = torch.zeros_like(radius)
    for h in range(_WAVES):
        amplitude, phase = waves[:, 0, h, None, None], waves[:, 1, h, None, None]
        wobble += amplitude * torch.cos((h + 2) * angle + phase)
    found = torch.zeros_like(radius)
    for k in range(_RINGS):
        place_of, width, bright = (rings[:, each, k, None, None] for each in range(3))
        found = torch.maximum(found, bright * torch.exp(-(((radius - place_of - wobble) / width) ** 2)))
    return found


def _of_rings(image: Drawn, seed: int) -> tuple[npt.NDArray[np.float64], ...]:
    """Rings (3, K): radius, width, brightness; waves (2, H): amplitude, phase; frame (3,): centre and stretch."""
    rng = generator(seed, "contours", image.label)
    count, spacing, width = int(rng.integers(1, _RINGS + 1)), rng.uniform(0.06, 0.14), rng.uniform(0.015, 0.05)
    radii = rng.uniform(0.15, 0.45) + spacing * np.arange(_RINGS) * rng.uniform(0.8, 1.2, _RINGS)
    amplitudes = rng.normal(0, 0.09, _WAVES) * (rng.random(_WAVES) < 0.45) / np.sqrt(1 + np.arange(_WAVES))
    phases = rng.uniform(0, 2 * math.pi, _WAVES)
    brights = np.where(np.arange(_RINGS) < count, rng.uniform(0.4, 1.0, _RINGS), 0.0)
    own = generator(seed, "contour", image.label, image.number)
    turn, scale = own.uniform(0, 2 * math.pi), own.uniform(0.8, 1.2)
    rings = np.stack([radii * scale, np.full(_RINGS, width), brights * own.uniform(0.7, 1.0)])
    waves = np.stack([amplitudes * scale * own.uniform(0.8, 1.2, _WAVES), phases + (2 + np.arange(_WAVES)) * turn])
    return rings, waves, np.array([*own.uniform(-0.2, 0.2, 2), own.uniform(0.85, 1.18)])


# -- fractals ----------------------------------------------------------------------------------------------------------


def _fractals(images: Sequence[Drawn], size: int, seed: int, place: torch.device) -> Tensor:
    """Where points come by that wander by affine maps: (n, size, size), 0 to 1."""
    drawn = [_of_maps(each, seed) for each in images]
    linear, shift = _stacked([each[0] for each in drawn], place), _stacked([each[1] for each in drawn], place)
    chosen = torch.from_numpy(np.stack([each[2] for each in drawn])).to(place).long()
    n = len(images)
    points = torch.zeros(n, _POINTS, 2, device=place)
    rows = torch.arange(n, device=place)[:, None].expand(-1, _POINTS)
    seen = []
    for step in range(_STEPS):
        which = chosen[:, step]
        points = (linear[rows, which] @ points[..., None])[..., 0] + shift[rows, which]
        if step >= _SKIPPED:
            seen.append(points)
    path = torch.cat(seen, dim=1)
    middle, spread = path.mean(1, keepdim=True), path.std(1, keepdim=True).clamp_min(1e-6)
    at = ((path - middle) / (_SPAN * spread) * 0.5 + 0.5) * size
    inside = ((at >= 0) & (at < size)).all(-1)
    cell = at.long().clamp(0, size - 1)
    count = torch.zeros(n, size * size, device=place)
    count.scatter_add_(1, cell[..., 0] * size + cell[..., 1], inside.float())
    bright = count / count.sum(1, keepdim=True).clamp_min(1) * (count > 0).sum(1, keepdim=True)
    return (1 - torch.exp(-bright)).view(n, size, size)


def _of_maps(image: Drawn, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Linear parts (M, 2, 2), shifts (M, 2), and which map each point takes at each step: uint8 (T, P)."""
    rng = generator(seed, "fractals", image.label)
    left, right = rng.uniform(0, 2 * math.pi, (2, _MAPS))
    large = rng.uniform(0.5, 0.85, _MAPS)
    small = large * rng.uniform(0.3, 1.0, _MAPS)
    signs = rng.choice([-1.0, 1.0], _MAPS)
    linear = _turned(left) @ (np.stack([large, signs * small], 1)[:, :, None] * _turned(right))
    shift, count = rng.uniform(-1, 1, (_MAPS, 2)), int(rng.integers(2, _MAPS + 1))
    weights = np.where(np.arange(_MAPS) < count, large * small, 0.0)
    own = generator(seed, "fractal", image.label, image.number)
    shaken = linear * (1 + own.uniform(-_SHAKE, _SHAKE, linear.shape))
    bounds = np.cumsum(weights / weights.sum())[:-1]
    which = np.searchsorted(bounds, own.random((_STEPS, _POINTS))).astype(np.uint8)
    return shaken, shift * (1 + own.uniform(-_SHAKE, _SHAKE, shift.shape)), which


def _turned(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
