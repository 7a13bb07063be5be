"""The fields of an exported model's ``config.json``, and what each may be; anything else is refused by name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from crypto.cipher import SCHEMES
from crypto.config import PRESETS
from crypto.derivation import VERSIONS
from fl_client.export.calibration import LARGEST, SMALLEST
from medveil.errors import FormatError
from medveil.predicting import LEVELS, MOST_VIEWS
from models.policy import INITS, KEYS, TRAINS

WEIGHTS, SEALED, ONNX = "model.safetensors", "KEY-BEARING.safetensors.mvseal", "model.onnx"
LARGEST_SIDE = 2**12
MOST_CLASSES = 2**12
_LARGEST_WHOLE = 2**31 - 1
_LONGEST = 256
_SHOWN = 60
_NAME = re.compile(r"[a-z0-9_]{1,100}(\.[a-z0-9_]{1,100})?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"([0-9a-f]{32})?")


class Rule(NamedTuple):
    """Whether a value is good, and what would be."""

    is_good: Callable[[Any], bool]
    wanted: str


Fields: TypeAlias = "Mapping[str, Rule | Fields]"


def check_fields(document: Any, fields: Fields, *, where: Path, within: str = "") -> None:
    """Refuse a document that has other fields than these, or other values in them.

    Raises
    ------
    FormatError
        A field is missing, unknown, of another type or out of its bounds: it is named.
    """
    if not isinstance(document, dict):
        raise FormatError(f"its field '{within}' is {_shown(document)}", where=where, cure="a section of fields")
    prefix = f"{within}." if within else ""
    for name in fields:
        if name not in document:
            raise FormatError(f"lacks the field '{prefix}{name}'", where=where)
    for name, value in document.items():
        rule = fields.get(name)
        if rule is None:
            raise FormatError(f"has an unknown field {_shown(prefix + name)}", where=where)
        if not isinstance(rule, Rule):
            check_fields(value, rule, where=where, within=f"{prefix}{name}")
        elif not rule.is_good(value):
            raise FormatError(f"its field '{prefix}{name}' is {_shown(value)}", where=where, cure=rule.wanted)


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _whole(least: int, most: int) -> Rule:
    # `type(...) is` and not `isinstance`: in Python a bool is an int.
    return Rule(lambda value: type(value) is int and least <= value <= most, f"a whole number, {least} to {most}")


def _number(least: float, most: float) -> Rule:
    return Rule(lambda value: _is_number(value) and least <= value <= most, f"a number, {least:g} to {most:g}")


def _one_of(*allowed: str) -> Rule:
    return Rule(lambda value: isinstance(value, str) and value in allowed, f"one of {', '.join(allowed)}")


def _matching(pattern: re.Pattern[str], wanted: str) -> Rule:
    return Rule(lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None, wanted)


def _is_number(value: Any) -> bool:
    # A whole number beyond all floats is one `isfinite` fails at.
    return (type(value) is int and abs(value) < 2**63) or (type(value) is float and math.isfinite(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()


def _is_window(value: Any) -> bool:
    if value is None:
        return True
    fits = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
    return fits and abs(value[0]) < _LARGEST_WHOLE and 0 < value[1] < _LARGEST_WHOLE


def _are_classes(value: Any) -> bool:
    if not isinstance(value, list) or not 2 <= len(value) <= MOST_CLASSES:
        return False
    return all(_is_text(name) and name for name in value) and len(set(value)) == len(value)


def _are_digests(value: Any) -> bool:
    if not isinstance(value, dict) or not set(value) <= {WEIGHTS, SEALED, ONNX}:
        return False
    return all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in value.values())


def _is_source(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or not _SOURCE <= set(value) <= {*_SOURCE, "derivation"}:
        return False
    named = isinstance(value["scheme"], str) and value["scheme"] in SCHEMES
    known = isinstance(value["fingerprint"], str) and _FINGERPRINT.fullmatch(value["fingerprint"]) is not None
    return named and known and _BLOCK.is_good(value["block"]) and _is_derivation(value)


def _is_cipher(value: Any) -> bool:
    if not isinstance(value, dict) or not {"scheme"} <= set(value) <= {"scheme", "block", "negate", "derivation"}:
        return False
    known = isinstance(value["scheme"], str) and (value["scheme"] in PRESETS or SCHEMES.offers(value["scheme"]))
    negates = type(value.get("negate", False)) is bool
    return known and negates and _BLOCK.is_good(value.get("block", 1)) and _is_derivation(value)


def _is_derivation(value: dict[str, Any]) -> bool:
    found = value.get("derivation", 1)
    return type(found) is int and found in VERSIONS


_SOURCE = {"scheme", "block", "fingerprint"}


_TEXT = Rule(_is_text, f"printable text of at most {_LONGEST} characters")
_SIDE = _whole(1, LARGEST_SIDE)
_BLOCK = _whole(1, LARGEST_SIDE)
_CHANNELS = Rule(lambda value: type(value) is int and value in {1, 3}, "1 or 3")

_INPUT: Fields = {
    "channels": _CHANNELS,
    "image_size": _SIDE,
    "padded_size": _SIDE,
    "window": Rule(_is_window, "null, or a centre and a width above 0"),
    "numbers": _TEXT,
}
FIELDS_1: Fields = {
    "format": _TEXT,
    "version": _whole(1, _LARGEST_WHOLE),
    "label": _TEXT,
    "fingerprint": _matching(_FINGERPRINT, "32 hex digits"),
    "architecture": _matching(_NAME, "the name of a timm model"),
    "library": _one_of("timm"),
    "arguments": {
        "img_size": _SIDE,
        "patch_size": _SIDE,
        "in_chans": _CHANNELS,
        "num_classes": _whole(2, MOST_CLASSES),
        "embed_dim": _whole(1, 2**14),
        "depth": _whole(1, 2**8),
        "num_heads": _whole(1, 2**8),
    },
    "classes": Rule(_are_classes, f"2 to {MOST_CLASSES} different, printable names"),
    "domain": _one_of("plain", "hidden"),
    "input": _INPUT,
    "temperature": _number(SMALLEST, LARGEST),
    "policy": {"keys": _one_of(*KEYS), "stem_init": _one_of(*INITS), "stem_train": _one_of(*TRAINS)},
    "cipher": Rule(_is_cipher, "a scheme this MedVeil has, its block, and whether it negates"),
    "run": _TEXT,
    "round": _whole(0, _LARGEST_WHOLE),
    "medveil": _TEXT,
    "sha256": Rule(_are_digests, "64 hex digits for each file"),
}
"""Of version 1."""
FIELDS_3: Fields = {
    **FIELDS_1,
    "input": {
        **_INPUT,
        "min_side": _whole(1, _LARGEST_WHOLE),
        "preparation": _whole(1, _LARGEST_WHOLE),
        "hidden_source": Rule(_is_source, "null, or scheme, block and fingerprint"),
    },
    "name": _TEXT,
    "site": _TEXT,
    "checksum": _matching(_DIGEST, "64 hex digits"),
}
"""Of versions 2 and 3."""
FIELDS_4: Fields = {
    **{name: rule for name, rule in FIELDS_3.items() if name != "arguments"},
    "model_args": FIELDS_1["arguments"],
    "pretrained_cfg": Rule(lambda value: isinstance(value, dict), "a section that its other fields decide"),
}
"""Of version 4."""
FIELDS: Fields = {**FIELDS_4, "predict": {"views": _whole(1, MOST_VIEWS), "augment": _one_of(*LEVELS)}}
"""Of version 5."""
