"""What mkdocstrings lets look through docstrings before it renders them."""

from __future__ import annotations

from typing import Any

import griffe
from docsite.numpydoc import as_markdown


class Markdown(griffe.Extension):
    """Has every docstring in Markdown."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
