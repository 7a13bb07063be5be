"""The hidden store: a site's images, hidden once, then memory-mapped by every round of training.

Its place depends on the site, the source, the cipher's name and the image size, not on the key: a changed key is
noticed, and the store rebuilt with a word on why. No plaintext is written, unless the scheme is `none`. Identifiers
of images (paths) and labels are kept in the header, so the folder is readable by its owner only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crypto.base import ImageCipher
from fl_client.data.base import Skipped, Source, source_name
from fl_client.data.config import DataConfig, check_data_config
from fl_client.data.partition import Parts
from fl_client.data.prepared import MIB, Prepared
from fl_client.data.splits import PARTS
from fl_client.data.store_build import build
from fl_client.data.store_files import check_contents, open_array, read_header
from fl_client.data.store_terms import as_now, difference, key_name, parameters, prepared_otherwise, said_of, wanted_of
from fl_client.data.stored import OnTheFlyPart, Part, StoredPart, Views
from medveil.errors import ConfigError, DataError, FormatError, IntegrityError, KeyMaterialError, StorageError
from medveil.files import locked, make_folder, new_folder, sweep_parts

Progress = Callable[[int, int], None]
STORES = "stores"
"""Folder of them, in the site's own."""


@dataclass(frozen=True)
class EncryptedStore:
    """One site's hidden images.

    Attributes
    ----------
    folder : Path
        Where it lies.
    classes : tuple of str
        Ordered class names.
    parts : dict of str to Part
        By name.
    skipped : tuple of Skipped
        What was left out, each with the reason: files the source passed over when it was opened, then images of the
        site that could not be read when the store was built.
    built : bool
        Whether it was built now, or found.
    rebuilt : str or None
        Why a store that was there had to be built anew.
    """

    folder: Path
    classes: tuple[str, ...]
    parts: dict[str, Part]
    skipped: tuple[Skipped, ...]
    header: dict[str, Any]
    built: bool = False
    rebuilt: str | None = None

    @property
    def without_copies(self) -> bool:
        """Whether images to judge by that are trained on too were left out; an older MedVeil kept them."""
        return bool(self.header.get("without_copies", False))

    @property
    def alike(self) -> dict[str, Any]:
        """Pictures that it holds twice (`fl_client.data.alike`); one that an older MedVeil built tells of none."""
        return {"classes": 0, "named": [], **self.header.get("alike", {})}

    def part(self, name: str) -> Part:
        """The part called ``"train"``, ``"validation"`` or ``"test"``."""
        return self.parts[name]

    def verify(self) -> None:
        """Read everything and compare it with the checksums.

        Opening checks the header's checksum and the files' sizes only: hashing all images would make every start as
        slow as reading the whole store.

        Raises
        ------
        IntegrityError
            A file was changed.
        """
        for name, part in self.parts.items():
            if not isinstance(part, StoredPart):
                continue
            described = self.header["parts"][name]
            check_contents(self.folder / f"{name}.npy", part.images, described["images"])
            if part.nonces is not None:
                check_contents(self.folder / f"{name}-nonces.npy", part.nonces, described["nonces"])


def open_store(
    source: Source,
    parts: Parts,
    cipher: ImageCipher,
    config: DataConfig,
    *,
    folder: Path,
    seed: int,
    level: str = "none",
    site: str = "",
    verify: bool = False,
    contents: str | None = None,
    progress: Progress | None = None,
) -> EncryptedStore:
    """Open a site's store, building it first where it is missing or no longer agrees.

    Parameters
    ----------
    source, parts
        The images, and which of them are the site's.
    cipher
        Made for images of ``source.channels`` x ``source.size`` x ``source.size``, 8 bit.
    folder
        The site's state folder; the store becomes ``folder/stores/NAME``. One process builds at a time, others wait.
    seed
        Seed of the augmentation.
    level
        Augmentation of the run, `train.augment`; ``none`` leaves it to `config`.
    site
        Name of the site, where several share the folder.
    verify
        Read all of an existing store and compare it with its checksums, as `EncryptedStore.verify` does.
    contents
        Digest of what is in the images, where it is known: a store of other contents is built anew.
    progress
        Called with (images done, images in all) while building.

    Raises
    ------
    ConfigError
        The cipher is for images of another shape, or larger in its blocks than the images.
    DataError
        No training image can be read.
    KeyMaterialError
        The store was made with another key, and the source can no longer be read to rebuild it.
    StorageError
        The disk is full or refuses a write; what was there before stays.
    FormatError
        The store is of a newer version.
    """
    check_data_config(config, level)
    _check_cipher(source, cipher)
    views = Views.of(config, level, seed)
    place = store_place(config, cipher, folder=folder, site=site)
    wanted = wanted_of(source, parts, cipher, views) | ({} if contents is None else {"contents": contents})
    make_folder(place.parent, mode=0o700)
    with locked(place.parent):
        why = _disagreement(place, wanted)
        if why is None and verify:
            why = _changed(_load(place, cipher, source, views))
        if why is None:
            return _load(place, cipher, source, views, memory=config.memory)
        sweep_parts(place.parent)
        try:
            with new_folder(place, mode=0o700) as building:
                build(building, source, parts, cipher, views, header=wanted, progress=progress)
        except DataError as error:
            raise _source_lost(error, place, cipher) from error
        return _load(place, cipher, source, views, memory=config.memory, built=True, rebuilt=why or None)


def is_of_split(
    source: Source,
    parts: Parts,
    cipher: ImageCipher,
    config: DataConfig,
    *,
    folder: Path,
    seed: int,
    level: str = "none",
) -> bool:
    """Whether a store is there that holds these images with these labels in these parts, prepared alike.

    Parameters as for `open_store`; under which key it was hidden is not asked.
    """
    wanted = wanted_of(source, parts, cipher, Views.of(config, level, seed))
    try:
        header = as_now(read_header(store_place(config, cipher, folder=folder)))
    except (IntegrityError, FormatError, StorageError):
        return False
    return all(header[name] == wanted[name] for name in ("source", "classes", "split", "views", "preparation"))


def prepared_before(config: DataConfig, cipher: ImageCipher, *, folder: Path) -> str:
    """That the store that is there holds images prepared in another way; empty where it does not, or none is there."""
    try:
        return prepared_otherwise(read_header(store_place(config, cipher, folder=folder)))
    except (IntegrityError, FormatError, StorageError):
        return ""


def reopen_store(config: DataConfig, cipher: ImageCipher, *, folder: Path, site: str = "") -> EncryptedStore:
    """Open a store whose source is out of reach; parameters as for `open_store`.

    Raises
    ------
    StorageError
        There is no store.
    KeyMaterialError
        It was made with another key.
    ConfigError
        It was made with other parameters of the cipher, or holds no training images (``data.views: 0``).
    IntegrityError, FormatError
        It is damaged, or of a newer version.
    """
    place = store_place(config, cipher, folder=folder, site=site)
    if not place.is_dir():
        raise StorageError("there is no store", where=place, cure="open it with its source once")
    header = as_now(read_header(place))
    if header["key"] != key_name(cipher):
        raise _wrong_key(place, header["key"], cipher)
    if header["cipher"] != parameters(cipher):
        raise ConfigError(
            f"was hidden with {said_of(header['cipher'])}, not {said_of(parameters(cipher))}", where=place
        )
    if header["views"]["count"] == 0:
        raise ConfigError("holds no training images (data.views is 0), and the source is out of reach", where=place)
    return _load(place, cipher, None, Views(**{"seed": 0, **header["views"]}))


def store_place(config: DataConfig, cipher: ImageCipher, *, folder: Path, site: str = "") -> Path:
    """The folder a store lies in: one for each site, source, cipher and image size."""
    name = _joined(site, source_name(config), cipher.scheme, str(cipher.geometry.height))
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


def _disagreement(place: Path, wanted: dict[str, Any]) -> str | None:
    """Why a store cannot be taken as it is: None when it can, the empty string when there is none."""
    if not place.exists():
        return ""
    try:
        header = as_now(read_header(place))
        _map_parts(place, header)
    except (IntegrityError, StorageError, KeyError) as error:
        return f"it was damaged ({error})"
    return difference(header, wanted)


def _changed(store: EncryptedStore) -> str | None:
    """Why the contents of a store cannot be used: None when they can."""
    try:
        store.verify()
    except IntegrityError as error:
        return f"it was damaged ({error})"
    return None


def _source_lost(error: DataError, place: Path, cipher: ImageCipher) -> DataError | KeyMaterialError:
    try:
        found = read_header(place)["key"]
    except (IntegrityError, StorageError):
        return error
    return error if found == key_name(cipher) else _wrong_key(place, found, cipher, because=error)


def _wrong_key(place: Path, found: str, cipher: ImageCipher, *, because: DataError | None = None) -> KeyMaterialError:
    unread = "" if because is None else f", and it cannot be rebuilt: {because}"
    return KeyMaterialError(
        f"the store was made with the key {found}, and this is {key_name(cipher)}{unread}",
        where=place,
        cure="give the key it was made with, or the source to rebuild it from",
    )


def _load(
    place: Path,
    cipher: ImageCipher,
    source: Source | None,
    views: Views,
    *,
    memory: int = 0,
    built: bool = False,
    rebuilt: str | None = None,
) -> EncryptedStore:
    header = read_header(place)
    arrays = _map_parts(place, header)
    parts: dict[str, Part] = {}
    for name in PARTS:
        described = header["parts"][name]
        labels = np.array(described["labels"], dtype=np.int64)
        ids, indices = tuple(described["ids"]), np.array(described["indices"], dtype=np.int64)
        described_alike = (name, labels, ids, indices, cipher.reading)
        if name in arrays:
            parts[name] = StoredPart(*described_alike, *arrays[name])
        elif source is not None:
            prepared = Prepared(source, indices, most=memory * MIB)
            parts[name] = OnTheFlyPart(*described_alike, source, cipher, views, prepared)
    passed_over = () if source is None else source.skipped
    skipped = (*passed_over, *(Skipped(*each) for each in header["skipped"]))
    return EncryptedStore(place, tuple(header["classes"]), parts, skipped, header, built, rebuilt)


def _map_parts(place: Path, header: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Images and nonces of each stored part."""
    row, dtype = tuple(header["image"]["shape"]), header["image"]["dtype"]
    arrays = {}
    for name in PARTS:
        described = header["parts"][name]
        if described["images"] is None:
            continue
        count = described["views"]
        images = open_array(place / f"{name}.npy", described["images"], (count, *row), dtype)
        nonces = None
        if described["nonces"] is not None:
            nonces = open_array(place / f"{name}-nonces.npy", described["nonces"], (count, 16), "|u1")
        arrays[name] = (images, nonces)
    return arrays
