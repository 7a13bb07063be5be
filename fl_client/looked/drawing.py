"""What a page shows of images that were looked at: the picture, the attention over it, and in words what was answered.

The tint of a patch is how much more than an equal share of all patches reached the classifier; the strongest on the
page is tinted full, and a patch with an equal share or less not at all, so that pictures of a page can be compared.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from fl_client.looked.choosing import ANSWER, HIT, MISS, MOST_CLASSES
from medveil.pages.pictures import data_uri

_TINT = (255, 150, 30)
_FULL = 0.62
"""Opacity of the strongest tint: the image stays to be seen."""
WHAT_IT_IS = (
    "Attention rollout (Abnar and Zuidema 2020) follows each block's attention, the mean of its heads, and the "
    "residual beside it from what the classifier reads back to the patches: of a tinted patch more could flow there "
    "than an equal share.",
    "It is no explanation of the answer: it knows nothing of what a patch said, of the layers between the blocks' "
    "attention or of the classifier, and is the same whichever class is asked about. It is no finding, and a patch "
    "without tint may have decided.",
)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images that were looked at.

    Attributes
    ----------
    images
        uint8 (n, C, S, S), in plain.
    shares
        float (n, N): how much of each patch reached the classifier, patches in the order of the plain image, row by
        row of a square grid. No row where it cannot be read.
    labels
        int64 (n,), -1 where nobody knows.
    probabilities
        float (n, K).
    places
        Where each is: of a site, or a file.
    padded
        Side of the square that the grid covers, S or a little more.
    refused
        Why attention is not drawn; empty where it is.
    """

    images: npt.NDArray[np.uint8]
    shares: npt.NDArray[np.floating]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.floating]
    places: tuple[str, ...]
    padded: int
    refused: str = ""

    def __post_init__(self) -> None:
        n = len(self.images)
        whole = self.images.ndim == 4 and self.shares.ndim == 2 and self.probabilities.ndim == 2
        lengths = {len(self.labels), len(self.probabilities), len(self.places), n}
        if not whole or len(lengths) > 1 or len(self.shares) not in {0, n}:
            raise ValueError("arrays of images that were looked at are not of one length")


def content(pictures: Pictures, classes: Sequence[str]) -> dict[str, Any] | None:
    """What ``looked.html`` draws; None where there is no picture."""
    if not len(pictures.images):
        return None
    times = _times(pictures.shares)
    full = max((float(each.max()) for each in times), default=1.0)
    answered = pictures.probabilities.argmax(axis=1)
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in _hits_first(pictures, answered):
        of = int(pictures.labels[row]) if pictures.labels[row] >= 0 else int(answered[row])
        groups.setdefault(of, []).append(_card(pictures, classes, row, times, full))
    return {
        "groups": [(_named(classes, of), cards) for of, cards in sorted(groups.items())],
        "more": max(0, len(classes) - MOST_CLASSES),
        "drawn": bool(len(times)),
        "strongest": f"{full:.2f}",
        "refused": pictures.refused,
        "what_it_is": WHAT_IT_IS,
        "scale": f"{100 * pictures.padded / pictures.images.shape[3]:.3f}%",
        "labelled": bool((pictures.labels >= 0).any()),
    }


def _hits_first(pictures: Pictures, answered: npt.NDArray[np.int64]) -> list[int]:
    """Rows, those with a right answer before those with a wrong one, surer ones first."""
    order: list[int] = np.lexsort((-pictures.probabilities.max(axis=1), pictures.labels != answered)).tolist()
    return order


def _times(shares: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """How many times an equal share of what came from patches each patch has: float64 (n, N)."""
    made: npt.NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True) * shares.shape[1]
    return made


def _card(
    pictures: Pictures, classes: Sequence[str], row: int, times: npt.NDArray[np.float64], full: float
) -> dict[str, Any]:
    label, said = int(pictures.labels[row]), pictures.probabilities[row]
    answer = int(said.argmax())
    kind = ANSWER if label < 0 else HIT if label == answer else MISS
    words = f"{_named(classes, answer)} {said[answer]:.2f}"
    beside = f"{_named(classes, label)} {said[label]:.2f}" if kind == MISS else ""
    tint, most = "", ""
    if len(times):
        tint, most = tint_uri(times[row], full), f"{times[row].max():.2f}"
    return {
        "image": data_uri(pictures.images[row]),
        "tint": tint,
        "most": most,
        "kind": kind,
        "answer": words,
        "beside": beside,
        "place": pictures.places[row],
    }


def tint_uri(times: npt.NDArray[np.float64], full: float) -> str:
    """A tint (N,) as a picture of one pixel a patch; `full` is what is tinted full."""
    side = math.isqrt(len(times))
    strength = np.clip((times - 1) / max(full - 1, 1e-9), 0, 1) * _FULL
    pixels = np.empty((side, side, 4), np.uint8)
    pixels[..., :3] = _TINT
    pixels[..., 3] = np.rint(255 * strength).reshape(side, side)
    packed = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(packed, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


def _named(classes: Sequence[str], index: int) -> str:
    return classes[index] if index < len(classes) else str(index)
