"""What a store must say of itself to be taken as it is, and in which words it is not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from crypto.base import ImageCipher
from crypto.imaging import preprocess
from fl_client.data.base import Source
from fl_client.data.partition import Parts
from fl_client.data.splits import PARTS
from fl_client.data.stored import Views

NO_KEY = "no key"
_REASONS = {
    "key": "the key changed (from {old} to {new})",
    "cipher": "the cipher changed (from {old} to {new})",
    "views": "the views changed (from {old} to {new})",
    "preparation": "images are prepared in another way by this MedVeil (from way {old} to way {new})",
    "source": "the source changed (files, or how they are windowed and resized)",
    "classes": "the classes changed (from {old} to {new})",
    "split": "the labels or the split changed",
    "contents": "the contents of images changed, though not the size and time of their files",
}


def wanted_of(source: Source, parts: Parts, cipher: ImageCipher, views: Views) -> dict[str, Any]:
    """What a store must say of itself to be taken as it is."""
    return {
        "key": key_name(cipher),
        "cipher": parameters(cipher),
        "preparation": preprocess.VERSION,
        "source": source.identity(),
        "classes": list(source.classes),
        "split": _split_digest(source, parts),
        "views": {
            "count": views.count,
            "augment": views.augment,
            "flip": views.flip,
            **({"seed": views.seed} if views.random else {}),
        },
    }


def difference(header: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first thing in which a header is not what is wanted, in words; None where there is none."""
    for name, reason in _REASONS.items():
        # A store of an older MedVeil does not tell of contents.
        if name in wanted and header.get(name, wanted[name]) != wanted[name]:
            return reason.format(old=said_of(header[name]), new=said_of(wanted[name]))
    return None


def key_name(cipher: ImageCipher) -> str:
    """What the key of a cipher is called, its fingerprint."""
    return cipher.fingerprint or NO_KEY


def parameters(cipher: ImageCipher) -> dict[str, Any]:
    """What a cipher was made with, and for."""
    return {**asdict(cipher.config), **asdict(cipher.geometry)}


def prepared_otherwise(preparation: int) -> str:
    """That images were prepared in another way than they would be now; empty where they were not."""
    if preparation == preprocess.VERSION:
        return ""
    now = f"and this one prepares them in way {preprocess.VERSION}"
    return f"its images were prepared in way {preparation} of MedVeil's, {now}"


def _split_digest(source: Source, parts: Parts) -> str:
    lists = [[[source.items[i].id, source.items[i].label] for i in getattr(parts, name).tolist()] for name in PARTS]
    return hashlib.sha256(json.dumps(lists).encode("ascii")).hexdigest()


def said_of(value: Any) -> str:
    """A value of a header, for a sentence."""
    if isinstance(value, dict):
        return " ".join(f"{name}={each}" for name, each in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
