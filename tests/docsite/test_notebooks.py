"""Notebooks run as they stand, and their pages show what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from docsite import notebooks
from docsite.generated import GENERATED

PATHS = pytest.mark.parametrize("path", notebooks.PAGES.values(), ids=lambda path: path.stem)


@PATHS
def test_a_notebook_runs_and_says_what_it_says(path: Path, tmp_path: Path) -> None:
    made = notebooks.run(path, tmp_path)
    assert notebooks.words_of(made) == notebooks.words_of(notebooks.read(path))
    assert len(notebooks.words_of(made)) > 2


@PATHS
def test_its_page_has_code_text_and_outputs(path: Path) -> None:
    page = GENERATED[f"tutorials/{path.stem}.md"]()
    for cell in notebooks.read(path)["cells"]:
        assert "".join(cell["source"]).replace(".ipynb)", ".md)") in page
    assert "data:image/png;base64," in page
    assert "```text\n" in page


def test_an_output_that_changed_its_words_is_found() -> None:
    said = {"cells": [{"outputs": [{"text": ["succeeds: target 0.98\n"]}]}]}
    other = {"cells": [{"outputs": [{"text": ["fails: target 0.98\n"]}]}]}
    near = {"cells": [{"outputs": [{"text": ["succeeds: target 1.00\n"]}]}]}
    assert notebooks.words_of(said) == notebooks.words_of(near) != notebooks.words_of(other)


def test_a_cell_that_fails_says_so(tmp_path: Path) -> None:
    path = tmp_path / "broken.ipynb"
    notebooks.write(path, {"cells": [{"cell_type": "code", "source": ["1 / 0"], "outputs": []}]})
    with pytest.raises(ZeroDivisionError):
        notebooks.run(path, tmp_path)
