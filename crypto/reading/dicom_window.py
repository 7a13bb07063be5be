"""Windows of DICOM files: which of those a file says is used, and what it does (PS3.3 C.11.2.1.2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from crypto.reading.dicom_values import fault, numbers, text

_SIGMOID, _EXACT = "SIGMOID", "LINEAR_EXACT"
_STEEPEST = 700.0
"""Where an exponential still is a finite number."""


class Window(NamedTuple):
    """A window; `function` is ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``, any other is taken as ``LINEAR``."""

    centre: float
    width: float
    function: str = "LINEAR"

    def fraction(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Brightness of values of any shape: 0 to 1."""
        if self.function == _SIGMOID:
            steep = np.clip(-4 * (values - self.centre) / self.width, -_STEEPEST, _STEEPEST)
            return np.asarray(1 / (1 + np.exp(steep)))
        if self.function == _EXACT or self.width < 1:
            # LINEAR has no meaning below a width of 1; files in small units say such windows all the same.
            return np.asarray(np.clip((values - self.centre) / self.width + 0.5, 0, 1))
        if self.width == 1:
            return np.asarray(values > self.centre - 0.5, dtype=np.float64)
        return np.asarray(np.clip((values - (self.centre - 0.5)) / (self.width - 1) + 0.5, 0, 1))


def window_of(centres: Dataset, widths: Dataset, functions: Dataset) -> Window | None:
    """The first window of a file that has a centre and a width; None where there is none. A width of 0 says none.

    Parameters
    ----------
    centres, widths, functions
        Where the file says WindowCenter, WindowWidth and VOILUTFunction.

    Raises
    ------
    DataError
        One is no number, or a width is negative.
    """
    pairs = zip(numbers(centres, "WindowCenter"), numbers(widths, "WindowWidth"), strict=False)
    first = next(((centre, width) for centre, width in pairs if centre is not None and width is not None), None)
    if first is None or first[1] == 0:
        return None
    centre, width = first
    if width < 0:
        raise fault("WindowWidth", "is negative")
    return Window(centre, width, text(functions, "VOILUTFunction").upper())
