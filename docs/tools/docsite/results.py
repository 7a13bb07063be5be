"""Tables of results: made from the files a run left in ``docs/results``, and held against them.

A table stands between two comments. ``<!-- results: FILE -->`` is made from a file, or from all that a pattern names,
and ``<!-- results: FILE PART -->`` is one table of a comparison, which has `docsite.comparisons.PARTS`;
``<!-- rows of: PAGE NAME -->`` repeats rows of another page's table; ``<!-- measured: NAME -->`` holds figures older
than the files, and says under them with which command they were measured and with which commit they came in.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from docsite import comparisons, renderings
from docsite.places import DOCS, ROOT, named

RESULTS = DOCS / "results"
_SPAN = re.DOTALL | re.MULTILINE
_MADE = re.compile(r"(^<!-- results: (\S+(?: [a-z]+)?) -->\n)(.*?)(^<!-- /results -->)", _SPAN)
_MEASURED = re.compile(r"^<!-- measured: (\S+) -->\n(.*?)^<!-- /measured -->", _SPAN)
_ROWS = re.compile(r"^<!-- rows of: (\S+) (\S+) -->\n(.*?)^<!-- /rows -->", _SPAN)
_MARK = re.compile(r"^<!-- /?(?:results|measured|rows)\b", re.MULTILINE)
_SOURCE = re.compile(r"Measured with `([^`]+)`; the figures came in with commit `([0-9a-f]{7,40})`")
_RENDERINGS: tuple[tuple[Callable[[Any], bool], Callable[[Any], str]], ...] = (
    (lambda found: found.get("format") == "medveil-comparison", comparisons.comparison),
    (lambda found: found.get("format") == "medveil-ablation", comparisons.ablation),
    (lambda found: found.get("format") == "medveil-faults", renderings.faults),
    (lambda found: found.get("format") == "medveil-bytes", renderings.scopes),
    (lambda found: "engine_over_bare_loop" in found, renderings.bench),
    (lambda found: "overhead" in found, renderings.deployment),
)


def wrong(pages: Iterable[Path]) -> list[str]:
    """Everything in which pages and result files differ."""
    found = []
    for page in pages:
        text, name = page.read_text(), named(page)
        blocks = [*_MADE.finditer(text), *_MEASURED.finditer(text), *_ROWS.finditer(text)]
        if 2 * len(blocks) != len(_MARK.findall(text)):
            found.append(f"{name}: a mark of a table of results has no end, or is no mark we know")
        for _, source, body, _ in _MADE.findall(text):
            wanted = rendered(source)
            if body.strip() != wanted.strip():
                found.append(f"{name}: the table of {source} differs from its file; 'make docs-results' writes it anew")
        found += [f"{name}: {table}: {why}" for table, body in _MEASURED.findall(text) if (why := _unsaid(body))]
        found += [
            f"{name}: {why}" for other, table, body in _ROWS.findall(text) for why in _not_rows(other, table, body)
        ]
    return found


def write(pages: Iterable[Path]) -> list[Path]:
    """Write every table anew from its file; the pages that changed."""
    changed = []
    for page in pages:
        text = page.read_text()
        made = _MADE.sub(lambda match: f"{match[1]}{rendered(match[2])}{match[4]}", text)
        if made != text:
            page.write_text(made)
            changed.append(page)
    return changed


def rendered(source: str) -> str:
    """The tables of one result file, one part of them, or the table of all attacks a pattern names."""
    source, _, part = source.partition(" ")
    files = sorted(RESULTS.glob(source))
    if not files:
        raise SystemExit(f"docs/results/{source}: no such file")
    documents = [json.loads(path.read_text()) for path in files]
    if all(each.get("format") == "medveil-attack" for each in documents):
        return renderings.attacks(documents)
    if part:
        return _part(documents[0], part, source)
    for fits, render in _RENDERINGS:
        if fits(documents[0]):
            return render(documents[0])
    raise SystemExit(f"docs/results/{source}: is no result this checker knows")


def _part(document: dict[str, Any], part: str, source: str) -> str:
    if part not in comparisons.PARTS or document.get("format") != "medveil-comparison":
        raise SystemExit(
            f"docs/results/{source}: has no part '{part}'; a comparison has {', '.join(comparisons.PARTS)}"
        )
    return comparisons.PARTS[part](document)


def _unsaid(body: str) -> str:
    """Why a table without a file does not say where it is from; empty where it does."""
    said = _SOURCE.search(" ".join(body.split()))
    if said is None:
        return "says neither command nor commit: 'Measured with `COMMAND`; the figures came in with commit `HASH`'"
    return "" if _is_ours(said[2]) else f"commit {said[2]} is none of this repository's"


def _is_ours(commit: str) -> bool:
    """Whether history has a commit; where there is none, or only its end, nobody can say that it has not."""
    shallow = _git("rev-parse", "--is-shallow-repository")
    return shallow != "false" or _git("cat-file", "-t", commit) == "commit"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _not_rows(other: str, table: str, body: str) -> list[str]:
    """Rows that the table they are taken from has not, cell for cell."""
    source = next((text for name, text in _MEASURED.findall((ROOT / other).read_text()) if name == table), None)
    source = rendered(table) if source is None and any(RESULTS.glob(table)) else source
    if source is None:
        return [f"{other} has no table {table}"]
    ((own_heads, *own),) = _tables(body) or [[[]]]
    tables = _tables(source)
    # Of several tables that which has all of these columns.
    heads, *rows = next((each for each in tables if set(own_heads) <= set(each[0])), tables[0])
    missing = [head for head in own_heads if head not in heads]
    if missing:
        return [f"{other}: table {table} has no column {', '.join(missing)}"]
    columns = [heads.index(head) for head in own_heads]
    known = [[row[column] for column in columns] for row in rows]
    return [f"{other}: table {table} has no row {' | '.join(row)}" for row in own if row not in known]


def _tables(text: str) -> list[list[list[str]]]:
    """The cells of each table of a text, row by row, its heads first."""
    made: list[list[list[str]]] = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip().strip("|") for line in block.splitlines() if line.startswith("|")]
        rows = [[cell.strip() for cell in line.split("|")] for line in lines]
        kept = [row for row in rows if not all(set(cell) <= {"-", ":"} for cell in row)]
        made += [kept] if kept else []
    return made
