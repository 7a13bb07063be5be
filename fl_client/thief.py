"""What a site's stolen model is worth to someone without the key.

Two ways to use it are measured on the site's own test images: hiding them under a key of the thief's own, and putting
the public initial stem before the stolen trunk and head, on plaintext. Neither is the best an attacker could do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor

from crypto.base import PLAIN, ImageCipher, Pixels, Reading
from fl_client.config import TrainConfig
from fl_client.data.stored import nonces_for
from fl_client.leaving import Leaving
from fl_client.training import predict
from models.stem import stem_names
from models.travel import load_tensors

if TYPE_CHECKING:
    from models.vits import VisionTransformer


@dataclass(frozen=True)
class Loot:
    """Labelled test images (n, C, H, W), plain uint8 unless `reading` says otherwise.

    They are held in memory only while they are measured.
    """

    images: Pixels
    labels: npt.NDArray[np.int64]
    reading: Reading = PLAIN

    def batch(self, indices: npt.NDArray[np.int64], epoch: int) -> Pixels:
        """Images of these indices; there is one view."""
        return self.images[indices]


def under_wrong_key(
    model: VisionTransformer, loot: Loot, cipher: ImageCipher, config: TrainConfig, leaving: Leaving
) -> dict[str, float]:
    """Measures of the whole stolen model on images hidden by `cipher`, which carries another key than the site's."""
    images = cipher.encrypt(loot.images, nonces_for(cipher, list(range(len(loot.images)))))
    hidden = Loot(images, loot.labels, cipher.reading)
    return leaving.measured("wrong-key", loot.labels, predict(model, hidden, config))


def with_public_stem(
    model: VisionTransformer,
    loot: Loot,
    *,
    public: dict[str, Tensor],
    size: tuple[int, int],
    home: Sequence[str] = (),
    config: TrainConfig,
    leaving: Leaving,
) -> dict[str, float]:
    """Measures of the stolen trunk and head behind the public initial stem, on plaintext.

    Parameters
    ----------
    model
        The owner's model; its stem is replaced in place.
    public
        The public initial tensors, by state-dict name.
    size
        Height and width of whole blocks; smaller images are padded with zeros.
    home
        What else stays at its site, and is not stolen where a model is stolen on its way.
    """
    load_tensors(model, {name: public[name] for name in [*stem_names(model), *home]})
    missing = [(0, wanted - found) for wanted, found in zip(size, loot.images.shape[2:], strict=True)]
    plain = Loot(np.pad(loot.images, [(0, 0), (0, 0), *missing]), loot.labels)
    return leaving.measured("public-stem", loot.labels, predict(model, plain, config))
