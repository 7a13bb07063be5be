"""Where attacks are measured: one set of images, one cipher, many keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from crypto.base import Geometry, ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig, resolve
from crypto.keys import SimulatedKey
from fl_client.data.rng import generator
from medveil.errors import ConfigError
from simulations.attacks.study.cases import Case, Images, Pixels
from simulations.attacks.study.material import Material

_PUBLIC = 1000
"""Public images an attacker gets, at most."""
_FEW = 300
"""Public images that chance is taken from: their mean, and others of a class."""


@dataclass(frozen=True)
class Setting:
    """Images, cipher and keys of a measurement.

    Attributes
    ----------
    material : Material
        The images.
    config : CipherConfig
        The cipher, resolved.
    keys, images : int
        Keys, and images attacked under each.
    seed : int
        Of keys and draws. Key k is ``SimulatedKey(seed + k, "attacked")``.
    kind : type of ImageCipher or None
        The cipher itself, for one that is in no registry.
    run : Path or None
        The run whose images and cipher these are, for what can be measured on its own models.
    elsewhere : Material or None
        Another source, all of whose images are the attacker's public ones; None for half of `material`.
    at_most : int or None
        Images hidden under each key and attacked, at most, whatever an attack asks for, and as many labelled ones
        beside them; None where each attack may take what it was made for.
    """

    material: Material
    config: CipherConfig
    keys: int = 10
    images: int = 100
    seed: int = 0
    kind: type[ImageCipher] | None = None
    run: Path | None = None
    elsewhere: Material | None = None
    at_most: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("keys", self.keys), ("images per key", self.images)):
            if value < 1:
                raise ConfigError(f"{name}: {value}", cure="at least 1")
        if self.material.size % self.config.block:
            problem = f"images of {self.material.size} pixels are not whole blocks of {self.config.block}"
            raise ConfigError(problem, cure="attack images whose size is a multiple of the block")

    @cached_property
    def geometry(self) -> Geometry:
        """Shape of the images and blocks."""
        side = self.material.size
        return Geometry(channels=self.material.channels, height=side, width=side, block=self.config.block)

    @property
    def seeds(self) -> list[int]:
        """The seed of each key."""
        return [self.seed + key for key in range(self.keys)]

    @property
    def described(self) -> dict[str, Any]:
        """What is attacked, as plain data for a result."""
        shape = self.geometry
        return {
            "scheme": self.config.scheme,
            "block": self.config.block,
            "negate": self.config.negate,
            "channels": shape.channels,
            "height": shape.height,
            "width": shape.width,
            "bits": shape.bits,
        }

    def capped(self, images: int) -> int:
        """A number of images, or as many of them as may be hidden under one key."""
        return images if self.at_most is None else min(images, self.at_most)

    def under(self, scheme: str | type[ImageCipher]) -> Setting:
        """The same images and keys under another scheme, with its own settings where it has any."""
        if isinstance(scheme, str):
            block = self.config.block
            return replace(self, config=resolve(CipherConfig(scheme=scheme, block=block)), kind=None)
        return replace(self, config=replace(self.config, scheme=scheme.scheme), kind=scheme)

    def cipher(self, key: int, *, site: str = "attacked") -> ImageCipher:
        """The cipher under a key of this measurement, or under the same number's key of another `site`."""
        made = SimulatedKey(self.seed + key, site)
        shape = self.geometry
        if self.kind is not None:
            return self.kind(self.config, made, shape)
        return make_cipher(self.config, made, channels=shape.channels, height=shape.height, width=shape.width)

    def case(
        self,
        key: int,
        *,
        images: int | None = None,
        fewest: int | None = None,
        known: int = 0,
        decoys: int = 0,
        linkable: int = 0,
        labelled: int = 0,
    ) -> Case:
        """Draw what is attacked under one key. Under another scheme the same key gets the same images.

        Parameters
        ----------
        key
            From 0 to ``keys - 1``.
        images
            Images hidden and attacked; None for the measurement's own number.
        fewest
            How many of them will do where there are no more; None for all.
        known
            Further images for pairs, of other groups than the targets where there are groups.
        linkable
            How many of the targets, the first, stand among the candidate plaintexts.
        decoys
            Other images among the candidates, as many of them as there are.
        labelled
            Images whose ciphertexts the attacker has with their labels, of the public half; as many as there are.

        Raises
        ------
        DataError
            There are too few images.
        """
        rng = generator(self.seed + key, "images")
        material = self.material
        count, labelled = self.capped(self.images if images is None else images), self.capped(labelled)
        will_do = count if fewest is None else min(fewest, count)
        drawn = material.draw(
            count + decoys, pool=material.attacked, rng=rng, at_least=will_do, what="images to attack"
        )
        count = min(count, len(drawn.places))
        targets = Images(drawn.images.pixels[:count], drawn.images.labels[:count])
        without = material.groups_of(drawn.places[:count])
        extra = material.draw(known, pool=material.attacked, rng=rng, without=without, what="images for pairs")
        case = Case(
            config=self.config,
            geometry=self.geometry,
            cipher=self.cipher(key),
            other=self.cipher(key, site="another"),
            targets=targets,
            known=extra.images,
            public=lambda: self.public,
            guess_images=lambda: self._guesses(targets, key),
            number=key,
        )
        if linkable:
            candidates = np.concatenate([targets.pixels[:linkable], drawn.images.pixels[count:]])
            order = rng.permutation(len(candidates))
            case.candidates = candidates[order]
            case.linked = np.full(count, -1, np.int64)
            case.linked[:linkable] = np.argsort(order)[:linkable]
        if labelled:
            own = generator(self.seed + key, "labelled")
            told = material.draw(labelled, pool=material.public, rng=own, at_least=1, what="labelled images")
            case.labelled = told.images
            case.labelled_sites = material.sites_of(told.places)
            case.sites = material.sites_of(drawn.places[:count])
        return case

    @cached_property
    def public(self) -> Images:
        """The attacker's public images: as many as can be read, up to a thousand."""
        if self.elsewhere is None:
            return self._of_public_half(_PUBLIC)
        everything = np.arange(len(self.elsewhere.items))
        rng = generator(self.seed, "public")
        return self.elsewhere.draw(_PUBLIC, pool=everything, rng=rng, at_least=1, what="public images").images

    @property
    def public_text(self) -> str:
        """Say where the public images are from."""
        if self.elsewhere is None:
            return "The public images are the other half of the same source."
        return f"The public images are of another source, {self.elsewhere.source.path}."

    def _of_public_half(self, n: int) -> Images:
        rng = generator(self.seed, "public")
        return self.material.draw(n, pool=self.material.public, rng=rng, at_least=1, what="public images").images

    @cached_property
    def _few(self) -> Images:
        return self._of_public_half(_FEW)

    @cached_property
    def _mean(self) -> Pixels:
        made: Pixels = np.rint(self._few.pixels.mean(axis=0)).astype(np.uint8)
        return made

    def _guesses(self, targets: Images, key: int) -> list[Pixels]:
        rng = generator(self.seed + key, "guesses")
        return [np.broadcast_to(self._mean, targets.pixels.shape), self._others(targets, rng)]

    def _others(self, targets: Images, rng: np.random.Generator) -> Pixels:
        pixels, labels = self._few
        made = np.empty_like(targets.pixels)
        for row, label in enumerate(targets.labels.tolist()):
            same = np.flatnonzero(labels == label)
            made[row] = pixels[rng.choice(same if len(same) else len(labels))]
        return made
