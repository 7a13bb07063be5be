"""What the page says in words: verdicts, what an attacker holds, and what follows for each scheme."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from simulations.attacks.matrix.table import FAILED, NEEDS_MORE, NOT_MEASURED, NOT_SCORED, Cell, Row, Table
from simulations.attacks.study.attack import Knowledge
from simulations.attacks.study.result import FEWEST_IMAGES, FEWEST_KEYS, Measured, Result


class State(NamedTuple):
    """How a verdict is shown: its class in the style sheet, the word in a cell, and what that means."""

    name: str
    word: str
    meaning: str


STATES = {
    "succeeds": State(
        "succeeds",
        "recovered",
        "The attack succeeds: what it recovers clears what guessing gives, by a margin fixed beforehand.",
    ),
    "above chance": State(
        "above", "a little", "Above what guessing gives, by less than the margin. Something is recovered."
    ),
    "at chance": State(
        "chance",
        "nothing here",
        "No more than guessing gives, by this attack with these images and this effort. Another attack may do better.",
    ),
    "broken attack": State(
        "broken",
        "broken attack",
        "The attack fails even where nothing is hidden, or on the cipher made for it: it says nothing of the scheme.",
    ),
    "not applicable": State(
        "inapplicable", "not applicable", "The attack is made for something this scheme does not do: nothing is shown."
    ),
    NOT_MEASURED: State("unmeasured", "not measured", "Nobody has tried here: nothing is known."),
    NOT_SCORED: State(
        "unscored", "not scored", "What this attack looks for does not exist in this scheme: nothing is shown."
    ),
    NEEDS_MORE: State(
        "unmeasured", "needs more images", "It cannot be scored on as few images as it was held to: nothing is shown."
    ),
    FAILED: State("unmeasured", "failed", "It was tried and could not be measured; the page gives the reason."),
    "diagnostic": State("diagnostic", "", "A measurement that recovers nothing, without a verdict."),
}
_HAS = {
    Knowledge.PUBLIC: "public images of the kind",
    Knowledge.LABELLED: "labels of other ciphertexts",
    Knowledge.CANDIDATES: "plain images among which the originals are",
    Knowledge.PAIRS: "a few images, plain and hidden",
    Knowledge.CHOSEN: "hidden images of the attacker's own choice",
    Knowledge.UPDATES: "model updates",
    Knowledge.WEIGHTS: "model updates and the public weights",
    Knowledge.KEY: "the key",
}


def holds(knowledge: Iterable[str]) -> str:
    """What an attacker has, as a phrase: ``ciphertexts and public images of the kind``."""
    given = list(knowledge)
    words = {str(each): text for each, text in _HAS.items()}
    more = [words.get(each, each) for each in given if each != Knowledge.CIPHERTEXTS]
    parts = (["ciphertexts"] if Knowledge.CIPHERTEXTS in given else []) + more
    if parts == ["ciphertexts"]:
        return "ciphertexts alone"
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def number(value: float | None) -> str:
    """A figure with three digits behind the point if it is small, none if it is large, and never a false zero."""
    if value is None:
        return "–"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.0005:
        return "<0.001" if value > 0 else "−<0.001"
    text = f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:,.0f}".replace(",", "\u202f")
    return text.replace("-", "−")


def within(measured: Measured, arm: str) -> str:
    """The interval of an arm in brackets; empty where there is none.

    An older MedVeil gave one of no width where all keys scored the same.
    """
    found = measured.ci95.get(arm)
    return f"[{number(found[0])}, {number(found[1])}]" if found and found[0] < found[1] else ""


def without(measured: Measured, arm: str) -> str:
    """Why an arm has no interval."""
    keys = sum(each is not None for each in measured.values.get(arm, []))
    return f"{keys} keys score alike: no interval" if keys > 1 else "one key: no interval"


def chance(measured: Measured) -> str:
    """Chance, in words; empty where there is none."""
    return "" if measured.chance is None else f"chance {number(measured.chance)}"


def other_figure(cell: Cell) -> str:
    """Where the main figure is not defined, an image's or a rate's that is; empty where there is none."""
    if cell.result is None or cell.state != NOT_SCORED:
        return ""
    for each in reversed(cell.result.metrics.values()):
        if each.target is not None and each.chance is not None:
            return f"{each.unit} {number(each.target)}, {chance(each)}"
    return ""


def held_to(cell: Cell) -> str:
    """That an attack was given fewer images than it is made for; empty where it was not."""
    if cell.result is None or not cell.result.applicable or cell.images_wanted is None:
        return ""
    return f"made for {cell.images_wanted} images, had {cell.result.images_per_key}"


def title(table: Table) -> str:
    """A heading for the page."""
    places = {str(each.data.get("path", "")).rstrip("/").rpartition("/")[2] for each in table.results}
    return f"Attacks on hidden images: {', '.join(sorted(places))}" if places else "Attacks on hidden images"


def headline(table: Table) -> str:
    """What was done, in a sentence."""
    results = table.results
    if not results:
        return "Nothing has been measured yet."
    first = results[0]
    shape = "x".join(str(first.target[each]) for each in ("height", "width", "channels"))
    images = min(each.images_per_key for each in results)
    tried = sum(row.tried for row in table.attacks)
    count = f"{tried} of {len(table.attacks)}" if tried < len(table.attacks) else f"{tried}"
    return (
        f"{count} attacks on {len(table.columns)} schemes: images of {shape}, blocks of "
        f"{first.target['block']}, {spread(each.keys for each in results)} keys, at least {images} images under each."
    )


def spread(values: Iterable[int]) -> str:
    """One number, or the range of several."""
    found = sorted(set(values))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


RECOVERS = {"images": "to open images", "facts": "to tell something of them"}
"""What attacks are after, as the table says it."""


def least(table: Table, scheme: str, recovers: str) -> tuple[str, list[Row]]:
    """The least an attacker needed for a success of a kind, in words, and the attacks that managed with it."""
    place = table.columns.index(scheme)
    won = [row for row in table.attacks if row.recovers == recovers and row.cells[place].state == "succeeds"]
    if not won:
        return "", []
    return holds(won[0].knowledge), [row for row in won if row.knowledge == won[0].knowledge]


def verdict(table: Table, scheme: str) -> str:
    """What came out for one scheme, in sentences that follow from the cells alone."""
    place = table.columns.index(scheme)
    states = [row.cells[place].state for row in table.attacks]
    applied = sum(state in {"succeeds", "above chance", "at chance"} for state in states)
    untried = sum(state in {NOT_MEASURED, FAILED, NEEDS_MORE} for state in states)
    rest = f" Not measured: {untried}." if untried else ""
    if not applied:
        return f"No attack that applies was measured.{rest}"
    if "succeeds" not in states:
        some = [row for row in table.attacks if row.cells[place].state == "above chance"]
        little = f"; a little by {names(some)}" if some else ""
        return f"None of {applied} attacks that apply succeeded{little}. That is no proof of anything.{rest}"
    enough = []
    for recovers, text in RECOVERS.items():
        held, attacks = least(table, scheme, recovers)
        enough.append(f"{text}: {held} ({names(attacks)})" if attacks else f"{text}: no attack here succeeded")
    won = states.count("succeeds")
    return f"{won} of {applied} attacks that apply succeeded. Enough {'; '.join(enough)}.{rest}"


def names(rows: Iterable[Row]) -> str:
    """Names of attacks, separated by commas."""
    return ", ".join(row.attack for row in rows)


def trial(table: Table) -> str:
    """A warning where there are fewer keys or images than a finding takes; else empty."""
    few = [each for each in table.results if each.keys < FEWEST_KEYS or each.images_per_key < FEWEST_IMAGES]
    if not few:
        return ""
    some = f"{len(few)} of {len(table.results)} results {'is a trial' if len(few) == 1 else 'are trials'}"
    which = some if len(few) < len(table.results) else "Every result here is a trial"
    return f"{which}: a finding takes at least {FEWEST_KEYS} keys and {FEWEST_IMAGES} images for each."


def why(cell: Cell) -> str:
    """The reason in a cell without figures; empty where there is none to give."""
    if cell.result is not None:
        return cell.result.reason or ""
    return cell.failure or ""


def seconds_in_all(results: Iterable[Result]) -> float:
    """Time that all measurements took, one after another."""
    return float(sum(each.seconds for each in results))


def plain_arms(result: Result) -> dict[str, Any]:
    """Arms that have no figure and why, as a sentence for each."""
    return {arm.replace("_", " "): reason for arm, reason in result.reasons.items()}
