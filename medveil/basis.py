"""What a run stands on: one digest of it, in named parts, so that whoever goes on with a run can say what changed.

A run's figures mean something only while its images, their contents, labels and groups, the order of the classes, the
split, how images are prepared, and the weights it began with stay what they were: one image that moves from the
training to the test part is an image that was trained on and is tested on. So that is written down when a run begins,
and compared whenever it goes on or is used again.

A basis holds a digest of every part, and of each image some bytes of digests, in the order of the images' own: enough
to count what changed, not to tell what it was. It stays where the images are. Digests of labels or of names can be
guessed by whoever has a list of them, so no server gets one (`keyed` is for a log that others may read).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from medveil.errors import BasisError, IntegrityError
from medveil.files import make_folder, write_json
from medveil.plain import shown
from medveil.shapes import read_document

FORMAT = "medveil-basis"
VERSION = 1
IMAGES, LABELS, GROUPS, CLASSES, SPLIT = "images", "labels", "groups", "class order", "split"
SETTINGS, FILE, WEIGHTS = "settings", "weights file", "initial weights"
PARTS = (SETTINGS, FILE, WEIGHTS, CLASSES, IMAGES, LABELS, GROUPS, SPLIT)
"""Every part, in the order in which changes are told: what is changed first, what follows from it last."""
DEALT = "split at sites"
"""In a simulation's manifest, of all its sites; each of them compares its own `SPLIT`."""
OF_DATA = (CLASSES, IMAGES, LABELS, GROUPS)
"""Parts that are the same in every arm of a comparison."""
_ROW = np.dtype([("id", "<u8"), ("image", "<u8"), ("label", "<u4"), ("group", "<u4"), ("part", "<u4")])
_LONGEST = 60
SHAPE = {"run": str, "parts": {str: str}, "settings": dict, "classes": [str], "rows": str, "older": bool}
Rows = npt.NDArray[np.void]


class Image(NamedTuple):
    """One image: its name, a digest of its contents, and what is said of it; `part` is where the split put it."""

    id: str
    contents: bytes
    label: str
    group: str | None
    part: str


@dataclass(frozen=True, eq=False)
class Basis:
    """What a run stands on at one place.

    Attributes
    ----------
    parts : dict of str to str
        SHA-256 of each part, 64 hex digits, by its name in `PARTS`; one that is not known here is not in it.
    settings : dict
        The settings that decide split and preparation, by name, as plain values.
    classes : tuple of str
        The class names in their order.
    rows : (n,) of id, image, label, group, part
        Some bytes of the digests of each image, sorted by `id`: to count what changed.
    older : bool
        Whether an older MedVeil began the run, so that not all of what it began with is known.
    """

    parts: dict[str, str]
    settings: dict[str, Any]
    classes: tuple[str, ...]
    rows: Rows
    older: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 over all parts, 64 hex digits."""
        return _sha256(sorted(self.parts.items()))

    def keyed(self, key: bytes, run: str) -> str:
        """HMAC-SHA256 of the digest under a key of the site's own, 64 hex digits: it tells nothing but change."""
        return hmac.new(key, f"medveil-basis/1/{run}/{self.digest}".encode(), hashlib.sha256).hexdigest()

    @property
    def copies(self) -> int:
        """How many validation and test images have the very contents of an image that is trained on."""
        train = self.rows["part"] == _short("train")
        judged = np.isin(self.rows["part"], [_short("validation"), _short("test")])
        return int(np.isin(self.rows["image"][judged], self.rows["image"][train]).sum())


def basis_of(
    images: Iterable[Image],
    *,
    classes: Iterable[str],
    settings: Mapping[str, Any],
    weights: Mapping[str, str] | None = None,
) -> Basis:
    """Make the basis of images and what is done with them; the order in which they come does not matter.

    Parameters
    ----------
    images
        All of them, each name once.
    classes
        Class names in their order.
    settings
        What decides split and preparation, as plain values.
    weights
        Digests of what is known of the weights, by `FILE` or `WEIGHTS`.
    """
    known = sorted(images)
    plain: dict[str, Any] = json.loads(json.dumps(dict(settings)))
    ordered = tuple(classes)
    parts = {
        SETTINGS: _sha256(sorted(plain.items())),
        CLASSES: _sha256(ordered),
        IMAGES: _sha256([[each.id, each.contents.hex()] for each in known]),
        LABELS: _sha256([[each.id, each.label] for each in known]),
        GROUPS: _sha256([[each.id, each.group] for each in known]),
        SPLIT: _sha256([[each.id, each.part] for each in known]),
        **(weights or {}),
    }
    made = [_row(each) for each in known]
    rows = np.array(made, dtype=_ROW)
    return Basis(parts, plain, ordered, rows[np.argsort(rows["id"], kind="stable")])


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the parts that both know and that differ, in the order of `PARTS`."""
    return [name for name in PARTS if name in before and name in now and before[name] != now[name]]


def refuse_change(before: Basis, now: Basis, *, where: str | Path, cure: str, since: str = "the run began") -> None:
    """Refuse to go on over something else.

    Raises
    ------
    BasisError
        Says which parts differ, and how much of them.
    """
    parts = differences(before.parts, now.parts)
    if parts:
        details = "; ".join(each for part in parts for each in _details(part, before, now))
        raise changed(parts, where=where, cure=cure, since=since, details=details)


def changed(
    parts: Iterable[str], *, where: str | Path, cure: str, since: str = "the run began", details: str = ""
) -> BasisError:
    """The error that names the parts that changed."""
    named = tuple(parts)
    told = [f"the {part}" for part in named]
    joined = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"
    inside = f" ({details})" if details else ""
    return BasisError(f"{joined} changed since {since}{inside}", where=where, cure=cure, parts=named)


def write_basis(path: Path, basis: Basis, *, run: str) -> None:
    """Write a basis for its owner alone (StorageError where the disk refuses)."""
    make_folder(path.parent, mode=0o700)
    write_json(path, basis_document(basis, run=run), mode=0o600)


def basis_document(basis: Basis, *, run: str) -> dict[str, Any]:
    """A basis as plain data, of which `basis_of_document` makes it again."""
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "run": run}
    known = {"parts": basis.parts, "settings": basis.settings, "older": basis.older, "classes": list(basis.classes)}
    return head | known | {"rows": base64.b64encode(basis.rows.tobytes()).decode("ascii")}


def read_basis(path: Path) -> Basis:
    """Read what `write_basis` wrote.

    Raises
    ------
    StorageError, FormatError, IntegrityError
        It is missing, of a newer version, cut or changed.
    """
    return basis_of_document(read_document(path, SHAPE, name=FORMAT, newest=VERSION), where=path)


def basis_of_document(document: Mapping[str, Any], *, where: Path) -> Basis:
    """What `basis_document` was given, of a document of `SHAPE` (IntegrityError where its rows are none)."""
    try:
        packed = base64.b64decode(document["rows"], validate=True)
        rows = np.frombuffer(packed, dtype=_ROW)
    except ValueError:
        raise IntegrityError("its field 'rows' is not what was written", where=where) from None
    return Basis(document["parts"], document["settings"], tuple(document["classes"]), rows, document["older"])


# -- what differs, in words --------------------------------------------------------------------------------------------


def _details(part: str, before: Basis, now: Basis) -> Iterator[str]:
    if part == SETTINGS:
        yield from _settings_changed(before.settings, now.settings)
    elif part == CLASSES:
        yield f"classes were {_listed(before.classes)}, and are {_listed(now.classes)}"
    elif part == IMAGES:
        yield from _images_changed(before.rows, now.rows)
    elif part in (LABELS, GROUPS):
        count = len(_moved(before.rows, now.rows, {LABELS: "label", GROUPS: "group"}[part])[0])
        # An image that came or went has a label too; that is told of the images.
        if count:
            yield f"{part} of {_count(count)}"
    elif part == SPLIT:
        yield from _split_changed(before.rows, now.rows)


def _settings_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *now}):
        if before.get(name) != now.get(name):
            yield f"{name} was {_value(before.get(name))}, and is {_value(now.get(name))}"


def _images_changed(before: Rows, now: Rows) -> Iterator[str]:
    added = int((~np.isin(now["id"], before["id"])).sum())
    gone = int((~np.isin(before["id"], now["id"])).sum())
    other = len(_moved(before, now, "image")[0])
    for count, what in ((added, "came"), (gone, "went"), (other, "with other contents")):
        if count:
            yield f"{_count(count)} {what}"


def _split_changed(before: Rows, now: Rows) -> Iterator[str]:
    was, is_ = _moved(before, now, "part")
    if not len(was):
        return
    judged = np.isin(is_, [_short("validation"), _short("test")])
    trained = int(((was == _short("train")) & judged).sum())
    leaked = f", {trained} of them from training to validation or test" if trained else ""
    yield f"{_count(len(was))} in another part{leaked}"


def _moved(before: Rows, now: Rows, field: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The values of a field before and now, of the images that are in both and of which they differ."""
    _, old, new = np.intersect1d(before["id"], now["id"], return_indices=True)
    was, is_ = before[field][old], now[field][new]
    differ = was != is_
    return was[differ], is_[differ]


def _count(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(shown(name, most=_LONGEST) for name in names)


def _value(value: Any) -> str:
    return shown(json.dumps(value, ensure_ascii=False), most=_LONGEST)


def _row(image: Image) -> tuple[int, int, int, int, int]:
    return (
        short_id(image.id),
        short_contents(image.contents),
        _short(image.label),
        _short("" if image.group is None else f"={image.group}"),
        _short(image.part),
    )


def short_id(name: str) -> int:
    """What stands in a row for the name of an image."""
    return int.from_bytes(hashlib.sha256(_bytes(name)).digest()[:8], "little")


def short_contents(digest: bytes) -> int:
    """What stands in a row for the digest of its contents."""
    return int.from_bytes(digest[:8], "little")


def _short(text: str) -> int:
    return int.from_bytes(hashlib.sha256(_bytes(text)).digest()[:4], "little")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _sha256(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, separators=(",", ":")).encode("ascii")).hexdigest()
