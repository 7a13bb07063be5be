"""The page of a disclosure: what its document says, for somebody who decides whether a model may leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fl_client.disclosure.document import FAILED, INAPPLICABLE, UNFINISHED
from fl_client.disclosure.make import DOCUMENT, PAGE
from medveil.files import read_json, write_text
from medveil.times import moment
from simulations.attacks.matrix import words
from simulations.report import page

_UNKNOWN = words.State("unmeasured", "not known", "")


class Tried(NamedTuple):
    """A row: an attack, its state, and the figures that its verdict was taken on."""

    attack: str
    text: str
    has: str
    model: str
    state: words.State
    figure: str
    within: str
    chance: str
    chance_within: str
    control: str
    control_within: str
    unit: str
    n: str
    notes: list[str]


def write_page(folder: Path) -> Path:
    """Write the page of the document in a folder (MedVeilError where it cannot be read)."""
    found = read_json(folder / DOCUMENT)
    path = folder / PAGE
    write_text(path, rendered(found["document"], found["digest"]), mode=0o600)
    return path


def rendered(document: dict[str, Any], digest: str) -> str:
    """The page of a document, with the document's digest on it."""
    tried = sorted(map(_tried, document["tried"]), key=lambda each: (_ORDER.get(each.state.name, 9), each.attack))
    untried = sorted(document["untried"], key=lambda each: each["kind"] == INAPPLICABLE)
    won = sum(each.state.name == "succeeds" for each in tried)
    missing = sum(each["kind"] in (UNFINISHED, FAILED) for each in untried)
    return page.render(
        "disclosure.html",
        title=f"What {document['site']} discloses of {document['about']['name']}",
        document=document,
        digest=digest,
        made=moment(document["made"]),
        tried=tried,
        untried=untried,
        won=won,
        broken=sum(each.state.name == "broken" for each in tried),
        missing=missing,
        budget=_budget(document["effort"]),
        contract=[(name.replace("_", " "), value) for name, value in document["contract"].items()],
        limits=[(name, _listed(value)) for name, value in document["limits"].items()],
        privacy=list(_privacy(document["privacy"], document["limits"])),
        states=[words.STATES[name] for name in ("succeeds", "above chance", "at chance", "broken attack")],
    )


_ORDER = {"succeeds": 0, "above": 1, "chance": 2, "broken": 3}


def _tried(entry: dict[str, Any]) -> Tried:
    main = entry["figures"].get(entry["main"], {})
    return Tried(
        attack=entry["attack"],
        text=entry["text"],
        has="; ".join(entry["has"]),
        model=entry["model"],
        state=words.STATES.get(entry["verdict"], _UNKNOWN),
        figure=words.number(main.get("target")),
        within=_within(main, "target"),
        chance=words.number(main.get("chance")),
        chance_within=_within(main, "chance"),
        control=words.number(main.get("control")),
        control_within=_within(main, "control"),
        unit=main.get("text", ""),
        n=f"{_counted(entry['keys'], 'key')}, {_counted(entry['n'], 'image')}",
        notes=entry["notes"],
    )


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _within(main: dict[str, Any], arm: str) -> str:
    found = main.get("ci95", {}).get(arm)
    return f"[{words.number(found[0])}, {words.number(found[1])}]" if found and found[0] < found[1] else ""


def _budget(effort: dict[str, Any]) -> str:
    how = "with the effort of a trial" if effort["short"] else "in full"
    spent = f"{effort['seconds'] / 60:.1f} of {effort['minutes']:g} minutes"
    return f"{spent} by the clock, {_counted(effort['keys'], 'key')} at most, attacks {how}"


def _privacy(found: dict[str, Any], limits: dict[str, Any]) -> Iterator[tuple[str, str]]:
    run, spent = found["run"], found["spent"]
    if run is None:
        yield "this run", "no number: nothing bounds what one image or patient changes"
    else:
        yield "this run", f"epsilon {run['epsilon']:g} at delta {run['delta']:g} for each {run['unit']}"
    if spent is None:
        yield "all runs so far", "none had a number"
    else:
        told = f"epsilon {spent['epsilon']:.2f} at delta {spent['delta']:g} for each {spent['unit']}"
        yield "all runs so far", told + (f"; {spent['without']} more without noise" if spent["without"] else "")
    most = limits.get("epsilon")
    yield "at most", "what each run says" if most is None else f"epsilon {most:g}"


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
