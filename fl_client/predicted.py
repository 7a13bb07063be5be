"""What a site's model says of its own images when a run ends: of each image alone, or of several views of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from crypto.base import Reading
from fl_client.data.asked_views import asked_view
from fl_client.data.stored import Ciphertexts, Part, nonces_for
from fl_client.site import Site
from fl_client.training import predict
from medveil.config import from_mapping
from medveil.predicting import PredictConfig

if TYPE_CHECKING:
    from models.vits import VisionTransformer

# Where the numbers of their nonces begin, above those of images hidden on the fly.
_FIRST = 2**50


def predicted(site: Site, model: VisionTransformer, part: str) -> npt.NDArray[np.float32]:
    """Class probabilities (n, K) of a part's images, the mean over the views that the run asks for.

    Raises
    ------
    DataError
        A view is to be made of a file that can no longer be read.
    """
    asked = from_mapping(PredictConfig, site.run.predict, where="predict")
    stored = site.store.part(part)
    said = predict(model, stored, site.train_config)
    if asked.views == 1 or not len(stored):
        return said
    total = said.astype(np.float64)
    for view in range(1, asked.views):
        total += predict(model, _View(site, stored, view, asked.augment), site.train_config)
    return (total / asked.views).astype(np.float32)


@dataclass(frozen=True)
class _View:
    """One view of each image of a part, made and hidden when it is asked for; nothing of it is stored."""

    site: Site
    part: Part
    view: int
    level: str

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return self.part.labels

    @property
    def reading(self) -> Reading:
        return self.part.reading

    def batch(self, indices: npt.NDArray[np.int64], epoch: int) -> Ciphertexts:
        source, cipher = self.site.source, self.site.cipher
        rows = self.part.indices[indices].tolist()
        plain = np.stack([asked_view(source.read(row), self.view, self.level) for row in rows])
        return cipher.encrypt(plain, nonces_for(cipher, [_FIRST + self.view * len(source) + row for row in rows]))
