from __future__ import annotations

import io
import json
import time
from pathlib import Path

from rich.console import Console

from medveil.files import write_bytes
from simulations.left_out import LeftOut, as_text, left_out, read_left_out
from simulations.progress import RunProgress


def line(round_: int, site: str, phase: str = "train", auroc: float | None = None) -> str:
    document = {"round": round_, "site": site, "phase": phase, "loss": 0.5, "accuracy": None, "auroc": auroc}
    return json.dumps(document) + "\n"


def followed(folder: Path, text: io.StringIO, *, terminal: bool = False) -> RunProgress:
    console = Console(file=text, force_terminal=terminal, width=200, highlight=False)
    return RunProgress(folder, rounds=2, sites=2, console=console)


def test_off_a_terminal_every_round_is_one_plain_line(tmp_path: Path) -> None:
    text = io.StringIO()
    with followed(tmp_path, text), (tmp_path / "metrics.jsonl").open("w") as metrics:
        metrics.write(line(1, "site-1") + line(1, "all") + line(1, "all", "validation", 0.75) + line(2, "all")[:20])
        metrics.flush()
        time.sleep(0.4)
        metrics.write(line(2, "all")[20:])
    assert text.getvalue().splitlines() == [
        "round 1/2  all      train      loss 0.500  acc   -  ",
        "round 1/2  all      validation loss 0.500  acc   -    auroc 0.750",
        "round 2/2  all      train      loss 0.500  acc   -  ",
    ]


def test_metrics_cut_back_by_a_resume_are_read_anew(tmp_path: Path) -> None:
    text = io.StringIO()
    progress = followed(tmp_path, text)
    (tmp_path / "metrics.jsonl").write_text(line(1, "all") + line(2, "site-1"))
    progress._read()
    # As long as before, other lines: an offset into the old file would land within a line of the new.
    write_bytes(tmp_path / "metrics.jsonl", (line(1, "all") + line(1, "all", "validation") + line(2, "all")).encode())
    progress._read()
    shown = [each.split()[1:4:2] for each in text.getvalue().splitlines()]
    assert shown == [["1/2", "train"], ["1/2", "validation"], ["2/2", "train"]]


def test_on_a_terminal_the_site_at_work_is_shown(tmp_path: Path) -> None:
    text = io.StringIO()
    (tmp_path / "metrics.jsonl").write_text(line(1, "site-1"))
    with followed(tmp_path, text, terminal=True):
        time.sleep(0.5)
    assert "site-1" in text.getvalue()
    assert "1/4" in text.getvalue()


def test_a_run_without_metrics_is_followed_in_silence(tmp_path: Path) -> None:
    text = io.StringIO()
    with followed(tmp_path / "nothing", text):
        pass
    assert text.getvalue() == ""


def entry(path: str) -> dict[str, str]:
    return {"path": path, "reason": f"{path} is bad"}


def test_files_left_out_are_told_once(tmp_path: Path) -> None:
    one = {"skipped": [entry("a")], "shared_skipped": [entry("x")]}
    two = {"skipped": [entry("b")], "shared_skipped": [entry("x")]}
    files = left_out({"site-1": one, "site-2": two})
    assert files == [
        LeftOut("data set", "x", "x is bad"),
        LeftOut("site-1", "a", "a is bad"),
        LeftOut("site-2", "b", "b is bad"),
    ]
    assert as_text(files[:1]) == "1 file was left out: data set: x (x is bad)"
    assert as_text([LeftOut("s", "a\nb\x1b[2J", "cut\n")]).isprintable()
    many = as_text([LeftOut("s", str(i), "cut") for i in range(7)])
    assert many == "7 files were left out: s: 0, s: 1, s: 2 and 4 more (cut), see the report"
    other = as_text([LeftOut("s", str(i), f"cut {i}") for i in range(9999)])
    assert other.endswith("s: 4 (cut 4); 9994 more for other reasons, see the report")
    assert left_out({"odd": {"skipped": "no list"}, "other": {"skipped": [3]}}) == []
    for site, document in (("site-1", json.dumps(one)), ("site-2", "{torn")):
        (tmp_path / "sites" / site).mkdir(parents=True)
        (tmp_path / "sites" / site / "site.json").write_text(document)
    assert [each.site for each in read_left_out(tmp_path)] == ["data set", "site-1"]
