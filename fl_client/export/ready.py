"""A model that is ready to be asked about images, wherever it came from: kept at home, or exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from crypto.base import PLAIN as READ_PLAIN
from crypto.base import ImageCipher, Reading
from crypto.cipher import make_cipher
from fl_client.export.described import HIDDEN, Description, describe
from fl_client.export.domain import Keys, key_of, model_of
from fl_client.export.folder import open_folder
from fl_client.export.kept import KeptModel
from fl_client.export.write import arguments_of
from medveil.errors import KeyMaterialError, MedVeilError

if TYPE_CHECKING:
    from fl_client.deployment.own_keys import OwnKeys
    from models.vits import VisionTransformer


class LazyKeys:
    """Opens the site's keys when they are first asked for, once; a failure stays one.

    Parameters
    ----------
    read
        Opens them.
    """

    def __init__(self, read: Callable[[], OwnKeys]) -> None:
        self._read = read
        self._found: OwnKeys | MedVeilError | None = None

    def __call__(self) -> OwnKeys:
        """The keys; errors as of what opens them."""
        if self._found is None:
            try:
                self._found = self._read()
            except MedVeilError as error:
                self._found = error
        if isinstance(self._found, MedVeilError):
            raise self._found
        return self._found


@dataclass(frozen=True)
class Ready:
    """A model, what it is, and the keys that bring images to it.

    Parameters
    ----------
    described
        What it is.
    model
        float32, on the CPU, in evaluation mode.
    cipher
        Hides plain images for it; None where it reads plain ones.
    keys
        Opens the site's keys.
    """

    described: Description
    model: VisionTransformer
    cipher: ImageCipher | None
    keys: Callable[[], OwnKeys]

    @property
    def reading(self) -> Reading:
        """How the model reads pixels."""
        return READ_PLAIN if self.cipher is None else self.cipher.reading


def from_kept(kept: KeptModel, keys: Callable[[], OwnKeys]) -> Ready:
    """A model this site kept.

    Raises
    ------
    KeyMaterialError
        The site no longer holds its key.
    """
    model = model_of(kept)
    made = describe(kept, domain=HIDDEN, arguments=arguments_of(kept, model))
    return Ready(made, model, _cipher(made, keys), keys)


def from_simulated(kept: KeptModel, held: Keys) -> Ready:
    """A model that a simulated site left, with its keys, which hide in memory and open no file."""
    model = model_of(kept)
    made = describe(kept, domain=HIDDEN, arguments=arguments_of(kept, model))
    return Ready(made, model, _cipher(made, lambda: held), no_keys)


def no_keys() -> NoReturn:
    """In the place of a site's keys where there is no site."""
    raise KeyMaterialError("no site's key is here", cure="'medveil-site predict' asks with a site's own")


def from_folder(folder: Path, keys: Callable[[], OwnKeys]) -> Ready:
    """An exported model, from anyone; errors as `fl_client.export.folder.open_folder`."""
    described, model = open_folder(folder, keys)
    return Ready(described, model, _cipher(described, keys), keys)


def _cipher(made: Description, keys: Callable[[], Keys]) -> ImageCipher | None:
    """What hides plain images for the model; None where it reads plain ones, or such as another party hid."""
    if made.reads_plain or made.hidden_source is not None:
        return None
    key = key_of(made.policy.keys, made.fingerprint, keys())
    return make_cipher(made.cipher, key, channels=made.channels, height=made.image_size, width=made.image_size)
