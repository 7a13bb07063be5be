"""The one way out to a terminal or a log: whatever stands in a text is shown, and never obeyed.

Names of files, classes and sites, what a decoder says of a file, what another side answers: such texts end up in
sentences, tables and logs, and may hold ESC, a line feed that begins a forged line, a mark that turns the reading
direction, half a surrogate pair. `shown` writes each of these as its escape. Everything MedVeil prints goes through
`tell`, `tell_block`, `tell_json` or a `console`, everything it logs through `medveil.log`; a test holds all packages to
that.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_CUT = "..."
_NARROWEST = 20
_WIDEST = 10_000


def shown(text: object, *, most: int | None = None) -> str:
    """A text on one line: what is not printable becomes its escape, as Python's `ascii` has it.

    Not printable are control characters (C0, DEL, C1), line and paragraph separators, marks of direction and other
    invisible ones, and what is no character: halves of surrogate pairs, as in file names that are no UTF-8.

    Parameters
    ----------
    most
        Where to cut it, with "..." in the place of the rest; None does not.
    """
    words = str(text)
    if most is not None and len(words) > most:
        words = words[:most] + _CUT
    return words if words.isprintable() else "".join(map(_letter, words))


def shown_lines(text: str) -> str:
    """A text of several lines that are ours, each as `shown` makes it; no other character ends a line."""
    return "\n".join(map(shown, text.split("\n")))


def as_json(document: Any, *, indent: int | None = 2) -> str:
    """A document as JSON for a terminal: the same document to who parses it, with nothing in it to be obeyed."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    if text.isprintable():
        return text
    # Outside of strings JSON has no such letter but the line feed, and inside of one it has its escape.
    return "".join(letter if letter == "\n" or letter.isprintable() else _json_letter(letter) for letter in text)


def tell(text: object, *, error: bool = False, end: str = "\n") -> None:
    """Print one line; a terminal that is narrower gets it in several, parted between words.

    Parameters
    ----------
    error
        On stderr: what is no part of the result.
    end
        What ends it.
    """
    stream = sys.stderr if error else sys.stdout
    # A question that waits on its line stays as it is.
    words = shown(text)
    _print(parted(words) if end == "\n" and stream.isatty() else words, error=error, end=end)


def parted(text: str, *, width: int | None = None) -> str:
    """A line parted between words so that none is broken at a terminal's edge; what follows the first is indented.

    Parameters
    ----------
    width
        Of the terminal; None asks it.
    """
    columns = shutil.get_terminal_size().columns if width is None else width
    if len(text) <= columns or columns <= _NARROWEST:
        return text
    lines = textwrap.wrap(text, columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def parted_lines(text: str, *, width: int | None = None) -> str:
    """Each of several lines as `parted` makes it."""
    return "\n".join(parted(line, width=width) for line in text.split("\n"))


def tell_lines(text: str, *, error: bool = False) -> None:
    """Print sentences and tables that we made ourselves, as `tell_block` does; a terminal gets them parted."""
    stream = sys.stderr if error else sys.stdout
    tell_block(parted_lines(text) if stream.isatty() else text, error=error)


def tell_block(text: str, *, error: bool = False, end: str = "\n") -> None:
    """Print lines that we made ourselves; a text of others' among them went through `shown` before."""
    _print(shown_lines(text), error=error, end=end)


def tell_json(document: Any, *, indent: int | None = 2) -> None:
    """Print a result as JSON."""
    _print(as_json(document, indent=indent), error=False, end="\n")


def tell_result(document: Any, *lines: object, as_json: bool) -> None:
    """Print a result: as JSON, or in lines that say the same."""
    if as_json:
        tell_json(document)
        return
    for line in lines:
        tell(line)


def console(*, stderr: bool = False, highlight: bool = False, **options: Any) -> Console:
    """A rich console whose texts are shown and not obeyed: cells, live displays and bars too."""
    made: Console = _console_class()(stderr=stderr, highlight=highlight, **options)
    return made


def tell_text(name: str, text: str, *, as_json: bool, end: str = "") -> None:
    """Print a text of ours that is the whole result: as it is, or as JSON under a name."""
    if as_json:
        tell_json({name: text})
    else:
        tell_block(text, end=end)


@functools.cache
def stderr_console() -> Console:
    """The one console of this process on stderr: what is printed beside a live line must go through the line's own."""
    return console(stderr=True)


@functools.cache
def nobody() -> Console:
    """A console on which nothing shows: for whoever calls from a program, and asked for no words."""
    return console(stderr=True, quiet=True, force_terminal=False)


def console_unless(quiet: bool) -> Console | None:
    """`nobody` for a call that is to be quiet; None leaves the choice to whoever prints."""
    return nobody() if quiet else None


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Show on a terminal that something goes on, for what would else be seconds of silence; nothing of it stays.

    Elsewhere nothing is printed: what comes of it is.
    """
    if not sys.stderr.isatty():
        yield
        return
    from rich.text import Text  # noqa: PLC0415

    to = stderr_console()
    line = Text(shown(text, most=max(_NARROWEST, to.width - _NARROWEST // 4)), no_wrap=True)
    with to.status(line):
        yield


def say(to: Console, text: object) -> None:
    """Print one line on a console, beside what is live on it."""
    # Without a terminal a line stays one, for whoever greps it.
    to.print(shown(text), markup=False, soft_wrap=not to.is_terminal)


def say_table(to: Console, table: Table) -> None:
    """Print a table, or where it is wider than the console each row as a line of its own, parted between words."""
    if to.measure(table, options=to.options.update(max_width=_WIDEST)).maximum <= to.width:
        to.print(table)
        return
    if table.title:
        say(to, table.title)
    for row in zip(*(column.cells for column in table.columns), strict=True):
        cells = zip(table.columns, row, strict=True)
        said = (_words(to, column.header, cell) for column, cell in cells)
        say(to, "; ".join(each for each in said if each))


def _words(to: Console, header: Any, cell: Any) -> str:
    """A cell under its header, in words; nothing where the cell is empty."""
    name, value = (to.render_str(str(each)).plain for each in (header, cell))
    return f"{name} {value}" if value else ""


def _print(text: str, *, error: bool, end: str) -> None:
    print(text, file=sys.stderr if error else sys.stdout, end=end, flush=True)


@functools.lru_cache(maxsize=256)
def _letter(letter: str) -> str:
    return letter if letter.isprintable() else ascii(letter)[1:-1]


def _json_letter(letter: str) -> str:
    return json.dumps(letter)[1:-1]


@functools.cache
def _console_class() -> type[Console]:
    # rich takes a moment to import, and most commands do without.
    from rich.console import Console, ConsoleOptions, RenderableType  # noqa: PLC0415
    from rich.segment import Segment  # noqa: PLC0415

    class PlainConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            """As rich; control codes are rich's own where they stand in a segment of that kind only."""
            for each in super().render(renderable, options):
                yield each if each.control else Segment(shown_lines(each.text), each.style)

    return PlainConsole
