"""One attack's card, from its class."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from docsite.cards_where import SCHEME, Where, by_change, by_policy, by_scheme, settings_for
from docsite.commands import parted
from docsite.links import slug
from docsite.places import DOCS
from docsite.tables import code, safe, table

if TYPE_CHECKING:
    from simulations.attacks.poisoning.attacks import Poisoning
    from simulations.attacks.study.attack import Attack

MEASURED = "explanation/attacks.md"
"""The page on which stands what attacks came to."""
_RECOVERS = {"images": "images, or the key that opens them", "facts": "facts about images that it does not show"}
_PAPER = re.compile(r"arXiv[: ](\d{4}\.\d{4,5})|doi:(10\.[^\s,;)]+)")
_TABLE = re.compile(r"^(#{2,} .+?)$|^<!-- (?:measured|results): .*?^<!-- /", re.MULTILINE | re.DOTALL)
_HEADS = ("asked", "answer")


def card(kind: type[Attack]) -> list[str]:
    """Lines of an attack's card."""
    made = kind()
    main = next(each for each in made.metrics if each.name == made.main)
    better = "" if main.direction == "none" else f", {main.direction} is better for the attacker"
    others = list(dict.fromkeys(each.series or each.name for each in made.metrics))
    rows = [
        ("recovers", recovered(kind)),
        ("the attacker has", safe(had(kind))),
        *_needed(made),
        ("its figure", f"{code(main.name)}: {safe(main.text)}; {main.unit}{better}"),
        ("beside it", ", ".join(code(each) for each in others if each not in {main.name, main.series}) or "nothing"),
        ("chance", safe(main.chance.value)),
        ("must succeed on", _control(made)),
        ("wrong key", "measured" if made.no_wrong_key is None else f"none: {safe(made.no_wrong_key)}"),
        *([("made for", f"{made.wanted} ciphertexts or labelled ones under a key")] if made.wanted else []),
        ("part of `attack all`", "yes" if kind.in_all else "no, it runs by name"),
        ("published in", _published(kind.papers)),
        ("figures of it", measured(kind.name)),
    ]
    return [f"## {kind.name}", "", safe(kind.text), "", table(_HEADS, rows), *_command(made), "", *_where(made), ""]


def poisoning_card(attack: Poisoning) -> list[str]:
    """Lines of the card of a way to poison a run."""
    begins = f"at least {attack.fewest} of them to begin from" if attack.fewest else "none of others"
    rows = [
        ("it is after", safe(attack.goal.value)),
        ("a bad hospital trains on", safe(attack.trains.value)),
        ("the attacker has", f"{safe(attack.knows)}, the rule it faces, and sites that side with it"),
        ("updates of honest training", begins),
        ("chance", "the same run in which nobody is bad: same rule, same seed"),
        ("must succeed on", "the plain mean, which lets everything through"),
        ("published in", _published(attack.papers)),
        ("figures of it", measured(attack.name)),
    ]
    command = f"medveil-sim poison poisoning data.path=IMAGES.npz --attacks {attack.name} --out OUT"
    return [f"## {attack.name}", "", safe(attack.text), "", table(_HEADS, rows), "```sh", parted(command), "```", ""]


def had(kind: type[Attack]) -> str:
    """All an attack is shown."""
    from simulations.attacks.study.attack import Knowledge  # noqa: PLC0415

    return ", ".join(each.value for each in Knowledge if each in kind.knowledge)


def recovered(kind: type[Attack]) -> str:
    """What it ends in."""
    return "nothing: a diagnostic" if kind.kind == "diagnostic" else _RECOVERS[kind.recovers]


def measured(name: str) -> str:
    """A link to the first table of the page of figures that has an attack's, or to where that page speaks of it."""
    text = (DOCS / MEASURED).read_text()
    row = rf"^\| `?{re.escape(name)}(?![\w-])"
    found = _heading_above(text, row, tables=True)
    if found:
        return found
    spoken = _heading_above(text, rf"`{re.escape(name)}`", tables=False)
    return f"in no table yet; see {spoken}" if spoken else "none yet"


def _heading_above(text: str, wanted: str, *, tables: bool) -> str:
    heading = ""
    for part in _TABLE.finditer(text) if tables else re.finditer(r"^(#{2,} .+?)$|^.+$", text, re.MULTILINE):
        heading = (part[1] or heading).lstrip("# ")
        if part[1] is None and re.search(wanted, part[0], re.MULTILINE):
            return f"[{heading}](../../{MEASURED}#{slug(heading)})"
    return ""


def _needed(attack: Attack) -> list[tuple[str, str]]:
    from simulations.attacks.situations.capabilities import Capability  # noqa: PLC0415
    from simulations.attacks.situations.update_attack import UpdateAttack  # noqa: PLC0415

    if not isinstance(attack, UpdateAttack):
        return []
    needs = "; ".join(each.value for each in Capability if each in attack.needs)
    letter = f"[{attack.threat_model}](index.md#letters-of-attackers)"
    return [("it needs", safe(needs)), ("letter", letter)]


def _control(attack: Attack) -> str:
    margin = f"by {attack.margin:g} or more, lower bound to upper bound"
    if attack.control is None:
        return "nothing: a diagnostic has no control"
    if attack.control == "none":
        return f"the same images where nothing is hidden or held back, above chance {margin}"
    if isinstance(attack.control, str):
        return f"the scheme {code(attack.control)}, above chance {margin}"
    says = (inspect.getdoc(attack.control) or "").split("\n\n")[0].replace("\n", " ").rstrip(".")
    return f"a cipher of its own ({safe(says)}), above chance {margin}"


def _published(papers: Iterable[str]) -> str:
    return "; ".join(map(_linked, papers)) or "no paper: it does what anybody with that knowledge would"


def _linked(paper: str) -> str:
    def link(found: re.Match[str]) -> str:
        address = f"https://arxiv.org/abs/{found[1]}" if found[1] else f"https://doi.org/{found[2]}"
        return f"[{found[0]}]({address})"

    return _PAPER.sub(link, safe(paper))


def _command(attack: Attack) -> list[str]:
    from simulations.attacks.situations.update_attack import UpdateAttack  # noqa: PLC0415

    told = f"medveil-sim attack {attack.name} --images DIR --cipher {_cipher(attack)} --out OUT"
    settings = settings_for(attack) if isinstance(attack, UpdateAttack) else ""
    return ["```sh", parted(f"{told} --set {settings}" if settings else told), "```"]


def _cipher(attack: Attack) -> str:
    """The scheme that MedVeil hides with, or the first that the attack is made for."""
    from simulations.attacks.situations.update_attack import UpdateAttack  # noqa: PLC0415

    if isinstance(attack, UpdateAttack):
        return SCHEME
    return next(each.name for each in by_scheme(attack) if not each.why and "+" not in each.name)


def _where(attack: Attack) -> list[str]:
    from simulations.attacks.situations.update_attack import UpdateAttack  # noqa: PLC0415

    if not isinstance(attack, UpdateAttack):
        return _told("scheme", by_scheme(attack))
    settings = settings_for(attack)
    return [*_told("policy", by_policy(attack, settings)), *_told("where", by_change(attack, settings))]


def _told(what: str, found: list[Where]) -> list[str]:
    """Where it applies and why it does not, those of one reason in one row."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for each in found:
        grouped[each.why].append(code(each.name) if what == "scheme" else safe(each.name))
    rows = [(", ".join(grouped.pop("")), "applies")] if "" in grouped else []
    rows += [("; ".join(names), f"does not apply: {safe(why)}") for why, names in grouped.items()]
    return [table((what, "this attack"), rows)]
