"""The parts of a sealed store, as training reads them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crypto.base import ImageCipher, Reading
from fl_client.data.augment import OF_RUN, augment
from fl_client.data.base import Source
from fl_client.data.config import DataConfig
from fl_client.data.prepared import Prepared
from fl_client.data.rng import generator
from fl_client.data.rows import Rows

Bytes = npt.NDArray[np.uint8]
Ciphertexts = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Indices = npt.NDArray[np.int64]

# Where the nonces of images encrypted on the fly begin, far above those of any store.
_FLY = 2**40


@dataclass(frozen=True)
class Views:
    """How the views of a training image are made.

    Attributes
    ----------
    count
        Views stored per image; 0: none is, each epoch makes its own.
    augment, flip
        As in `DataConfig`.
    seed
        Seed of the augmentation.
    """

    count: int
    augment: str
    flip: bool
    seed: int

    def make(self, image: Bytes, image_id: str, view: int) -> Bytes:
        """View `view` of an image (uint8 (C, S, S)), the same whenever it is asked for."""
        rng = generator(self.seed, "augment", image_id, view)
        return augment(image, name=self.augment, flip=self.flip, rng=rng)

    @classmethod
    def of(cls, config: DataConfig, level: str, seed: int) -> Views:
        """Those of a site's settings; a run's own `level` of augmentation is made on the fly, or in the views stored.

        Of a site that stores one view, which is never augmented, each epoch makes its own.
        """
        if level == "none":
            return cls(config.views, config.augment, config.flip, seed)
        return cls(0 if config.views == 1 else config.views, f"{OF_RUN}{level}", config.flip, seed)

    @property
    def random(self) -> bool:
        """Whether any view depends on the seed."""
        return self.count != 1 and (self.augment != "none" or self.flip)


@dataclass(frozen=True)
class Part(ABC):
    """Hidden images of one part (train, validation or test) of a site.

    Attributes
    ----------
    name : str
        ``"train"``, ``"validation"`` or ``"test"``.
    labels : int64 (n,)
        Class of each image, as an index of the source's classes.
    ids : tuple of str
        ``Item.id`` of each image.
    indices : int64 (n,)
        Index of each image in ``Source.items``, when the store was built.
    reading : Reading
        How a model reads the ciphertexts.
    """

    name: str
    labels: Indices
    ids: tuple[str, ...]
    indices: Indices
    reading: Reading

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def batch(self, indices: npt.ArrayLike, epoch: int = 0) -> Ciphertexts:
        """Ciphertexts of some images.

        Parameters
        ----------
        indices
            Rows of this part, integers (b,).
        epoch
            Which epoch of the whole run it is: it chooses the view.

        Returns
        -------
        uint8 (or the cipher's dtype) (b, C, H, W), a copy in memory
        """

    def nonces_of(self, indices: npt.ArrayLike) -> Bytes | None:
        """What stored images, not their views, were hidden with, uint8 (b, 16); None where there are none."""
        return None


@dataclass(frozen=True)
class StoredPart(Part):
    """A part whose ciphertexts lie in the store.

    Attributes
    ----------
    images : Rows (n, views, C, H, W)
        Ciphertexts; view 0 is the image itself, the others are augmented.
    nonces : Rows (n, views, 16) or None
        What each ciphertext was made with, where the cipher needs one per image.
    """

    images: Rows
    nonces: Rows | None

    def batch(self, indices: npt.ArrayLike, epoch: int = 0) -> Ciphertexts:
        """Ciphertexts of view ``epoch`` modulo the number of views; see `Part.batch`.

        Raises
        ------
        IntegrityError, StorageError
            A row of the store was changed, or cannot be read.
        """
        return self.images.take(np.asarray(indices, dtype=np.int64), epoch % self.images.shape[1])

    def nonces_of(self, indices: npt.ArrayLike) -> Bytes | None:
        """See `Part.nonces_of`."""
        return None if self.nonces is None else self.nonces.take(np.asarray(indices, dtype=np.int64), 0)


@dataclass(frozen=True)
class OnTheFlyPart(Part):
    """A training part that is augmented and hidden anew in every epoch; nothing of it is stored.

    Attributes
    ----------
    prepared : Prepared
        The plain images: those that fit are decoded once, the others for each batch.
    """

    source: Source
    cipher: ImageCipher
    views: Views
    prepared: Prepared

    def batch(self, indices: npt.ArrayLike, epoch: int = 0) -> Ciphertexts:
        """Ciphertexts of fresh views; see `Part.batch`.

        Raises
        ------
        DataError
            A file that could be read when the store was built no longer can.
        """
        rows = np.asarray(indices, dtype=np.int64).reshape(-1).tolist()
        size, channels = self.source.size, self.source.channels
        plain = np.empty((len(rows), channels, size, size), dtype=np.uint8)
        for at, row in enumerate(rows):
            # View 0 is the image itself in a store; on the fly every view is drawn.
            plain[at] = self.views.make(self.prepared.read(row), self.ids[row], epoch + 1)
        return self.cipher.encrypt(plain, self._nonces(rows, epoch))

    def _nonces(self, rows: list[int], epoch: int) -> Bytes | None:
        numbers = [_FLY + epoch * len(self.source) + int(self.indices[row]) for row in rows]
        return nonces_for(self.cipher, numbers)


def nonces_for(cipher: ImageCipher, numbers: list[int]) -> Bytes | None:
    """Nonces for ciphertexts with these numbers: uint8 (n, 16), or None where the cipher needs none.

    Fresh from the operating system; for a simulated key derived from the numbers, so that a simulation repeats.
    """
    if not cipher.per_image:
        return None
    if not cipher.fingerprint.startswith("sim-"):
        return cipher.fresh_nonces(len(numbers))
    drawn = [cipher.derived_nonces(number, 1) for number in numbers]
    return np.concatenate(drawn) if drawn else np.empty((0, 16), dtype=np.uint8)
