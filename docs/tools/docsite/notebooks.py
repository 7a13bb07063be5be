"""Notebooks: run as a kernel would, in one process, and shown as pages of the site with the outputs they hold.

A notebook is nbformat 4. What a cell prints, and the value or matplotlib figure its last line is, becomes its output;
nothing but the standard library reads or writes the file, so that the site builds without Jupyter.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docsite.places import DOCS, ROOT

FOLDER = DOCS / "tutorials"
PAGES = {f"tutorials/{path.stem}.md": path for path in sorted(FOLDER.glob("*.ipynb"))}
"""Pages of the site, and the notebook that each shows."""
_PNG, _TEXT = "image/png", "text/plain"
_DPI = 80


def read(path: Path) -> dict[str, Any]:
    """A notebook."""
    made: dict[str, Any] = json.loads(path.read_text())
    return made


def page(path: Path) -> str:
    """A notebook as Markdown: text as it is, code in fences, outputs below."""
    told = f"\nThe notebook itself: [{path.name}]({path.name}), in `{path.parent.relative_to(ROOT)}`.\n"
    parts = []
    for number, cell in enumerate(read(path)["cells"]):
        source = "".join(cell["source"])
        text = source.replace(".ipynb)", ".md)")  # other notebooks are pages here
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [told] if number == 0 else []
        parts += [_shown(output) for output in cell.get("outputs", ())]
    return "\n\n".join(parts) + "\n"


def run(path: Path, work: Path) -> dict[str, Any]:
    """The notebook with the outputs of its cells, run in order in an empty folder; errors are the cell's own."""
    made, names = read(path), {"__name__": "__main__"}
    with contextlib.chdir(work):
        for number, cell in enumerate(made["cells"]):
            if cell["cell_type"] == "code":
                cell["outputs"] = list(_outputs("".join(cell["source"]), names, where=f"{path.name}[{number}]"))
    return made


def write(path: Path, notebook: dict[str, Any]) -> None:
    """Write a notebook as Jupyter does."""
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def words_of(notebook: dict[str, Any]) -> list[str]:
    """What its outputs say, every number replaced: what is the same on another machine."""
    texts = [
        "".join(output.get("text", output.get("data", {}).get(_TEXT, "")))
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
    ]
    return [" ".join(re.sub(r"[-+−]?\d[\d.e+-]*", "#", text).split()) for text in texts]


def _shown(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if _PNG in data:
        about = "".join(data.get(_TEXT, "figure"))
        return f'<p><img alt="{about}" src="data:image/png;base64,{"".join(data[_PNG]).strip()}"></p>'
    text = "".join(output.get("text", data.get(_TEXT, "")))
    return f"```text\n{text.rstrip()}\n```"


def _outputs(source: str, names: dict[str, Any], *, where: str) -> Iterator[dict[str, Any]]:
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(tree, where, "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
    if said.getvalue():
        yield {"name": "stdout", "output_type": "stream", "text": said.getvalue().splitlines(keepends=True)}
    if value is not None:
        yield {"data": _data(value), "execution_count": None, "metadata": {}, "output_type": "execute_result"}


def _data(value: Any) -> dict[str, Any]:
    if not hasattr(value, "savefig"):
        return {_TEXT: repr(value).splitlines(keepends=True)}
    file = io.BytesIO()
    value.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
    return {_PNG: base64.b64encode(file.getvalue()).decode(), _TEXT: [value.get_label() or "figure"]}


os.environ.setdefault("MPLBACKEND", "agg")
