"""What names a source and its classes, and what a table of labels calls what DICOM files state themselves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from fl_client.data.beside import instead
from fl_client.data.config import FORMULA, NO_LABELS, DataConfig
from fl_client.data.items import UNLABELLED, one_class
from medveil.config import to_mapping
from medveil.errors import ConfigError, DataError

COLUMNS = {"PatientAge": "age", "Manufacturer": "manufacturer", "ManufacturerModelName": "model"}
"""Columns that tables of labels may have for what DICOM files state themselves."""


def stated_in(row: Mapping[str, str], keyword: str) -> str:
    """The cell of a row, its columns in small letters, that states a DICOM keyword; empty where none does."""
    return row.get(keyword.casefold()) or row.get(COLUMNS.get(keyword, "")) or ""


def source_name(config: DataConfig) -> str:
    """Kind and place of a source, the same whether or not it can be read."""
    if config.source == FORMULA:
        told = {**to_mapping(config.formula), "size": config.image_size, "labels": config.labels}
        return f"{config.source}-{config.formula.kind}-{text_digest(json.dumps(told, sort_keys=True))[:8]}"
    path = Path(config.path or "").expanduser()
    return f"{config.source}-{path.stem}-{text_digest(str(path.resolve()))[:8]}"


def class_names(found: Iterable[str], config: DataConfig, *, where: str | Path) -> tuple[str, ...]:
    """The ordered class names: those of the configuration, or those found, sorted; `UNLABELLED` without labels.

    Raises
    ------
    DataError
        A label is none of the configured classes, or there are fewer than two classes.
    """
    names = sorted(set(found))
    if config.labels == NO_LABELS:
        return UNLABELLED
    if config.classes is None:
        if len(names) == 1:
            problem, cure = f"has one class only ('{names[0]}')", "list all of them in data.classes"
            table = "" if config.labels is not None else instead(Path(where))
            also = f"take the labels of the table beside it: {table}; or " if table else ""
            raise one_class(problem, names[0], where=where, cure=also + cure)
        return tuple(names)
    if len(config.classes) < 2:
        raise ConfigError("names fewer than two classes", where="data.classes")
    unknown = [name for name in names if name not in config.classes]
    if unknown:
        raise DataError(
            f"unknown label {', '.join(repr(name) for name in unknown[:5])}",
            where=where,
            cure=f"data.classes are {', '.join(config.classes)}",
        )
    return tuple(config.classes)


def text_digest(text: str) -> str:
    """SHA-256 of a text, also of one with names of files that are no Unicode; 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
