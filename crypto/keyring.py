"""The keys a site holds: the one it hides with, and those it can still open older files with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crypto.derivation import SECRET_BYTES
from crypto.documents import DATE, TEXT, bytes_of, canonical, check_fields, text_of
from crypto.keys import Key, SiteKey
from medveil.called import typed
from medveil.errors import IntegrityError, KeyMaterialError

MOST_KEYS = 100
"""As many keys as a ring may hold: what holds one is a small file, and a ring of so many is a mistake."""

_PACKED = {"secret": TEXT, "created": DATE, "retired": DATE}


@dataclass(frozen=True)
class KeyDates:
    """When a key was drawn and when rotation replaced it, as ``2026-11-24T10:53:27Z``; empty where not known."""

    created: str = ""
    retired: str = ""


@dataclass(frozen=True)
class Keyring:
    """A site's keys, newest first.

    Parameters
    ----------
    current
        Hides what is hidden from now on.
    retired
        Keys that rotation replaced, newest first; they open what was hidden under them and hide nothing more.
    dates
        By fingerprint, when each key was drawn and retired, as far as known.

    Raises
    ------
    KeyMaterialError
        A key is none. One of a simulation is refused where it would be saved or shared.
    """

    _made_by = "open_keys(...) opens one"

    current: SiteKey
    retired: tuple[SiteKey, ...] = ()
    dates: Mapping[str, KeyDates] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        kept: Any = self.retired if isinstance(self.retired, Iterable) else (self.retired,)
        given: tuple[object, ...] = (self.current, *kept)
        for each in given:
            if not isinstance(each, Key):
                problem = f"a ring of keys with a value of type '{type(each).__name__}'"
                raise KeyMaterialError(problem, cure="SiteKey.generate(...) draws a key, open_keys(...) opens a ring")

    def __iter__(self) -> Iterator[SiteKey]:
        yield self.current
        yield from self.retired

    @typed
    def find(self, fingerprint: str) -> SiteKey:
        """Return the key of a fingerprint.

        Raises
        ------
        KeyMaterialError
            None of the keys has it: the file was hidden under another one.
        """
        for key in self:
            if key.fingerprint == fingerprint:
                return key
        held = ", ".join(key.fingerprint for key in self)
        raise KeyMaterialError(f"was hidden under the key {fingerprint}", cure=f"give that key; this file holds {held}")

    @typed
    def dates_of(self, key: SiteKey) -> KeyDates:
        """When one of the keys was drawn and retired."""
        return self.dates.get(key.fingerprint, KeyDates())

    @typed
    def rotated(self, when: str) -> Keyring:
        """Draw a fresh key for the same site and retire the current one.

        Parameters
        ----------
        when
            The time, as `crypto.documents.now` gives it.

        Raises
        ------
        KeyMaterialError
            The ring is full.
        """
        if len(self.retired) + 1 >= MOST_KEYS:
            cure = "hide anew what the oldest keys hide, and begin with a new key"
            raise KeyMaterialError(f"holds {MOST_KEYS} keys already", cure=cure)
        old, fresh = self.current, SiteKey.generate(self.current.site)
        dates = {
            **self.dates,
            old.fingerprint: replace(self.dates_of(old), retired=when),
            fresh.fingerprint: KeyDates(created=when),
        }
        return Keyring(fresh, (old, *self.retired), dates)

    def newest(self) -> Keyring:
        """The ring without its retired keys."""
        return Keyring(self.current, dates={self.current.fingerprint: self.dates_of(self.current)})


def check_real(keys: Iterable[Key], doing: str) -> None:
    """Refuse keys that are not a real site's.

    Parameters
    ----------
    keys
        For example a ring.
    doing
        What was to be done with them, as in ``"cannot be saved"``.

    Raises
    ------
    KeyMaterialError
        One of them is simulated.
    """
    for key in keys:
        if not isinstance(key, SiteKey):
            problem = f"a {type(key).__name__} cannot be {doing}: it is made from an integer anyone can guess"
            raise KeyMaterialError(problem, cure="generate a SiteKey")


def pack(ring: Keyring) -> bytes:
    """All secrets of a ring and their dates as bytes, to be sealed or wrapped and for nothing else.

    Raises
    ------
    KeyMaterialError
        The ring holds too many keys, or one twice.
    """
    keys = list(ring)
    if len(keys) > MOST_KEYS:
        raise KeyMaterialError(f"a ring of {len(keys)} keys", cure=f"at most {MOST_KEYS}")
    if len({key.fingerprint for key in keys}) < len(keys):
        raise KeyMaterialError("a ring that holds a key twice", cure="each key once")
    return canonical({"keys": [_packed(key, ring.dates_of(key)) for key in keys]})


def unpack(packed: bytes, site: str, *, where: str | Path) -> Keyring:
    """Make the ring of a site from what `pack` gave.

    Raises
    ------
    IntegrityError
        The bytes are authentic, and yet no ring: what sealed them was not MedVeil.
    """
    try:
        document = json.loads(packed)
    except (ValueError, RecursionError):
        document = None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not 1 <= len(entries) <= MOST_KEYS:
        raise IntegrityError("holds no keys of MedVeil's", where=where)
    keys, dates = [], {}
    for entry in entries:
        key, dated = _unpacked(entry, site, where)
        keys.append(key)
        dates[key.fingerprint] = dated
    if len(dates) < len(keys):
        raise IntegrityError("holds a key twice", where=where)
    return Keyring(keys[0], tuple(keys[1:]), dates)


def _packed(key: SiteKey, dates: KeyDates) -> dict[str, str]:
    return {"secret": text_of(key.secret), "created": dates.created, "retired": dates.retired}


def _unpacked(entry: Any, site: str, where: str | Path) -> tuple[SiteKey, KeyDates]:
    if not isinstance(entry, dict):
        raise IntegrityError("holds no keys of MedVeil's", where=where)
    check_fields(entry, _PACKED, where=where)
    secret = bytes_of(entry, "secret", SECRET_BYTES, where=where)
    return SiteKey(secret, site), KeyDates(entry["created"], entry["retired"])
