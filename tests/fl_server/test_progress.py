"""Where a run is, as `medveil-server status` shows it: asked of a run while it goes on."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fl_server.config import ServerConfig, ServerSettings
from fl_server.deployment.consortium import Consortium
from fl_server.deployment.live import changes, looks, watch
from fl_server.deployment.progress import as_text, progress, span
from fl_server.deployment.provision import init
from fl_server.deployment.roster import Roster
from fl_server.deployment.runs import Submission, new_submission
from fl_server.deployment.status import as_text as status_text
from fl_server.deployment.status import status
from fl_server.watch import Watcher
from medveil.errors import IntegrityError
from medveil.files import make_folder, write_json
from medveil.flower_commands import Node
from medveil.node_keys import generate, public_file
from medveil.signing import SigningKey


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return init(tmp_path / "consortium.yaml", ["name=veil"])


def submitted(world: Any, consortium: Consortium) -> Submission:
    """The run of a world, as the consortium's newest."""
    made = replace(
        new_submission(world.run, ServerSettings(server=ServerConfig(), sites=3), "f" * 64), flower_runs=(7,)
    )
    make_folder(consortium.submissions, mode=0o700)
    document = {"format": "medveil-submission", "version": 1, **vars(made), "flower_runs": [7]}
    write_json(consortium.submissions / f"{made.run}.json", document)
    world.out = made.folder(consortium)
    return made


class Looking(Watcher):
    """Asks where the run is at every event."""

    def __init__(self, submission: Submission, consortium: Consortium) -> None:
        self._of = submission, consortium
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def phase(self, round_, phase, sites):
        self.seen.append((f"before {phase} {round_}", progress(*self._of)))

    def line(self, line):
        self.seen.append((f"{line['site']} {line['phase']} {line['round']}", progress(*self._of)))

    def at(self, event: str) -> dict[str, Any]:
        return next(found for name, found in self.seen if name == event)


def now(found: dict[str, Any]) -> dict[str, str]:
    return {site["site"]: site["now"] for site in found["sites"]}


def test_a_run_is_followed_through_its_rounds(make_world, consortium):
    world = make_world(3, rounds=3)
    submission = submitted(world, consortium)
    before = progress(submission, consortium)
    assert (before["status"], before["round"], before["rounds"], before["sites"]) == ("submitted", 0, None, [])
    world.site("site-3").spoil = lambda round_, tensors: (
        {name: array * float("nan") for name, array in tensors.items()} if round_ == 2 else tensors
    )
    look = Looking(submission, consortium)
    world.federate(watch=look)
    began = look.at("site-1 train 1")
    assert (began["status"], began["round"], began["rounds"]) == ("running", 0, 3)
    assert began["stage"] == "round 1 of 3: at site-1, site-2, site-3"
    assert now(began) == {"site-1": "answered", "site-2": "at work", "site-3": "at work"}
    assert began["seconds_left"] is None, "no round has been timed yet"
    later = look.at("site-2 train 3")
    assert later["round"] == 2
    assert later["seconds_left"] == later["history"][0]["seconds"] * 0.5 + later["history"][1]["seconds"] * 0.5
    assert [row["left_out"] for row in later["history"]] == [[], ["site-3"]]
    assert {site["site"]: site["left_out"] for site in later["sites"]} == {"site-1": 0, "site-2": 0, "site-3": 1}
    assert "are not finite" in later["sites"][2]["why"]
    tested = look.at("site-1 test 3")
    assert now(tested) == {"site-1": "answered", "site-2": "at work", "site-3": "at work"}
    after = progress(submission, consortium)
    assert (after["status"], after["round"], after["seconds_left"]) == ("finished", 3, None)
    assert set(now(after).values()) == {""}
    lines = {(line["site"], line["phase"], line["round"]): line for line in world.lines()}
    for row in after["history"]:
        number = row["round"]
        assert row["train_loss"] == lines["all", "train", number]["loss"]
        assert row["validation_loss"] == lines["all", "validation", number]["loss"]
    assert after["sites"][0]["validation_loss"] == lines["site-1", "validation", 3]["loss"]
    assert after["test"]["loss"] == lines["all", "test", 3]["loss"]


def test_a_site_that_is_left_out_of_the_phase_or_not_asked_is_shown_so(make_world, consortium):
    world = make_world(4, rounds=2)
    submission = submitted(world, consortium)
    world.federate(fraction=0.75)
    manifest = json.loads((world.out / "manifest.json").read_text())
    manifest |= {"status": "running", "phase": {"kind": "train", "round": 3, "sites": ["site-1", "site-2", "site-3"]}}
    manifest["left_out"] = [{"round": 3, "site": "site-2", "reason": "too late"}]
    (world.out / "manifest.json").write_text(json.dumps(manifest))
    expected = {"site-1": "at work", "site-2": "left out", "site-3": "at work", "site-4": "not asked"}
    assert now(progress(submission, consortium)) == expected
    # Rounds that compete are validated at all sites, in a phase of their own.
    manifest["phase"] = {"kind": "validate", "round": 2, "sites": ["site-1"]}
    (world.out / "manifest.json").write_text(json.dumps(manifest))
    assert now(progress(submission, consortium))["site-4"] == "not asked"
    manifest["run_config"]["task"] = "evaluate"
    (world.out / "manifest.json").write_text(json.dumps({**manifest, "phase": None, "status": "finished"}))
    told = as_text(progress(submission, consortium)).splitlines()[0]
    assert told == f"run {world.out.name}: finished, which trains nothing"


def test_the_text_holds_every_site_and_the_newest_rounds(make_world, consortium):
    world = make_world(2, rounds=12)
    submission = submitted(world, consortium)
    world.federate()
    text = as_text(progress(submission, consortium))
    lines = text.splitlines()
    assert lines[0] == f"run {world.out.name}: finished after 12 of 12 rounds"
    assert [line.split()[0] for line in lines if line.startswith("site-")] == ["site-1", "site-2"]
    assert [int(line.split()[0]) for line in lines if line[:1].isdigit()] == list(range(5, 13))
    assert lines[-1] == "test: loss 0.2500, accuracy 0.8000"


def test_a_status_names_who_is_there_and_who_was_last_seen_when(consortium):
    names = ("st-anna", "mercy", "charite")
    roster = Roster(consortium.roster, consortium.audit)
    for number, name in enumerate(names):
        roster.registered(roster.admit(public_file(generate(), SigningKey.generate(), name)[0]), number + 1)
    nodes = {
        1: Node(1, "online", "2026-11-24 20:00:00Z", ""),
        2: Node(2, "offline", "2026-11-24 20:00:00Z", "2026-11-24 20:30:00Z"),
        3: Node(3, "registered", "", ""),
    }
    found = status(consortium, (nodes, None))
    assert {site["site"]: (site["status"], site["last_seen"]) for site in found["sites"]} == {
        "st-anna": ("online", "now"),
        "mercy": ("offline", "2026-11-24 20:30:00Z"),
        "charite": ("registered", "never"),
    }
    assert found["run"] is None
    text = status_text(found)
    assert "last seen" in text and text.endswith("no run was submitted yet")
    # In one form, whatever form Flower and the roster keep moments in.
    assert "2026-11-24 20:30:00 UTC" in text and "2026-11-24 20:00:00 UTC" in text
    assert "+00:00" not in text and "00Z" not in text


def test_watching_without_a_terminal_says_each_change_once(make_world, consortium):
    world = make_world(2, rounds=2)
    submission = submitted(world, consortium)
    found = [status(consortium, ({}, None))]

    class Each(Watcher):
        def line(self, line):
            found.append(status(consortium, ({}, None)))

    world.federate(watch=Each())
    found.append(status(consortium, ({}, None)))

    def until_interrupted():
        yield from found
        raise KeyboardInterrupt

    out = io.StringIO()
    watch(until_interrupted(), console=Console(file=out, width=80))
    said = [line.partition(" UTC ")[2] for line in out.getvalue().splitlines() if line[:4].isdigit()]
    rounds = [line for line in said if line.startswith("round ") and "answered" in line]
    assert rounds == [f"round {r}: site-{s} answered: train loss 0.5000" for r in (1, 2) for s in (1, 2)]
    closed = [line.partition(", ")[0] for line in said if line.endswith(" s")]
    assert closed == ["round 1: train loss 0.5000", "round 2: train loss 0.5000"]
    assert said.count(f"run {submission.folder(consortium).name}: finished") == 1
    assert "test: loss 0.2500, accuracy 0.8000" in said
    validated = [line for line in said if ": validation " in line]
    assert validated == [
        "round 1: validation loss 0.5000, accuracy 0.8000",
        "round 2: validation loss 0.3333, accuracy 0.8000",
    ]
    assert not list(changes(found[-1], found[-1]))


def test_watching_as_json_gives_a_line_for_each_look_that_differs(consortium):
    same, other = status(consortium, ({}, None)), status(consortium, ({}, "no answer"))
    out = io.StringIO()
    watch(iter([same, same, other, other, same]), as_json=True, console=Console(file=out))
    assert [json.loads(line)["server"]["trouble"] for line in out.getvalue().splitlines()] == [None, "no answer", None]


def test_a_terminal_is_drawn_anew_and_obeys_no_ones_markup(make_world, consortium):
    world = make_world(2, rounds=1)
    submitted(world, consortium)
    world.federate()
    found = status(consortium, ({}, "[red]not a colour[/red]"))
    out = io.StringIO()
    watch(iter([found]), console=Console(file=out, force_terminal=True, width=100, height=40))
    assert "[red]not a colour[/red]" in out.getvalue() and "site-2" in out.getvalue()


def test_a_long_sentence_on_a_drawn_screen_is_parted_and_not_cut(consortium):
    long = (
        "Flower's SuperLink did not answer in time, which may be because it starts: look into superlink.log, and wait"
    )
    out = io.StringIO()
    found = status(consortium, ({}, long))
    watch(iter([found]), console=Console(file=out, force_terminal=True, width=60, height=40))
    drawn = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).split())
    assert long in drawn
    assert "…" not in drawn


def test_flower_is_asked_beside_the_looks_and_its_failure_is_told(consortium):
    asked = []

    def ask(of: Consortium) -> Any:
        asked.append(of)
        raise IntegrityError("Flower said no")

    found = looks(consortium, ask=ask, seconds=0.05)
    troubles = [next(found)["server"]["trouble"] for _ in range(5)]
    found.close()
    assert troubles[-1] == "Flower said no" and asked == [consortium]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (7320, "2 h 02 min")]
)
def test_spans(seconds, text):
    assert span(seconds) == text
