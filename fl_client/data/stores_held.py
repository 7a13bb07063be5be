"""The stores a site holds: of which key, how large, since when, which no run will use again, and removing one.

A store is built anew where it is wanted and missing, and removed by nothing but a person: one of a former key or of
other images stays for good otherwise.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fl_client.data.config import DataConfig
from fl_client.data.left_open import HEADER, STORES
from fl_client.data.store import is_of_source
from fl_client.data.store_files import Head, read_head
from fl_client.data.store_terms import NO_KEY
from medveil.errors import ConfigError, MedVeilError
from medveil.files import locked, storage_error


class HeldStore(NamedTuple):
    """One store.

    Attributes
    ----------
    name : str
        Of its folder.
    key : str
        Fingerprint of the key that hid it, `NO_KEY` where it is not hidden, empty where its header cannot be read.
    images : int
        In it, of all parts.
    size : int
        Bytes.
    made : datetime
        When it was finished.
    unused : str
        Why no run uses it again; empty where one may.
    sealed : bool
        Whether it lies sealed; an older MedVeil left it open.
    """

    name: str
    key: str
    images: int
    size: int
    made: datetime
    unused: str
    sealed: bool
    path: Path

    def plain(self) -> dict[str, Any]:
        """The same as plain data, without the path."""
        made = self.made.isoformat(timespec="seconds")
        found = {"store": self.name, "key": self.key, "images": self.images, "bytes": self.size}
        return {**found, "made": made, "unused": self.unused, "sealed": self.sealed}


def held_stores(folder: Path, data: DataConfig, *, keys: Collection[str]) -> list[HeldStore]:
    """The stores in a site's own folder, by name.

    Parameters
    ----------
    folder
        The site's own.
    data
        Its images.
    keys
        Fingerprints of the keys that its runs hide images with now.

    Raises
    ------
    StorageError
        The folder cannot be read.
    """
    place = folder / STORES
    try:
        found = sorted(each for each in place.iterdir() if each.is_dir() and not each.name.startswith("."))
        return [_held(each, data, keys) for each in found]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error(error, place, "read the folder") from error


def find_store(stores: list[HeldStore], named: str) -> HeldStore:
    """The one store whose name begins so (ConfigError where none or several do)."""
    found = [each for each in stores if named and each.name.startswith(named)]
    exact = [each for each in found if each.name == named]
    if len(exact or found) == 1:
        return (exact or found)[0]
    problem = "fits several stores" if found else "is no store held here"
    listed = ", ".join(each.name for each in found or stores) or "none"
    raise ConfigError(f"'{named}' {problem}", where="--remove", cure=f"the stores are {listed}")


def remove_store(store: HeldStore) -> None:
    """Remove a store, as a whole or not at all (StorageError where one is being built, or the disk refuses)."""
    # A name that is swept where a removal was cut short.
    leaving = store.path.with_name(f".{store.name[:40]}.{secrets.token_hex(4)}.old")
    with locked(store.path.parent, wait=False):
        try:
            store.path.rename(leaving)
            shutil.rmtree(leaving)
        except OSError as error:
            raise storage_error(error, store.path, "remove the store") from error


def _held(path: Path, data: DataConfig, keys: Collection[str]) -> HeldStore:
    stats = [each.stat() for each in path.iterdir() if each.is_file()]
    size, made = sum(each.st_size for each in stats), max((each.st_mtime for each in stats), default=0.0)
    key, images, unused, sealed = "", 0, "", False
    try:
        head = read_head(path)
    except MedVeilError:
        unused = f"its {HEADER} cannot be read"
    else:
        key, images, sealed = head.key, head.images, bool(head.sealed)
        unused = _unused(path, head, data, keys)
    return HeldStore(path.name, key, images, size, datetime.fromtimestamp(made, UTC), unused, sealed, path)


def _unused(path: Path, head: Head, data: DataConfig, keys: Collection[str]) -> str:
    if head.key not in (*keys, NO_KEY):
        return "its key hides no images here any more"
    if head.sealed and head.sealed not in keys:
        return "the key that sealed it is not this site's any more"
    return "" if is_of_source(path, data) else "it is of other images than this site's now"
