"""What the documentation tells a reader to type, as tests need it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
COORDINATOR = ROOT / "docs/tutorials/coordinator.md"
"""Holds the thirteen commands of a consortium, each after the party that types it."""
WITHOUT_A_KEY = ROOT / "docs/how-to/train-without-a-key.md"
"""Holds the lines that hide a folder, and plain PyTorch that learns from it."""
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^ {4}\S.*\n(?:^ {4,}.*\n)*)", re.MULTILINE)


def pages() -> list[Path]:
    """Every page that tells somebody to type something."""
    return [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str = "sh") -> list[str]:
    """A page's blocks of code: those fenced as a language and, for commands, the indented ones."""
    text = page.read_text()
    fenced = [body for name, body in _FENCE.findall(text) if name == language]
    if language != "sh":
        return fenced
    return fenced + [re.sub(r"^ {4}", "", body, flags=re.MULTILINE) for body in _INDENTED.findall(_FENCE.sub("", text))]


def commands(page: Path, program: str) -> Iterator[list[str]]:
    """The words of every line of a page that begins with a program, or with one word and then the program."""
    for block in blocks(page):
        for line in re.findall(rf"^ *(?:\w+ +)?({program} .*)$", _with_values(block), re.MULTILINE):
            yield shlex.split(line, comments=True)


def _with_values(block: str) -> str:
    """A block with each command on one line, and what it gives to variables in their place."""
    values: dict[str, str] = {}
    lines = []
    for line in block.replace("\\\n", " ").splitlines():
        lines.append(re.sub(r"\$(\w+)", lambda name: values.get(name[1], name[0]), line))
        if given := re.fullmatch(r' *(\w+)=(?:"([^"]*)"|(\S*))', lines[-1]):
            values[given[1]] = given[2] or given[3]
    return "\n".join(lines)
