"""Cards of attacks: one for each, whose command the program takes, and which is broken by what would make it untrue."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from docsite import card, cards, cards_where, commands, widths
from docsite.generated import GENERATED

from simulations.attacks.asked import asked_for
from simulations.attacks.poisoning.attacks import ATTACKS as POISONING
from simulations.attacks.registry import ATTACKS
from simulations.attacks.updates.stem_closed_form import StemClosedForm


@pytest.fixture(scope="module")
def written() -> str:
    return "\n".join(GENERATED[page]() for page in cards.pages())


def commands_of(text: str) -> Iterator[list[str]]:
    for block in re.findall(r"```sh\n(.*?)\n```", text, re.DOTALL):
        assert max(map(len, block.splitlines())) <= widths.WIDEST
        yield shlex.split(block.replace("\\\n", ""))


def test_every_attack_has_a_card_that_says_what_its_class_says(written: str) -> None:
    names = [*ATTACKS, *POISONING]
    assert re.findall(r"^## (.+)$", written, re.MULTILINE).count("Letters of attackers") == 1
    assert all(written.count(f"\n## {name}\n") == 1 for name in names)
    for attack in ATTACKS.values():
        assert card.safe(attack.text) in written
        assert f"`{attack().main}`: " in written


def test_every_card_has_a_command_that_the_program_takes(written: str, tmp_path: Path) -> None:
    parser, seen = commands.parser_of("medveil-sim"), []
    for words in commands_of(written):
        asked = parser.parse_args(words[1:])
        seen.append(words[2] if words[1] == "attack" else asked.attacks)
        if words[1] == "attack":
            asked_for(images=tmp_path, cipher=asked.cipher, overrides=asked.overrides)
    assert sorted(seen) == sorted([*ATTACKS, *POISONING])


def test_an_attack_that_applies_nowhere_has_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards_where, "_SETTINGS", ("",))
    with pytest.raises(ValueError, match="'stem-closed-form' applies in no setting"):
        card.card(StemClosedForm)


def test_where_an_attack_applies_is_what_it_answers() -> None:
    closed = StemClosedForm()
    said = {each.name: each.why for each in cards_where.by_policy(closed, cards_where.settings_for(closed))}
    assert said["none + public + averaged"] == ""
    assert "the stem stays at the site" in said["per-site + adapted + local"]
    covariance = {each.name: each.why for each in cards_where.by_scheme(ATTACKS["covariance"]())}
    assert covariance["block-pixel+negate"] == ""
    assert "own" in covariance["per-block"]
