"""What others wrote is shown on terminals and in logs, and never obeyed."""

from __future__ import annotations

import ast
import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.live import Live
from rich.progress import Progress, TextColumn
from rich.table import Table

from medveil import log, plain
from medveil.cli import guarded, parser
from medveil.errors import DataError
from medveil.plain import as_json, shown, shown_lines, tell, tell_block, tell_json
from medveil.tables import plain_table

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("medveil", "crypto", "models", "fl_client", "fl_server", "simulations")
ODD = {
    "ESC": "\x1b[2J",
    "a link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "C1": "\x9b2J",
    "DEL": "\x7f",
    "CR": "\rroot@coordinator:~#",
    "BS": "\x08\x08\x08",
    "BEL": "\x07",
    "NUL": "\x00",
    "LF": "\n2026-01-01 00:00:00,000 INFO medveil.server: the run ended",
    "LS": "\u2028",
    "PS": "\u2029",
    "NEL": "\x85",
    "turned": "\u202etxt.exe",
    "isolated": "\u2066x\u2069",
    "no width": "a\u200bb",
    "BOM": "\ufeff",
    "half a pair": "\udc80",
    "private": "\ue000",
    "tag": "\U000e0041",
}
EVERY = "".join(ODD.values())
LOGGED = EVERY.replace(ODD["half a pair"], "")
"""pytest keeps what is logged as it was said, and its workers cannot send half a character to each other."""


def is_plain(text: str) -> bool:
    return all(each.isprintable() for each in text.split("\n"))


@pytest.mark.parametrize("text", ODD.values(), ids=ODD.keys())
def test_each_is_shown(text: str) -> None:
    assert shown(text).isprintable()
    assert shown(f"a {text} b") != f"a {text} b"
    assert shown_lines(text).count("\n") == text.count("\n")
    assert is_plain(shown_lines(text))


@given(st.text(st.characters()))
def test_what_is_shown_is_printable_can_be_encoded_and_stays_so(text: str) -> None:
    made = shown(text)
    assert made.isprintable()
    made.encode("utf-8")
    assert shown(made) == made
    assert len(shown(text, most=10)) <= 10 * len("\\U000e0041") + 3


@given(st.dictionaries(st.text(), st.recursive(st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)))
def test_json_is_plain_and_the_same_document(document: dict[str, object]) -> None:
    text = as_json(document)
    assert is_plain(text)
    assert json.loads(text) == document


def test_ordinary_words_stay_as_they_are() -> None:
    for text in ("Sankt-Görans sjukhus, 10 °C", "聖路加国際病院", "a\\b", "mass 🩻", ""):
        assert shown(text) == text


def test_a_line_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(f"site {EVERY}")
    tell(EVERY, error=True)
    tell_block("two\nlines")
    tell_json({"site": EVERY})
    found = capsys.readouterr()
    assert found.out.splitlines()[1:3] == ["two", "lines"]
    assert is_plain(found.out)
    assert len(found.err.splitlines()) == 1
    assert is_plain(found.err)


def test_errors_and_usage_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise DataError(f"unknown label {EVERY}", where=f"/data/{EVERY}", cure=EVERY)

    assert guarded(fails) == 3
    assert str(DataError(EVERY)).isprintable()
    made = parser("medveil-x", "A command.", "medveil-x")
    made.add_argument("--kind", choices=["a"])
    for words in (["--kind", EVERY], [EVERY], ["--", EVERY], [f"--{EVERY}"]):
        assert guarded(lambda words=words: made.parse_args(words) and 0) == 2
    found = capsys.readouterr().err
    assert is_plain(found)
    assert len(found.splitlines()) == 5


def test_tables_are_plain() -> None:
    table = plain_table([{"site": EVERY, "key": "k"}])
    assert is_plain(table)
    assert len(table.split("\n")) == 2


def drawn(on: io.StringIO) -> str:
    return on.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_what_rich_draws_is_plain(terminal: bool) -> None:
    out = io.StringIO()
    console = plain.console(file=out, force_terminal=terminal, width=2000, no_color=True)
    table = Table(title=EVERY)
    table.add_column(EVERY)
    table.add_row(EVERY)
    console.print(table)
    console.print(EVERY, markup=False)
    plain.say(console, EVERY)
    with Live(EVERY, console=console, auto_refresh=False) as live:
        live.update(table, refresh=True)
    with Progress(TextColumn("{task.description}"), console=console) as bar:
        bar.add_task(EVERY.replace("[", ""), total=1)
    text = drawn(out)
    assert text
    for each in ("\x1b]8", "\x1b[2J\x1b]", "\x9b", "\x7f", "\u202e", "\u2066", "\ue000", "\x00", "\udc80"):
        assert each not in text
    if not terminal:
        assert "\x1b" not in text


@pytest.fixture
def own_log(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "site.log"
    kept = (warnings.formatwarning, sys.excepthook, log.threading.excepthook)
    log.set_up_logging("info", file, stderr=False)
    yield file
    warnings.formatwarning, sys.excepthook, log.threading.excepthook = kept
    for name in ("flwr", "py.warnings"):
        logging.getLogger(name).filters.clear()
    handlers = logging.getLogger("medveil").handlers
    for handler in handlers:
        handler.close()
    handlers.clear()
    logging.getLogger("medveil").propagate = True


def raised() -> None:
    raise ValueError(LOGGED)


def test_no_text_makes_a_line_of_the_log(own_log: Path) -> None:
    log.logger("client").error("%s", LOGGED)
    try:
        raised()
    except ValueError:
        log.logger("client").exception("a defect of %s", LOGGED)
    lines = own_log.read_text().split("\n")
    assert lines.pop() == ""
    assert all(line.isprintable() for line in lines)
    records = [line for line in lines if not line.startswith(log.MARK)]
    assert len(records) == 2
    assert len(lines) > 4


@pytest.mark.parametrize("text", [*ODD.values(), EVERY], ids=[*ODD, "all"])
def test_a_formatted_record_is_one_line(text: str) -> None:
    record = logging.LogRecord("medveil.client", logging.ERROR, __file__, 1, "%s", (text,), None)
    made = log.PlainFormatter("%(name)s %(message)s").format(record)
    assert made.isprintable()
    made.encode("utf-8")


def test_flowers_log_and_warnings_are_plain(own_log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    flower = logging.getLogger("flwr")
    flower.addHandler(handler)
    try:
        raised()
    except ValueError:
        flower.error("reply of %s", EVERY, exc_info=True)
    finally:
        flower.removeHandler(handler)
    assert is_plain(out.getvalue())
    first, *rest = out.getvalue().rstrip("\n").split("\n")
    assert first.startswith("reply of")
    assert all(line.startswith(log.MARK) for line in rest)
    assert is_plain(warnings.formatwarning(EVERY, UserWarning, "file.py", 3))


def test_an_error_nobody_caught_is_plain() -> None:
    code = "from medveil.log import set_up_logging as s; s(); raise ValueError('\\x1b[2J\\n2026 INFO medveil: done')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert all(line.startswith(log.MARK) for line in done.stderr.splitlines())
    assert "INFO medveil" in done.stderr


# -- nothing goes past it ----------------------------------------------------------------------------------------------

_WRITERS = {
    "print": {"medveil/plain.py"},
    "Console": {"medveil/plain.py"},
    "StreamHandler": {"medveil/log.py"},
    "FileHandler": {"medveil/log.py"},
    "Formatter": {"medveil/log.py"},
    "basicConfig": set(),
    "csv.writer": {"medveil/sheets.py"},
    "csv.DictWriter": set(),
}


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names of what is called, and of writes to the two streams."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        named = node.func
        if isinstance(named, ast.Name):
            yield named.id, node.lineno
        elif isinstance(named, ast.Attribute):
            # A console's own `print` is safe, for every console is ours.
            if ast.unparse(named) in {"csv.writer", "csv.DictWriter"}:
                yield ast.unparse(named), node.lineno
            if named.attr != "print":
                yield named.attr, node.lineno
            if named.attr in {"write", "writelines"} and ast.unparse(named.value).endswith(("stdout", "stderr")):
                yield f"{ast.unparse(named.value)}.{named.attr}", node.lineno


def test_no_package_prints_past_the_one_writer() -> None:
    found = []
    for path in sorted(each for package in PACKAGES for each in (ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for called, line in calls(ast.parse(path.read_text())):
            allowed = _WRITERS.get(called)
            if called.startswith("sys.") or (allowed is not None and name not in allowed):
                found.append(f"{name}:{line}: {called}")
    assert not found, "print through medveil.plain and log through medveil.log:\n" + "\n".join(found)


def test_the_search_finds_what_it_is_for() -> None:
    code = "print(1)\nsys.stderr.write('x')\nlogging.StreamHandler()\nlogging.basicConfig()"
    assert {name for name, _ in calls(ast.parse(code))} >= {"print", "sys.stderr.write", "StreamHandler", "basicConfig"}
