"""`python -m docsite check|write|outside|take`: what `make docs` and `make docs-take` run beside MkDocs."""

from __future__ import annotations

import sys
from pathlib import Path

from docsite import links, outside, proofs, results, sentences, widths
from docsite.generated import GENERATED
from docsite.places import DOCS, ROOT, named, written
from docsite.taken import take

_BUILT = ROOT / "build" / "site"
_README_LINES = 150


def check() -> list[str]:
    """What is wrong with what people wrote."""
    pages = written()
    prose = [page for page in pages if page.name in {"README.md", "SECURITY.md"} or page.is_relative_to(DOCS)]
    lines = len((ROOT / "README.md").read_text().splitlines())
    long = (
        [f"README.md: {lines} lines; at most {_README_LINES}: the rest is for docs/"] if lines > _README_LINES else []
    )
    wrong = [*links.broken(pages, generated=GENERATED), *sentences.repeated(prose), *results.wrong(pages)]
    return [*long, *wrong, *proofs.wrong(pages), *widths.too_wide(pages)]


def main(words: list[str]) -> int:
    """Run one of the commands; 1 where something is wrong."""
    match words:
        case ["check"]:
            found = check()
        case ["write"]:
            found = []
            print(*(f"written: {named(page)}" for page in results.write(written())), sep="\n")
        case ["take", folder, *rest] if len(rest) < 2:
            found = []
            taken = take(Path(folder), results.RESULTS, name=rest[0] if rest else None)
            print(f"{named(taken)}: <!-- results: {taken.name} --> and <!-- /results --> on a page hold its tables")
            print(*(f"written: {named(page)}" for page in results.write(written())), sep="\n")
        case ["outside", *rest]:
            found = outside.fetched(Path(rest[0]) if rest else _BUILT)
        case _:
            print(__doc__)
            return 2
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
