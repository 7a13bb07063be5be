"""What a person sees on a terminal while something goes on: whole words, one line, nothing left behind."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from crypto.tree.progress import TreeProgress
from crypto.tree.report import Summary
from fl_server.watch import LogWatcher
from medveil import plain
from medveil.errors import ConfigError
from medveil.log import logger, set_up_logging
from simulations.attacks.asked import _measure_all
from simulations.progress import Pace, RunProgress, RunsProgress, fitted, live_bar

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def line(round_: int, site: str, phase: str = "train") -> str:
    return (
        json.dumps({"round": round_, "site": site, "phase": phase, "loss": 0.5, "accuracy": None, "auroc": 0.5}) + "\n"
    )


def console(text: io.StringIO, width: int) -> Console:
    return Console(file=text, force_terminal=True, width=width, highlight=False)


def test_time_left_counts_what_was_seen_to_be_made() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.left(4) == ""
    clock.now = 30
    pace.step()
    assert pace.left(4) == "left 2:00"
    clock.now = 40
    assert pace.left(4) == "left 1:50"
    clock.now = 4000
    assert pace.left(4) == "left 1:30"
    assert pace.left(1) == ""
    pace.step()
    assert pace.left(4) == "left 2:13:20"


def test_time_left_after_a_resume_is_no_faster_than_the_run() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(100):
        pace.step(new=False)
    assert pace.left(10) == ""
    clock.now = 20
    pace.step()
    assert pace.left(9) == "left 3:00"


def test_a_tree_gone_on_with_is_no_faster_than_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("crypto.tree.progress.time.monotonic", clock)
    progress = TreeProgress(tmp_path, Summary(), console=console(io.StringIO(), 120))
    progress._counter.whole, progress._counter.files, progress._counter.size = True, 100, 1000
    for _ in range(90):
        progress.passed(10, worked=False)
    clock.now = 2.0
    progress.show()
    assert progress._bar.tasks[0].fields["left"] == ""
    progress.passed(10)
    clock.now = 20.0
    progress.show()
    assert progress._bar.tasks[0].fields["left"] == "3:00 left"


def test_a_resumed_run_takes_the_lines_of_before_as_done_and_not_as_fast(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(line(round_, f"site-{n}") for round_ in range(1, 9) for n in (1, 2)))
    progress = RunProgress(tmp_path, rounds=10, sites=2, console=console(io.StringIO(), 90))
    progress._pace = Pace(clock := Clock())
    progress._look()
    (task,) = progress._bar.tasks
    assert (task.completed, task.total, task.fields["left"]) == (16, 20, "")
    clock.now = 12
    with metrics.open("a") as stream:
        stream.write(line(9, "site-1"))
    progress._look()
    (task,) = progress._bar.tasks
    assert (task.completed, task.fields["left"]) == (17, "left 0:36")


def test_what_is_trained_again_after_a_resume_counts_once(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    kept = "".join(line(round_, site) for round_ in (1, 2) for site in ("site-1", "site-2"))
    metrics.write_text(kept + line(3, "site-1"))
    progress = RunProgress(tmp_path, rounds=4, sites=2, console=console(io.StringIO(), 90))
    progress._look()
    assert progress._bar.tasks[0].completed == 5
    (tmp_path / "new").write_text(kept)
    (tmp_path / "new").replace(metrics)
    progress._look()
    assert progress._bar.tasks[0].completed == 4
    again = {**json.loads(line(3, "site-1")), "seconds": 2.0}
    with metrics.open("a") as stream:
        stream.write(json.dumps(again) + "\n" + line(3, "site-2"))
    progress._look()
    assert progress._bar.tasks[0].completed == 6


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_a_table_loses_no_word_at_the_edge(width: int) -> None:
    table = Table("site", "images per class", "key", title="Sites and what they hold")
    table.add_row("st-anna", "glioma 104, no_tumor 91, pituitary 25", "sim-01234567...")
    text = io.StringIO()
    plain.say_table(console(text, width), table)
    lines = CONTROL.sub("", text.getvalue()).splitlines()
    assert all(len(each) <= width for each in lines)
    words = set(" ".join(lines).replace("\u2502", " ").replace(";", " ").split())
    assert {"Sites", "st-anna", "images", "class", "glioma", "no_tumor", "pituitary", "25", "sim-01234567..."} <= words


def test_attacks_show_their_line_on_the_one_console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a warning prints beside it goes through it, and nothing of it stays."""
    text = io.StringIO()
    monkeypatch.setattr(plain, "stderr_console", lambda: console(text, 80))
    monkeypatch.setattr(plain, "console", lambda **_: pytest.fail("a console of its own"))
    prepared = SimpleNamespace(setting=SimpleNamespace(keys=2), notes=[])

    def measured(attack: object, *_: object, progress: Callable[[], None], **__: object) -> object:
        progress()
        time.sleep(0.3)
        raise ConfigError("is an attack of this test", where=str(attack))

    monkeypatch.setattr("simulations.attacks.study.measure.measure", measured)
    attacks = [SimpleNamespace(name=name, weight=1.0) for name in ("known-plaintext", "jigsaw")]
    assert len(_measure_all(attacks, prepared, [tmp_path], plain.stderr_console())[1]) == 2  # type: ignore[arg-type]
    shown = CONTROL.sub("", text.getvalue())
    assert "known-plaintext, keys" in shown
    assert "1/2 less than a minute left" in shown
    assert not CONTROL.sub("", text.getvalue().rpartition("\x1b[2K")[2]).strip()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_live_line_is_one_line_at_any_width(width: int) -> None:
    text = io.StringIO()
    bar = live_bar(to := console(text, width), most=120)
    bar.add_task("round 12/40  site-3   train      loss 0.693  acc 0.812", total=120, completed=37, left="left 1:02:33")
    to.print(bar.get_renderable())
    (shown,) = CONTROL.sub("", text.getvalue()).splitlines()
    assert len(shown) <= width
    assert "37/120" in shown
    assert "left 1:02:33" in shown


@pytest.mark.parametrize(
    ("text", "room", "left"),
    [
        ("round 6/8  site-1   train      loss 0.693  acc 0.812", 40, "round 6/8  site-1   train"),
        (
            "round 6/8  site-1   train      loss 0.693  acc 0.812",
            60,
            "round 6/8  site-1   train      loss 0.693  acc 0.812",
        ),
        ("plain seed 0 round 2/5, fedper seed 1 round 1/5", 40, "plain seed 0 round 2/5"),
        ("sites prepare their stores", 12, "sites"),
        ("histogram-linkage", 5, "histogram-linkage"),
    ],
)
def test_a_live_line_drops_parts_and_breaks_none(text: str, room: int, left: str) -> None:
    assert fitted(text, room) == left


def test_what_is_told_beside_a_live_line_leaves_no_spinner_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of sites goes through the one console of the process, or half of the line would stay above it."""
    text = io.StringIO()
    plain.stderr_console.cache_clear()
    monkeypatch.setattr(plain, "console", lambda **_: console(text, 80))
    with RunProgress(tmp_path, rounds=2, sites=2) as progress:
        watcher = LogWatcher()
        assert watcher._console is progress._console
        watcher.sites([])
        time.sleep(0.3)
    plain.stderr_console.cache_clear()
    table = text.getvalue()[text.getvalue().index("Sites (0 images") :]
    before = text.getvalue()[: -len(table)]
    # Whatever was live was wiped before the table began.
    assert before.rstrip(" ").endswith(("\x1b[2K", "\x1b[2K\x1b[3m", "\x1b[3m")), before[-80:]
    assert text.getvalue().endswith("\x1b[2K")


def test_a_warning_beside_a_live_line_goes_through_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("warning")
    text = io.StringIO()
    with RunProgress(tmp_path, rounds=2, sites=2, console=console(text, 80)):
        logger("site").warning("built the store anew")
    assert "built the store anew" in text.getvalue()
    assert capsys.readouterr().err == ""
    logger("site").warning("and later where it belongs")
    assert "and later where it belongs" in capsys.readouterr().err


def test_what_the_model_really_is_comes_first(tmp_path: Path) -> None:
    model = {"name": "vit_base_patch16_224", "width": 128, "depth": 4, "heads": 4, "patch": 16, "parameters": 830_000}
    named = {"width": 768, "depth": 12, "heads": 12}
    manifest = {
        "format": "medveil-manifest",
        "version": 1,
        **{"run": "r", "name": "n", "status": "running", "run_config": {"rounds": 1}, "server": {}},
        **{"sites": [], "left_out": [], "resumed": [], "model": {**model, "named": named}},
    }
    text = io.StringIO()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with RunProgress(tmp_path, rounds=1, sites=1, console=Console(file=text, width=200)):
        pass
    assert text.getvalue() == (
        "model: vit_base_patch16_224 with width 128 (timm: 768), depth 4 (timm: 12), 4 heads (timm: 12); patch 16, "
        "0.83 M parameters\n"
    )


def test_a_comparison_shows_which_round_each_run_is_in(tmp_path: Path) -> None:
    text = io.StringIO()
    (tmp_path / "metrics.jsonl").write_text(line(1, "site-1") + line(2, "site-1") + "broken")
    with RunsProgress(3, rounds=5, console=console(text, 80)) as progress:
        progress.kept()
        with progress.running("plain seed 0", tmp_path), progress.running("svm seed 0", tmp_path / "none"):
            time.sleep(0.7)
        assert progress._bar.tasks[0].completed == 3
    shown = CONTROL.sub("", text.getvalue())
    assert "plain seed 0 round 2/5, svm seed 0 " in shown
    assert "1/3" in shown
    assert text.getvalue().endswith("\x1b[2K")


def test_off_a_terminal_a_comparison_shows_no_line(tmp_path: Path) -> None:
    text = io.StringIO()
    with RunsProgress(1, rounds=5, console=Console(file=text)) as progress, progress.running("plain seed 0", tmp_path):
        pass
    assert text.getvalue() == ""


WORDS = (
    "tiny: finished after 3 rounds; accuracy 0.571 [0.286, 0.787]; balanced accuracy 0.500; report /tmp/a-b/c-d.html"
)


@pytest.mark.parametrize("width", [30, 40, 63, 80])
def test_a_told_line_is_parted_between_words(width: int) -> None:
    lines = plain.parted(WORDS, width=width).split("\n")
    assert len(lines) > 1
    assert " ".join(each.strip() for each in lines) == WORDS
    assert all(len(each) <= width for each in lines)


def test_a_word_longer_than_the_terminal_and_a_pipe_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert "/x" * 40 in plain.parted("see " + "/x" * 40, width=30)
    assert plain.parted(WORDS, width=len(WORDS)) == WORDS
    plain.tell(WORDS)
    assert capsys.readouterr().out == WORDS + "\n"


@pytest.mark.parametrize("width", [30, 63])
def test_a_line_beside_a_live_one_is_parted_between_words(width: int) -> None:
    text = io.StringIO()
    plain.say(console(text, width), WORDS)
    lines = text.getvalue().splitlines()
    assert " ".join(each.strip() for each in lines) == WORDS
    plain.say(Console(file=text, width=width), WORDS)
    assert text.getvalue().endswith(WORDS + "\n")


def test_silence_is_filled_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with plain.working("starting"):
        pass
    assert capsys.readouterr().err == ""
    text = io.StringIO()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(plain, "stderr_console", lambda: console(text, 40))
    with plain.working("starting Flower's SuperLink\x1b[2J and waiting for it to answer"):
        time.sleep(0.2)
    shown = CONTROL.sub("", text.getvalue())
    assert "starting Flower's SuperLink\\x1b[2J" in shown
    assert text.getvalue().endswith("\x1b[2K")
