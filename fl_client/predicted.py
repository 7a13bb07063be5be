"""What a model says of stored images when a run ends: of each image alone, or of several views of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from crypto.base import ImageCipher, Reading
from fl_client.data.asked_views import asked_view
from fl_client.data.base import Source
from fl_client.data.stored import Ciphertexts, Part, nonces_for
from fl_client.site import Site
from fl_client.training import predict
from medveil.config import from_mapping
from medveil.predicting import PredictConfig

if TYPE_CHECKING:
    from models.vits import VisionTransformer

Probabilities: TypeAlias = "npt.NDArray[np.float32]"
# Where the numbers of their nonces begin, above those of images hidden on the fly.
_FIRST = 2**50


def predicted(site: Site, model: VisionTransformer, part: str) -> Probabilities:
    """Class probabilities (n, K) of a part's images, the mean over the views that the run asks for.

    Raises
    ------
    DataError
        A view is to be made of a file that can no longer be read.
    """
    asked, stored = from_mapping(PredictConfig, site.run.predict, where="predict"), site.store.part(part)

    def of_view(view: int) -> Probabilities:
        seen = stored if view == 0 else ViewOfPart(site.source, site.cipher, stored, view, asked.augment)
        return predict(model, seen, site.train_config)

    return mean_over_views(of_view, asked.views if len(stored) else 1)


def mean_over_views(of_view: Callable[[int], Probabilities], views: int) -> Probabilities:
    """The mean of what a model says (n, K) of each view, from 0, the images themselves."""
    said = of_view(0)
    if views == 1:
        return said
    total = said.astype(np.float64)
    for view in range(1, views):
        total += of_view(view)
    return (total / views).astype(np.float32)


@dataclass(frozen=True)
class ViewOfPart:
    """One view of each image of a stored part, made and hidden when it is asked for; nothing of it is stored.

    Parameters
    ----------
    source
        Where the plain images are.
    cipher
        What hides them.
    part
        The images.
    view
        Which view, from 1.
    level
        ``light``, ``medium`` or ``strong``.
    """

    source: Source
    cipher: ImageCipher
    part: Part
    view: int
    level: str

    def __len__(self) -> int:
        return len(self.part)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(n,) class of each image."""
        return self.part.labels

    @property
    def reading(self) -> Reading:
        """How a model reads the pixels."""
        return self.part.reading

    def batch(self, indices: npt.NDArray[np.int64], epoch: int) -> Ciphertexts:
        """The view of these images, hidden: (b, C, S, S)."""
        rows = self.part.indices[indices].tolist()
        plain = np.stack([asked_view(self.source.read(row), self.view, self.level) for row in rows])
        return self.cipher.encrypt(plain, nonces_for(self.cipher, [self._nonce(row) for row in rows]))

    def _nonce(self, row: int) -> int:
        return _FIRST + self.view * len(self.source) + row
