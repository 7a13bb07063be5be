"""The images attacks are measured on: half of them attacked, the other half the attacker's public set."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fl_client.data.base import Item, Skipped, Source
from fl_client.data.items import said
from fl_client.data.rng import generator
from fl_client.data.splits import Indices, deal, group_items
from medveil.errors import DataError
from simulations.attacks.study.cases import Images


class Drawn(NamedTuple):
    """Images drawn from a pool, and their places in the source, int64 (n,)."""

    images: Images
    places: Indices


class Material:
    """Images of a source, read when they are asked for and kept.

    The source is dealt into two halves with each class alike and groups (a patient, a slide) whole: `attacked` is
    hidden and attacked, `public` is what an attacker may train or calibrate on. So nothing the attacker holds as public
    is of a patient under attack, as far as the source names patients.

    Attributes
    ----------
    attacked, public : int64 (n,)
        Places in the source.
    channels, size : int
        Shape of every image.
    skipped : list of Skipped
        Images that could not be read so far.
    """

    def __init__(self, source: Source, *, seed: int) -> None:
        self.source = source
        self.channels, self.size = source.channels, source.size
        self.skipped: list[Skipped] = []
        self._read: dict[int, npt.NDArray[np.uint8] | None] = {}
        # Official splits are for training; here every image is as good as another.
        items = [item._replace(split=None) for item in source.items]
        groups = group_items(items, np.arange(len(items)))
        halves = np.full((groups.strata.shape[1], 2), 0.5)
        part = deal(groups.strata, halves, rng=generator(seed, "attacked and public"))
        self.attacked, self.public = groups.gather(part == 0), groups.gather(part == 1)

    @property
    def items(self) -> tuple[Item, ...]:
        """The source's items."""
        return self.source.items

    @property
    def grouped(self) -> bool:
        """Whether the source says which images belong together."""
        return any(item.group is not None for item in self.items)

    def draw(
        self,
        n: int,
        *,
        pool: Indices,
        rng: np.random.Generator,
        without: Collection[str | int] = (),
        at_least: int | None = None,
        what: str = "images",
    ) -> Drawn:
        """Draw readable images of a pool without replacement.

        Parameters
        ----------
        n
            How many.
        pool
            `attacked` or `public`.
        rng
            Decides which.
        without
            Groups (see `groups_of`) that must not be drawn from.
        at_least
            How many will do; None for all `n`.
        what
            What they are for, in the error.

        Raises
        ------
        DataError
            The pool has too few.
        """
        places: list[int] = []
        for place in rng.permutation(pool).tolist():
            if len(places) == n:
                break
            if self._group(place) not in without and self._pixels(place) is not None:
                places.append(place)
        needed = n if at_least is None else at_least
        if len(places) < needed:
            problem = f"{len(places)} {what} can be drawn, and {needed} are needed"
            raise DataError(problem, where=self.source.path, cure="give more images, or ask for fewer images per key")
        chosen = np.array(places, dtype=np.int64)
        return Drawn(self.images(chosen), chosen)

    def images(self, places: Iterable[int]) -> Images:
        """Images at places known to be readable."""
        wanted = [int(place) for place in places]
        pixels = np.empty((len(wanted), self.channels, self.size, self.size), np.uint8)
        for row, place in enumerate(wanted):
            found = self._pixels(place)
            assert found is not None
            pixels[row] = found
        return Images(pixels, np.array([self.items[place].label for place in wanted], dtype=np.int64))

    def groups_of(self, places: Iterable[int]) -> set[str | int]:
        """Groups of some images; an image without one is its own."""
        return {self._group(int(place)) for place in places}

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites the source tells apart; empty where it names fewer than two."""
        found = sorted({item.site for item in self.items if item.site is not None})
        return tuple(found) if len(found) > 1 and all(item.site is not None for item in self.items) else ()

    def sites_of(self, places: Iterable[int]) -> npt.NDArray[np.int64] | None:
        """Site of each image, as an index of `sites`; None where there are none."""
        if not self.sites:
            return None
        return np.array([self.sites.index(str(self.items[int(place)].site)) for place in places], dtype=np.int64)

    def _group(self, place: int) -> str | int:
        group = self.items[place].group
        return place if group is None else group

    def _pixels(self, place: int) -> npt.NDArray[np.uint8] | None:
        if place not in self._read:
            try:
                self._read[place] = self.source.read(place)
            except DataError as error:
                self._read[place] = None
                self.skipped.append(Skipped(self.items[place].id, said(error)))
        return self._read[place]
