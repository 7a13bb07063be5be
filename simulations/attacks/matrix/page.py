"""The page: ``matrix.html``, with ``matrix.csv``, ``matrix.md`` and ``matrix.png`` beside it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup
from PIL import Image

from medveil.files import read_bytes, write_text
from simulations.attacks.matrix import words
from simulations.attacks.matrix.export import as_csv, as_markdown
from simulations.attacks.matrix.picture import draw
from simulations.attacks.matrix.table import Cell, Row, Table
from simulations.attacks.study.result import ARMS, Measured, Result
from simulations.report import figures, page
from simulations.report.links import Link, links

PAGE, CSV, MARKDOWN, PICTURE = "matrix.html", "matrix.csv", "matrix.md", "matrix.png"
_WIDTH, _QUALITY = 860, 42
_LARGEST = 1_900_000
"""Bytes of the page: figures beyond stay beside it, linked. It is sent by mail and opened on phones."""
_AROUND = 300
"""Bytes of the tag around a figure, at most, but for the names in it."""
_FIRST = ("succeeds", "above chance", "at chance")
"""Whose figures are put into the page first."""
_DIAGNOSTICS = {
    "statistics": ("entropy", "correlation_horizontal", "npcr_one_pixel", "uaci_one_pixel", "npcr_two_keys"),
    "perturbation": ("ssim_bit_flip_0_01", "ssim_noise_0_05", "accuracy_undamaged"),
}
"""Metrics of diagnostics that the table shows."""


class Group(NamedTuple):
    """Attacks that assume the same."""

    holds: str
    rows: list[Row]


class Drawn(NamedTuple):
    """A cell in a section: its result and its figure."""

    cell: Cell
    figure: str | None
    files: list[Link]


class Line(NamedTuple):
    """A line of the table of diagnostics: one metric over all schemes."""

    attack: str
    text: str
    unit: str
    measured: list[Measured | None]
    cells: list[Cell]
    ideal: str


def write_page(folder: Path, table: Table) -> Path:
    """Write the page and its companions.

    Figures show originals, so the page is readable by its owner only.

    Returns
    -------
    Path
        The page: one file, without references to anything outside it.

    Raises
    ------
    StorageError
        A figure cannot be read, or the folder not be written to.
    """
    write_text(folder / CSV, as_csv(table))
    write_text(folder / MARKDOWN, as_markdown(table))
    draw(table, folder / PICTURE)
    style = Path(page.__file__).with_name("matrix.css").read_text(encoding="utf-8")
    content = {
        "title": words.title(table),
        "headline": words.headline(table),
        "trial": words.trial(table),
        "table": table,
        "groups": _groups(table),
        "diagnostics": [line for row in table.diagnostics if row.tried for line in _lines(row)],
        "untried": [row.attack for row in table.rows if not row.tried],
        "verdicts": [(scheme, words.verdict(table, scheme)) for scheme in table.columns],
        "least": [
            (text, [_least(table, scheme, recovers) for scheme in table.columns])
            for recovers, text in words.RECOVERS.items()
        ],
        "states": _legend(),
        "seconds_in_all": words.seconds_in_all(table.results),
        "facts": _facts(table),
        "words": words,
        "arms": ARMS,
        "own_style": Markup(style),
        "files": links(folder, (CSV, MARKDOWN, PICTURE)),
    }
    path = folder / PAGE
    tried = [row for row in table.rows if row.tried]
    bare = page.render("matrix.html", sections=[_section(row, folder, {}) for row in tried], **content)
    shown = _figures(table, folder, room=_LARGEST - len(bare.encode("utf-8")))
    sections = [_section(row, folder, shown) for row in tried]
    write_text(path, page.render("matrix.html", sections=sections, **content), mode=0o600)
    return path


def _figures(table: Table, folder: Path, *, room: int) -> dict[tuple[str, str], str]:
    """Figures as data URIs by scheme and attack: as many as there is room for, of what succeeded first."""
    cells = [cell for row in table.rows for cell in row.cells]
    rank = {state: place for place, state in enumerate(_FIRST)}
    made = {}
    for cell in sorted(cells, key=lambda each: rank.get(each.state, len(rank))):
        if room <= 0:
            break
        found = _figure(cell, folder)
        if found is not None and len(found) + _AROUND <= room:
            made[cell.scheme, cell.attack] = found
            room -= len(found) + _AROUND
    return made


def _groups(table: Table) -> list[Group]:
    made: list[Group] = []
    for row in table.attacks:
        held = words.holds(row.knowledge)
        if not made or made[-1].holds != held:
            made.append(Group(held, []))
        made[-1].rows.append(row)
    return made


def _least(table: Table, scheme: str, recovers: str) -> str:
    if scheme == "none":
        return "nothing: not hidden"
    return words.least(table, scheme, recovers)[0] or "no attack here succeeded"


def _legend() -> list[words.State]:
    return [each for each in words.STATES.values() if each.word]


def _lines(row: Row) -> list[Line]:
    """The metrics of a diagnostic that are shown, over all schemes."""
    wanted = _DIAGNOSTICS.get(row.attack, (row.main,))
    names = [each for each in wanted if any(each in result.metrics for result in row.results)]
    made = []
    for name in names:
        found = [None if each.result is None else each.result.metrics.get(name) for each in row.cells]
        first = next(each for each in found if each is not None)
        made.append(Line(row.attack, first.text, first.unit, found, list(row.cells), words.number(first.chance)))
    nothing = Line(row.attack, row.main_text, row.unit, [None] * len(row.cells), list(row.cells), words.number(None))
    return made or [nothing]


def _section(row: Row, folder: Path, shown: dict[tuple[str, str], str]) -> dict[str, Any]:
    drawn = [Drawn(each, shown.get((each.scheme, each.attack)), _files(each, folder)) for each in row.cells]
    unhidden = any(each.scheme == "none" and each.main is not None for each in row.cells)
    return {"row": row, "drawn": drawn, "chart": _chart(row), "unhidden": unhidden}


def _chart(row: Row) -> Markup | None:
    """The main figure of every scheme, and chance as a line."""
    if row.kind != "attack":
        return None
    dots = []
    levels = []
    for cell in row.cells:
        main = cell.main
        if main is None or main.target is None:
            continue
        low, high = main.ci95.get("target") or (main.target, main.target)
        dots.append(figures.Dot(cell.scheme, main.target, low, high, hidden=cell.scheme != "none"))
        levels += [] if main.chance is None else [main.chance]
    if not dots:
        return None
    label = f"{row.attack}: " + ", ".join(f"{each.name} {words.number(each.value)}" for each in dots)
    reference = sum(levels) / len(levels) if levels else None
    return figures.dots(dots, name=f"chart-{row.attack}", label=label, reference=reference, title=row.unit)


def _files(cell: Cell, folder: Path) -> list[Link]:
    if cell.result is None or Path(cell.attack).name != cell.attack:
        return []
    return links(folder, [f"{cell.scheme}/{cell.attack}.json", f"{cell.scheme}/{cell.attack}.png"])


def _figure(cell: Cell, folder: Path) -> str | None:
    """A cell's figure, made smaller, as a data URI."""
    result: Result | None = cell.result
    if result is None or result.figure is None:
        return None
    path = folder / cell.scheme / result.figure
    if not path.is_file():
        return None
    with Image.open(io.BytesIO(read_bytes(path))) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((_WIDTH, 10 * _WIDTH))
    packed = io.BytesIO()
    picture.save(packed, format="WEBP", quality=_QUALITY, method=5)
    return "data:image/webp;base64," + base64.b64encode(packed.getvalue()).decode("ascii")


def _facts(table: Table) -> list[tuple[str, str]]:
    if not table.results:
        return []
    first = table.results[0]
    data = first.data
    return [
        ("images", str(data.get("path", ""))),
        ("of them attacked, public", f"{data.get('attacked_pool')}, {data.get('public_pool')}"),
        ("patients kept apart", "yes" if data.get("grouped") else "no: the data name none"),
        ("size and blocks", f"{first.target['height']} px, blocks of {first.target['block']}"),
        ("keys", words.spread(each.keys for each in table.results)),
        ("images under each key", words.spread(each.images_per_key for each in table.results)),
        ("MedVeil", str(first.environment.get("medveil", ""))),
    ]
