"""The plain images of all sites in one place, in the parts that each site dealt them to.

Each site deals, prepares and stores its share as it does for every other arm, so that a baseline trains on what all
sites of a federated run train on together, chooses on what they validate on, and is tested where each of them tests.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crypto.base import PLAIN, ImageCipher, Reading
from crypto.cipher import make_cipher
from crypto.config import config_of_run
from fl_client.data.stored import OnTheFlyPart, Part, StoredPart
from fl_client.leaving import Leaving
from fl_client.predicted import ViewOfPart
from fl_client.simulated_host import simulated_setup
from fl_client.site_images import SiteImages, open_images
from fl_client.site_setup import SiteSetup
from medveil.errors import DataError
from medveil.versions import medveil_version
from simulations.plan import Plan

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]
_CELLS = 2**24
"""Pixels held at once as numbers."""


class _Behind:
    """Images of several sites behind one another; what `fl_client.training` draws batches from."""

    def __init__(self, parts: Sequence[Part | ViewOfPart]) -> None:
        self._behind = tuple(parts)

    def __len__(self) -> int:
        return sum(map(len, self._behind))

    @functools.cached_property
    def labels(self) -> Ints:
        """(n,) class of each image."""
        return np.concatenate([np.zeros(0, np.int64), *(each.labels for each in self._behind)])

    @property
    def reading(self) -> Reading:
        """How a model reads the pixels: nothing hides them."""
        return self._behind[0].reading if self._behind else PLAIN

    def batch(self, indices: npt.NDArray[np.int64], epoch: int = 0) -> Bytes:
        """Images uint8 (b, C, S, S) of these rows, in the view of this epoch."""
        return self._gathered(indices, lambda at, rows: self._behind[at].batch(rows, epoch))

    def _gathered(self, indices: npt.NDArray[np.int64], read: Callable[[int, Ints], Any]) -> Bytes:
        wanted = np.asarray(indices, dtype=np.int64)
        starts = np.cumsum([0, *(len(each) for each in self._behind)])
        of_part = np.searchsorted(starts, wanted, side="right") - 1
        made: Bytes | None = None
        for number in np.unique(of_part).tolist():
            at = np.flatnonzero(of_part == number)
            images = read(number, wanted[at] - starts[number])
            if made is None:
                made = np.empty((len(wanted), *images.shape[1:]), dtype=np.uint8)
            made[at] = images
        assert made is not None  # Nobody asks for no image.
        return made


class PooledPart(_Behind):
    """Parts of several sites.

    Parameters
    ----------
    parts
        Of each site, with whose it is; empty ones are left out.
    """

    def __init__(self, parts: Iterable[tuple[PooledSite, Part]]) -> None:
        self._owned = tuple((owner, part) for owner, part in parts if len(part))
        super().__init__([part for _, part in self._owned])

    @property
    def ids(self) -> tuple[str, ...]:
        """Name of each image."""
        return tuple(name for _, part in self._owned for name in part.ids)

    def view(self, number: int, level: str) -> _Behind:
        """View `number` (from 1) of each image, as a run is asked about it (`fl_client.predicted`)."""
        return _Behind([ViewOfPart(site.images.source, site.cipher, part, number, level) for site, part in self._owned])

    def raw(self, indices: npt.NDArray[np.int64]) -> Bytes:
        """Images uint8 (b, C, S, S) of these rows as they were prepared, not augmented."""
        return self._gathered(indices, lambda at, rows: _raw(self._owned[at][1], rows))

    def chunks(self) -> Iterator[tuple[Ints, Bytes]]:
        """All rows, and the images of them as `raw` gives them, as many at once as memory should hold."""
        if not len(self):
            return
        values = int(self.raw(np.arange(1)).size)
        step = max(1, min(2048, _CELLS // values))
        for start in range(0, len(self), step):
            rows = np.arange(start, min(len(self), start + step))
            yield rows, self.raw(rows)


def _raw(part: Part, rows: npt.NDArray[np.int64]) -> Bytes:
    if isinstance(part, OnTheFlyPart):
        return np.stack([part.source.read(int(part.indices[row])) for row in rows.tolist()])
    assert isinstance(part, StoredPart)
    # The first view is the image itself.
    return part.images.take(rows, 0).astype(np.uint8, copy=False)


@dataclass(frozen=True)
class PooledSite:
    """One site: what it brings, its images, and the cipher that leaves them as they are."""

    setup: SiteSetup
    images: SiteImages
    cipher: ImageCipher

    def row(self, classes: Sequence[str]) -> dict[str, Any]:
        """Its row of the manifest's table of sites."""
        labels = {name: self.images.store.part(name).labels for name in ("train", "validation", "test")}
        counts = np.bincount(labels["train"], minlength=len(classes)).tolist()
        return {
            "site": self.setup.name,
            "classes": list(classes),
            "counts": counts,
            "missing": [name for name, count in zip(classes, counts, strict=True) if not count],
            **{f"n_{name}": len(each) for name, each in labels.items()},
            "skipped": len(self.images.skipped),
            "scheme": "none",
            "version": medveil_version(),
        }


@dataclass(frozen=True)
class Pooled:
    """The sites of a run, and their images in one place.

    Attributes
    ----------
    sites
        In the order of their names' numbers.
    train, validation
        What all sites train and validate on.
    test
        What any site tests on, each image once.
    classes
        How many classes there are.
    """

    sites: tuple[PooledSite, ...]
    train: PooledPart
    validation: PooledPart
    test: PooledPart
    classes: int

    @property
    def leaving(self) -> Leaving:
        """Nothing is withheld: one person's simulation."""
        return self.sites[0].setup.leaving

    def groups(self, part: PooledPart) -> npt.NDArray[np.str_]:
        """What names the group of each image of a part."""
        return np.array(self.sites[0].images.source.group_names(part.ids), dtype=np.str_)

    def dealt(self, part: PooledPart, probabilities: Probabilities, name: str) -> dict[str, Probabilities]:
        """Class probabilities (n, K) of a part's images, by the sites that have them in their part `name`."""
        row_of = {id_: row for row, id_ in enumerate(part.ids)}
        return {
            each.setup.name: probabilities[[row_of[id_] for id_ in each.images.store.part(name).ids]]
            for each in self.sites
        }

    def hold(self) -> None:
        """Fix what the run stands on at each site, or refuse another (BasisError)."""
        for each in self.sites:
            each.images.basis.hold()


def pool(plan: Plan, *, weights: str) -> Pooled:
    """Open the images of every site of a plan; errors as `fl_client.site_images.open_images`.

    Parameters
    ----------
    plan
        The experiment; nothing in it is hidden.
    weights
        Digest of what the classifier begins with.
    """
    sites = []
    for index in range(plan.sites.sites):
        setup = simulated_setup(plan.run, plan.sites, index)
        size = plan.run.image_size
        cipher = make_cipher(config_of_run(plan.run.cipher), None, channels=plan.run.channels, height=size, width=size)
        sites.append(PooledSite(setup, open_images(plan.run, setup, cipher, weights=weights), cipher))
    parts = {name: [(each, each.images.store.part(name)) for each in sites] for name in ("train", "validation", "test")}
    train = PooledPart(parts["train"])
    if not len(train):
        raise DataError("no site has a training image", where=plan.out)
    return Pooled(
        tuple(sites),
        train,
        PooledPart(parts["validation"]),
        PooledPart(_each_once(parts["test"])),
        len(plan.run.classes),
    )


def _each_once(parts: Sequence[tuple[PooledSite, Part]]) -> Iterator[tuple[PooledSite, Part]]:
    """The parts without those whose images came before: a common test is the same at every site."""
    seen: set[tuple[str, ...]] = set()
    for site, part in parts:
        if part.ids not in seen:
            seen.add(part.ids)
            yield site, part
