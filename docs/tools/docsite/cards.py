"""Cards of all attacks, on a page a room, and what a letter of an attacker stands for: from the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from docsite.card import card, had, poisoning_card, recovered
from docsite.cards_where import BLOCK, SCHEME, SIDE
from docsite.links import slug
from docsite.tables import safe, table

if TYPE_CHECKING:
    from simulations.attacks.study.attack import Attack

_FOLDER = "reference/attacks"
_ROOMS = {
    "hidden": ("Attacks on hidden images", ("ciphertext",)),
    "updates": ("Attacks on updates and models", ("updates", "chained", "theft")),
    "diagnostics": ("Diagnostics", ("diagnostics",)),
}
"""Pages of cards: heading, and the rooms of `simulations.attacks` whose attacks stand there."""
_POISONING = "poisoning"
_READING = f"""# Attack cards

What each attack is after, what it assumes, on what it must succeed before its failure means anything, and where it does
not apply: made from the program when this site was built (`medveil-sim attacks --json` prints the same).

- **The attacker has**: all that the attack is shown. Scheme, settings and sizes are public throughout, the key is not.
- **Its figure**: what the verdict is taken on, and the unit. Beside it come the others that are named.
- **Chance**: how the same figure is found without anything of what is attacked. Neither means anything alone.
- **Must succeed on**: the control. An attack that does not clear chance there by the margin, which stands in the code,
  is reported as broken, and its failure elsewhere says nothing.
- **Wrong key**: whether the same is measured with what belongs to another key.
- **Where**: what the program answers for each scheme, or for each policy under `{SCHEME}`, on grey images of {SIDE}
  pixels in blocks of {BLOCK}, otherwise as in the command above it. That one attack does not apply protects from no
  other.
- **Figures of it**: where they stand, with what they were measured on and the command.
"""
_LETTERS = """## Letters of attackers

Of Carletti et al., "SoK: Gradient Inversion Attacks in Federated Learning", USENIX Security 2025, from the least able
to the most. A card has the letter of the least able one that can do it, by what of its needs the letters speak of.
"""


def pages() -> dict[str, Callable[[], str]]:
    """The pages of cards, by their paths below ``docs/``."""
    rooms = {f"{_FOLDER}/{room}.md": partial(_page, room) for room in _ROOMS}
    return {f"{_FOLDER}/index.md": _index, **rooms, f"{_FOLDER}/{_POISONING}.md": _poisoning}


def _kinds() -> list[type[Attack]]:
    from simulations.attacks.registry import ATTACKS  # noqa: PLC0415

    return list(ATTACKS.values())


def _room_of(kind: type[Attack]) -> str:
    place = kind.__module__.removeprefix("simulations.attacks.").split(".")[0]
    return next(room for room, (_, places) in _ROOMS.items() if place in places)


def _index() -> str:
    from simulations.attacks.poisoning.attacks import ATTACKS  # noqa: PLC0415
    from simulations.attacks.situations.capabilities import MODELS, PUBLISHED, Capability  # noqa: PLC0415

    rows = [(_link(kind.name, _room_of(kind)), recovered(kind), safe(had(kind))) for kind in _kinds()]
    rows += [(_link(each.name, _POISONING), safe(each.goal.value), safe(each.knows)) for each in ATTACKS.values()]
    told = [each for each in Capability if each in PUBLISHED]
    letters = [(each.value, ", ".join(letter for letter, has in MODELS.items() if each in has)) for each in told]
    return "\n".join(
        [
            _READING,
            table(("attack", "recovers, or is after", "the attacker has"), rows),
            _LETTERS,
            table(("an attacker has", "under the letters"), letters),
        ]
    )


def _link(name: str, room: str) -> str:
    return f"[{name}]({room}.md#{slug(name)})"


def _page(room: str) -> str:
    return _listed(_ROOMS[room][0], (card(kind) for kind in _kinds() if _room_of(kind) == room))


def _poisoning() -> str:
    from simulations.attacks.poisoning.attacks import ATTACKS  # noqa: PLC0415

    return _listed("Hospitals that poison", map(poisoning_card, ATTACKS.values()))


def _listed(title: str, cards: Iterable[list[str]]) -> str:
    lines = [f"# {title}", "", "How to read a card, and all of them in a table: [Attack cards](index.md).", ""]
    return "\n".join([*lines, *(line for each in cards for line in each)])
