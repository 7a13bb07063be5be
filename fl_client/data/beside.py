"""A table that says which images belong together, and a run that would not heed it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fl_client.data.config import DataConfig, joins_similar, named_group
from fl_client.data.labels import group_name
from fl_client.data.table import Table, read_table
from medveil.errors import DataError
from medveil.plain import shown
from medveil.written import setting

_GROUPS = re.compile(r"(group|patient|subject|case|participant|person|pat)s?(id|key|no|nr|number|name|code)?|pid")
_MOST_TABLES = 8
_ALONE = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Endings of files that carry no patient of their own."""

Named = Sequence[tuple[str, Path]]


def offered(root: Path, files: Named, config: DataConfig) -> list[str]:
    """Say of a table beside class folders that it is not used, and how it would be.

    Parameters
    ----------
    root
        The folder.
    files
        Its images, by id.

    Raises
    ------
    DataError
        The table says which images belong together, and nothing else would.
    """
    warnings = []
    for path in _written(root):
        name = shown(path.name)
        try:
            table = read_table(path)
        except DataError as error:
            if path.stem.lower() in {"labels", "label"}:
                warnings.append(f"'{name}' lies beside the class folders and is not used; as labels it {error.problem}")
            continue
        refuse_leak(table, files, path, config, used=False)
        use = _to_use(path, table)
        warnings.append(f"'{name}' lies beside the class folders and is not used; to use it: {use}")
    return warnings


def instead(root: Path) -> str:
    """What to write for the first table beside the one folder that was taken for a class; empty where there is none."""
    for path in _written(root):
        try:
            return _to_use(path, read_table(path))
        except DataError:
            continue
    return ""


def _to_use(path: Path, table: Table) -> str:
    column = group_column(table)
    return f"data.labels={shown(path.name)}" + ("" if column is None else f" data.group_by={shown(column)}")


def _written(root: Path) -> list[Path]:
    return [each for each in _tables(root) if each.suffix.lower() in {".csv", ".tsv"}][:_MOST_TABLES]


def refuse_leak(table: Table, files: Named, path: Path, config: DataConfig, *, used: bool) -> None:
    """Refuse a run that would put images of one group into training and test, though a table names the groups.

    Parameters
    ----------
    files
        The images of the run.
    path
        The table's.
    used
        Whether the labels are taken from it.

    Raises
    ------
    DataError
        ``data.group_by`` names no column, the table has one of groups, and one of them has several images.
    """
    column = group_column(table)
    if column is None or named_group(config) is not None or config.source not in {"images", "hidden"}:
        return
    alone = {id_ for id_, file in files if file.suffix.lower() in _ALONE}
    cells = [row.cells for row in table.rows]
    groups = Counter(group_name(each[column]) for each in cells if _name(each["path"]) in alone)
    groups.pop(None, None)
    together = {group: times for group, times in groups.items() if times > 1}
    if not together:
        return
    problem = (
        f"its column '{shown(column)}' says which images belong together ({sum(groups.values())} images in "
        f"{len(groups)} groups), and without it one group would stand in training and test"
    )
    also = "+similar" if joins_similar(config) else ""
    right = setting("data.group_by", f"{column}{also}") if used else _settings(path, table)
    cure = f"write {right}, or data.group_by=none{also} to tear groups apart knowingly"
    raise DataError(problem, where=path, cure=cure)


def group_column(table: Table) -> str | None:
    """The column that names patients or other groups, by its own name."""
    return next((name for name in table.columns if _GROUPS.fullmatch(re.sub(r"[\s_.\-]", "", name.lower()))), None)


def _settings(path: Path, table: Table) -> str:
    """What to write to use a table that lies in the folder of the images."""
    column = group_column(table)
    found = [setting("data.labels", path.name), *([] if column is None else [setting("data.group_by", column)])]
    return " ".join(found)


def _tables(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(root / each.name for each in entries if not each.name.startswith(".") and each.is_file())
    except OSError:
        return []


def _name(named: str) -> str:
    return os.path.normpath(named.replace("\\", "/"))
