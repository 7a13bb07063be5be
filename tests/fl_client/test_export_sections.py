"""Sections of cards: one list for the cards that an export writes and for the empty ones."""

from __future__ import annotations

import re

import pytest

from fl_client.export.sections import DATA, MODEL, Section, laid_out, template


@pytest.mark.parametrize("sections", [MODEL, DATA])
def test_an_empty_card_has_every_section_and_asks_for_what_belongs_there(sections: tuple[Section, ...]) -> None:
    card = template("Card", sections)
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == [each.heading for each in sections]
    assert all(f"[{each.asks}]" in card for each in sections)


def test_sections_keep_their_order_and_those_without_text_are_left_out() -> None:
    assert laid_out(MODEL, {"Limits": "b", "Factors": "a"}) == ["## Factors\n\na", "## Limits\n\nb"]


def test_a_text_of_no_section_is_refused() -> None:
    with pytest.raises(KeyError, match="Limit"):
        laid_out(MODEL, {"Limit": "b"})
