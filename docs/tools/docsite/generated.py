"""Pages of the site that no file holds, and what makes each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from docsite import cards, commands, conformance, errors, formats, models, notebooks, settings, templates

GENERATED: dict[str, Callable[[], str]] = {
    **{f"reference/{door}.md": partial(commands.page, door) for door in commands.DOORS},
    "reference/settings.md": settings.page,
    "reference/errors.md": errors.page,
    "reference/formats.md": formats.page,
    "reference/models.md": models.page,
    "reference/conformance.md": conformance.page,
    "reference/card-templates.md": templates.page,
    **cards.pages(),
    **{page: partial(notebooks.page, path) for page, path in notebooks.PAGES.items()},
}
