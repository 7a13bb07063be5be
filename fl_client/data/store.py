"""The sealed store: a site's images, hidden once and sealed, then opened in memory by every round of training.

Its place depends on the site, the source, the cipher's name and the image size, not on the key: a changed key is
noticed, and the store rebuilt with a word on why. Images are hidden by the run's cipher, and lie sealed under the
site's own key whatever that is, with their names and labels: what is on the disk is of use to nobody without that key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from crypto.base import ImageCipher
from crypto.keys import Key
from fl_client.data.base import Source
from fl_client.data.config import DataConfig, check_data_config
from fl_client.data.left_open import STORES, LiesOpenError
from fl_client.data.named import source_name
from fl_client.data.opened_store import EncryptedStore, Opening, lies_open, own_header
from fl_client.data.partition import Parts
from fl_client.data.prepared import MIB
from fl_client.data.store_build import build
from fl_client.data.store_files import StoreSeal, read_head
from fl_client.data.store_terms import difference, key_name, parameters, prepared_otherwise, said_of, wanted_of
from fl_client.data.stored import Views
from medveil.errors import ConfigError, DataError, FormatError, IntegrityError, KeyMaterialError, StorageError
from medveil.files import locked, make_folder, new_folder, sweep_parts

Progress = Callable[[int, int], None]
MEASURED = "measured"
"""How the name of a store ends that no run trains on."""


def open_store(
    source: Source,
    parts: Parts,
    cipher: ImageCipher,
    config: DataConfig,
    *,
    key: Key,
    folder: Path,
    seed: int,
    level: str = "none",
    site: str = "",
    verify: bool = False,
    contents: str | None = None,
    trains: bool = True,
    progress: Progress | None = None,
) -> EncryptedStore:
    """Open a site's store, building it first where it is missing or no longer agrees.

    Parameters
    ----------
    source, parts
        The images, and which of them are the site's.
    cipher
        Made for images of ``source.channels`` x ``source.size`` x ``source.size``, 8 bit.
    key
        The site's own: it seals the store, whatever key hides the images.
    folder
        The site's state folder; the store becomes ``folder/stores/NAME``. One process builds at a time, others wait.
    seed
        Seed of the augmentation.
    level
        Augmentation of the run, `train.augment`; ``none`` leaves it to `config`.
    site
        Name of the site, where several share the folder.
    verify
        Read all of an existing store and find what was changed, as `EncryptedStore.verify` does.
    contents
        Digest of what is in the images, where it is known: a store of other contents is built anew.
    trains
        Whether a run trains on it; one that only measures has a store beside it, of test images alone.
    progress
        Called with (images done, images in all) while building.

    Raises
    ------
    ConfigError
        The cipher is for images of another shape, or larger in its blocks than the images.
    DataError
        No image that the run trains on, or measures, can be read.
    KeyMaterialError
        The store was made with another key, and the source can no longer be read to rebuild it.
    StorageError
        The disk is full or refuses a write; what was there before stays.
    FormatError
        The store is of a newer version.
    """
    check_data_config(config, level)
    _check_cipher(source, cipher)
    views, seal = Views.of(config, level, seed), StoreSeal.of(key)
    place = store_place(config, cipher, folder=folder, site=site, trains=trains)
    wanted = wanted_of(source, parts, cipher, views) | ({} if contents is None else {"contents": contents})
    opening = Opening(place, cipher, seal, source, views, memory=config.memory * MIB)
    make_folder(place.parent, mode=0o700)
    with locked(place.parent):
        found, why = _as_it_is(opening, wanted, verify=verify)
        if found is not None:
            return found
        sweep_parts(place.parent)
        try:
            with new_folder(place, mode=0o700) as building:
                build(
                    building,
                    source,
                    parts,
                    cipher,
                    views,
                    header=wanted,
                    seal=seal,
                    needed="train" if trains else "test",
                    progress=progress,
                )
        except DataError as error:
            raise _source_lost(error, place, cipher, seal) from error
        return replace(opening.store(), built=True, rebuilt=why or None)


def is_of_split(
    source: Source,
    parts: Parts,
    cipher: ImageCipher,
    config: DataConfig,
    *,
    key: Key,
    folder: Path,
    seed: int,
    level: str = "none",
) -> bool:
    """Whether a store is there that holds these images with these labels in these parts, prepared alike.

    Parameters as for `open_store`; under which key it was hidden is not asked. One sealed under another key is none.
    """
    wanted = wanted_of(source, parts, cipher, Views.of(config, level, seed))
    try:
        header = own_header(store_place(config, cipher, folder=folder), StoreSeal.of(key))
    except (IntegrityError, FormatError, StorageError, KeyMaterialError):
        return False
    return all(header[name] == wanted[name] for name in ("source", "classes", "split", "views", "preparation"))


def prepared_before(config: DataConfig, cipher: ImageCipher, *, folder: Path) -> str:
    """That the store that is there holds images prepared in another way; empty where it does not, or none is there."""
    try:
        return prepared_otherwise(read_head(store_place(config, cipher, folder=folder)).preparation)
    except (IntegrityError, FormatError, StorageError):
        return ""


def reopen_store(config: DataConfig, cipher: ImageCipher, *, key: Key, folder: Path, site: str = "") -> EncryptedStore:
    """Open a store whose source is out of reach; parameters as for `open_store`.

    Raises
    ------
    StorageError
        There is no store.
    KeyMaterialError
        It was made with another key, or sealed under another.
    ConfigError
        It was made with other parameters of the cipher, or holds no training images (``data.views: 0``).
    IntegrityError, FormatError
        It is damaged, lies open where this site seals, or is of a newer version.
    """
    place = store_place(config, cipher, folder=folder, site=site)
    if not place.is_dir():
        raise StorageError("there is no store", where=place, cure="open it with its source once")
    seal = StoreSeal.of(key)
    header = own_header(place, seal)
    if header["key"] != key_name(cipher):
        raise _wrong_key(place, header["key"], cipher)
    if header["cipher"] != parameters(cipher):
        raise ConfigError(
            f"was hidden with {said_of(header['cipher'])}, not {said_of(parameters(cipher))}", where=place
        )
    if header["views"]["count"] == 0:
        raise ConfigError("holds no training images (data.views is 0), and the source is out of reach", where=place)
    views = Views(**{"seed": 0, **header["views"]})
    return Opening(place, cipher, seal, None, views, memory=config.memory * MIB).store()


def store_place(config: DataConfig, cipher: ImageCipher, *, folder: Path, site: str = "", trains: bool = True) -> Path:
    """The folder a store lies in: one for each site, source, cipher, image size and whether a run trains on it."""
    size = str(cipher.geometry.height)
    name = _joined(site, source_name(config), cipher.scheme, size, "" if trains else MEASURED)
    return Path(folder) / STORES / name


def is_of_source(place: Path, config: DataConfig) -> bool:
    """Whether a store at this place is of the images that a configuration names, whatever hid them."""
    return place.name.startswith(f"{_joined(source_name(config))}-")


def _joined(*words: str) -> str:
    return "-".join(re.sub(r"[^A-Za-z0-9_-]+", "_", word) for word in words if word)


def _check_cipher(source: Source, cipher: ImageCipher) -> None:
    geometry = cipher.geometry
    cut_for = (geometry.channels, geometry.height, geometry.width)
    if cut_for != (source.channels, source.size, source.size):
        raise ConfigError(
            f"the cipher is for images of {cut_for}, and these are {source.channels}x{source.size}x{source.size}"
        )
    if geometry.block > source.size:
        raise ConfigError(
            f"images of {source.size}x{source.size} pixels are smaller than a block of {geometry.block}",
            where="data.image_size",
            cure="larger images, or a smaller block and patch",
        )


def _as_it_is(
    opening: Opening, wanted: dict[str, Any], *, verify: bool
) -> tuple[EncryptedStore, str] | tuple[None, str]:
    """The store that is there where it can be taken; else why not, the empty string where there is none."""
    if not opening.place.exists():
        return None, ""
    try:
        store = opening.store()
        why = difference(store.header, wanted)
        if why is not None:
            return None, why
        if verify:
            store.verify()
    except LiesOpenError as error:
        return None, f"it {error.problem}"
    except (IntegrityError, StorageError) as error:
        return None, f"it was damaged ({error})"
    except KeyMaterialError:
        sealed = read_head(opening.place).sealed
        return None, f"the key that seals it changed (from {sealed} to {opening.seal.fingerprint})"
    return store, ""


def _source_lost(
    error: DataError, place: Path, cipher: ImageCipher, seal: StoreSeal
) -> DataError | KeyMaterialError | IntegrityError:
    try:
        found = read_head(place)
    except (IntegrityError, StorageError):
        return error
    if found.key != key_name(cipher):
        return _wrong_key(place, found.key, cipher, because=error)
    if lies_open(place, found.sealed):
        return LiesOpenError(place, f", and it cannot be rebuilt: {error}")
    if found.sealed not in ("", seal.fingerprint):
        return _unbuilt(
            f"the store was sealed under the key {found.sealed}, and this is {seal.fingerprint}", place, error
        )
    return error


def _wrong_key(place: Path, found: str, cipher: ImageCipher, *, because: DataError | None = None) -> KeyMaterialError:
    return _unbuilt(f"the store was made with the key {found}, and this is {key_name(cipher)}", place, because)


def _unbuilt(problem: str, place: Path, because: DataError | None) -> KeyMaterialError:
    unread = "" if because is None else f", and it cannot be rebuilt: {because}"
    cure = "give the key it was made with, or the source to rebuild it from"
    return KeyMaterialError(f"{problem}{unread}", where=place, cure=cure)
