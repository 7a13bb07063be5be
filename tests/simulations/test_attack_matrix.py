"""The table of schemes and attacks: what is read, what is run, and what the page says and does not say."""

from __future__ import annotations

import colorsys
import csv
import dataclasses
import io
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import at_once
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from crypto.cipher import SCHEMES
from medveil.claims import claimed
from medveil.errors import ConfigError, StorageError
from medveil.tied import tied
from simulations.attacks.matrix import page, picture, run, words
from simulations.attacks.matrix.export import as_csv, as_markdown
from simulations.attacks.matrix.run import Job, Record, check_settings, merged, missing, read_record
from simulations.attacks.matrix.table import Table, read_table
from simulations.attacks.matrix.targets import Column, column_of, columns_of, in_order
from simulations.attacks.registry import ATTACKS
from simulations.attacks.study.result import Measured, Result, read_result, verdict_of
from simulations.cli import main

STYLE = "".join(Path(page.page.__file__).with_name(each).read_text() for each in ("states.css", "matrix.css"))


def result(
    attack: str = "jigsaw",
    scheme: str = "block-pixel",
    *,
    target: float | None = 0.9,
    chance: float = 0.1,
    control: float = 1.0,
    reason: str | None = None,
    keys: int = 10,
) -> Result:
    """A result with figures as told, under the name of a real attack."""
    listed = ATTACKS[attack]()
    bounds = {"target": None if target is None else [target - 0.01, target + 0.01], "chance": [chance, chance]}
    bounds["control"] = [control, control]
    measured = Measured(
        target=target,
        control=control,
        chance=chance,
        wrong_key=None,
        ci95=bounds,
        unit="share",
        direction="higher",
        chance_rule="",
        text="what is <recovered>",
        values={},
    )
    metrics = {} if reason else {listed.main: measured}
    return Result(
        attack=attack,
        kind=listed.kind,
        text=listed.text,
        knowledge=sorted(map(str, listed.knowledge)),
        papers=[],
        applicable=reason is None,
        reason=reason,
        verdict=verdict_of(kind=listed.kind, reason=reason, main=metrics.get(listed.main), margin=listed.margin),
        target={"scheme": scheme, "block": 8, "negate": False, "channels": 1, "height": 32, "width": 32, "bits": 8},
        control="none",
        data={"path": "/data/some-images", "grouped": True, "attacked_pool": 50, "public_pool": 50},
        n=1000,
        images_per_key=100,
        keys=keys,
        seeds=list(range(keys)),
        main=listed.main,
        margin=listed.margin,
        metrics=metrics,
        reasons={"wrong_key": "there is none"},
        notes=["A note."],
        seconds=12.0,
        environment={"medveil": "0.1.0"},
    )


def held(attack: str) -> Result:
    """A result of an attack that was allowed too few images to be scored."""
    made = result(attack, scheme="aes-ctr", reason="needs 2 images under each key, and may have 1")
    return dataclasses.replace(made, data={**made.data, "images_wanted": 2})


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A folder with one cell of every state."""
    for label, each in (
        ("none", result(scheme="none", target=1.0)),
        ("block-pixel", result()),
        ("block-pixel", result("known-plaintext", target=0.97)),
        ("block-pixel", result("view-linkage", target=0.12)),
        ("block-pixel", result("leading-bit", reason="it undoes <negation>")),
        ("block-pixel", result("statistics")),
        ("aes-ctr", result(scheme="aes-ctr", target=None)),
        ("aes-ctr", result("known-plaintext", scheme="aes-ctr", target=0.1)),
        ("aes-ctr", result("covariance", scheme="aes-ctr", target=0.1, control=0.1)),
        ("aes-ctr", held("histogram-linkage")),
    ):
        (tmp_path / label).mkdir(exist_ok=True)
        each.write(tmp_path / label)
    return tmp_path


def table_of(folder: Path) -> Table:
    return read_table(folder, failures={"aes-ctr": {"utility-leak": "no memory <left>"}})


def states(table: Table) -> dict[tuple[str, str], str]:
    return {(cell.scheme, row.attack): cell.state for row in table.rows for cell in row.cells}


# -- columns ---------------------------------------------------------------------------------------------------------


def test_every_scheme_has_a_column_the_unprotected_first() -> None:
    labels = [each.label for each in columns_of(None)]
    assert labels[0] == "none"
    assert labels[-1] == "aes-ctr"
    assert set(labels) == {*SCHEMES, "block-pixel+negate"}
    assert in_order({"aes-ctr", "elsewhere", "block-pixel+negate", "none"})[0] == "none"
    assert in_order({"aes-ctr", "elsewhere", "none"})[-1] == "elsewhere"


def test_columns_are_named_as_folders() -> None:
    made = columns_of("aes-ctr, block-pixel+negate")
    assert made == [Column("aes-ctr"), Column("block-pixel", negate=True)]
    assert column_of("block-pixel+negate").label == "block-pixel+negate"
    with pytest.raises(ConfigError, match="'blok-pixel' is no cipher"):
        columns_of("blok-pixel")
    with pytest.raises(ConfigError, match="twice"):
        columns_of("none,none")


# -- reading ---------------------------------------------------------------------------------------------------------


def test_every_state_is_told_apart(filled: Path) -> None:
    table = table_of(filled)
    found = states(table)
    assert table.columns == ("none", "block-pixel", "aes-ctr")
    assert found["block-pixel", "jigsaw"] == "succeeds"
    assert found["block-pixel", "view-linkage"] == "above chance"
    assert found["block-pixel", "leading-bit"] == "not applicable"
    assert found["block-pixel", "statistics"] == "diagnostic"
    assert found["block-pixel", "gan"] == "not measured"
    assert found["aes-ctr", "known-plaintext"] == "at chance"
    assert found["aes-ctr", "covariance"] == "broken attack"
    assert found["aes-ctr", "utility-leak"] == "failed"
    assert found["aes-ctr", "histogram-linkage"] == "needs more images"
    # Its main figure is not defined where there is no order of blocks: that is not to be at chance.
    assert found["aes-ctr", "jigsaw"] == "not scored"
    assert set(found.values()) == set(words.STATES)


def test_rows_are_ordered_by_what_the_attacker_has(filled: Path) -> None:
    order = [row.attack for row in table_of(filled).attacks]
    assert set(order) >= {name for name, attack in ATTACKS.items() if attack.kind == "attack"}
    for less, more in (("jigsaw", "gan"), ("gan", "known-plaintext"), ("known-plaintext", "chosen-plaintext")):
        assert order.index(less) < order.index(more)


def test_a_file_that_cannot_be_read_is_told_and_counts_as_missing(filled: Path) -> None:
    path = filled / "block-pixel" / "jigsaw.json"
    path.write_text(path.read_text()[:-20])
    table = table_of(filled)
    assert states(table)["block-pixel", "jigsaw"] == "not measured"
    assert len(table.problems) == 1
    assert "jigsaw.json" in table.problems[0]
    jobs = missing(filled, [Column("block-pixel")], ["jigsaw", "known-plaintext"])
    assert [(each.column.label, each.attacks) for each in jobs] == [("block-pixel", ("jigsaw",))]


def test_an_attack_this_medveil_does_not_know_has_its_row(filled: Path) -> None:
    path = filled / "none" / "jigsaw.json"
    document = {**json.loads(path.read_text()), "attack": "newer"}
    (filled / "none" / "newer.json").write_text(json.dumps(document))
    assert "newer" in [row.attack for row in table_of(filled).rows]


# -- words -----------------------------------------------------------------------------------------------------------


def test_the_sentence_about_a_scheme_follows_from_its_cells(filled: Path) -> None:
    table = table_of(filled)
    said = words.verdict(table, "block-pixel")
    assert said.startswith(
        "2 of 3 attacks that apply succeeded. Enough to open images: ciphertexts alone (jigsaw); "
        "to tell something of them: no attack here succeeded."
    )
    said = words.verdict(table, "aes-ctr")
    assert said.startswith("None of 1 attacks that apply succeeded. That is no proof of anything.")
    untried = sum(
        cell.state in {"not measured", "failed", "needs more images"}
        for row in table.attacks
        for cell in row.cells[2:3]
    )
    assert said.endswith(f"Not measured: {untried}.")


def test_to_tell_who_is_who_is_not_to_open_images(tmp_path: Path) -> None:
    (tmp_path / "per-block").mkdir()
    for each in (result("view-linkage", scheme="per-block"), result("known-plaintext", scheme="per-block")):
        each.write(tmp_path / "per-block")
    table = read_table(tmp_path)
    assert words.least(table, "per-block", "images")[0] == "ciphertexts and a few images, plain and hidden"
    assert words.least(table, "per-block", "facts")[0] == "ciphertexts alone"
    assert {attack.recovers for attack in ATTACKS.values()} == set(words.RECOVERS)


def test_no_success_is_told_as_a_proof(tmp_path: Path) -> None:
    (tmp_path / "aes-ctr").mkdir()
    result(reason="no", scheme="aes-ctr").write(tmp_path / "aes-ctr")
    assert words.verdict(read_table(tmp_path), "aes-ctr").startswith("No attack that applies was measured.")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (1e-9, "<0.001"),
        (-1e-9, "−<0.001"),
        (0.97149, "0.971"),
        (-0.5, "−0.500"),
        (33.46, "33.5"),
        (698400.0, "698\u202f400"),
    ],
)
def test_figures_are_never_rounded_to_nothing(value: float | None, text: str) -> None:
    assert words.number(value) == text


def test_what_an_attacker_has_is_said_in_words() -> None:
    assert words.holds(["ciphertexts"]) == "ciphertexts alone"
    assert words.holds(["ciphertexts", "known pairs"]) == "ciphertexts and a few images, plain and hidden"
    assert words.holds(["key"]) == "the key"
    three = words.holds(["ciphertexts", "auxiliary public images", "chosen plaintexts"])
    assert three == "ciphertexts, public images of the kind and hidden images of the attacker's own choice"


def test_few_keys_are_a_trial(filled: Path) -> None:
    assert words.trial(table_of(filled)) == ""
    result(keys=3).write(filled / "block-pixel")
    assert words.trial(table_of(filled)).startswith("1 of 8 results is a trial: a finding")
    result("covariance", keys=3).write(filled / "block-pixel")
    assert words.trial(table_of(filled)).startswith("2 of 9 results are trials: a finding")


def test_what_is_true_of_all_is_not_counted(tmp_path: Path) -> None:
    (tmp_path / "block-pixel").mkdir()
    result(keys=3).write(tmp_path / "block-pixel")
    assert words.trial(read_table(tmp_path)).startswith("Every result here is a trial: a finding")


# -- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the picture beside a page, which takes longer than the page and which two tests look at."""
    if "e2e" not in request.keywords:
        monkeypatch.setattr(page, "draw", lambda table, path: path.write_bytes(b"a picture"))


@pytest.fixture
def written(filled: Path) -> str:
    Image.new("RGB", (1290, 800), "grey").save(filled / "block-pixel" / "jigsaw.png")
    path = filled / "block-pixel" / "jigsaw.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "figure": "jigsaw.png"}))
    made = page.write_page(filled, table_of(filled))
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    return made.read_text()


def test_the_page_is_self_contained_and_its_links_lead_somewhere(written: str, filled: Path) -> None:
    assert re.findall(r"""src=["'](?!data:)""", written) == []
    # A link is followed by a click alone, and only to a file beside the page.
    assert re.findall(r"""href=["'](?!#|\./[\w./%-]+["'])""", written) == []
    assert "url(http" not in written
    assert "data:image/webp;base64," in written
    targets = set(re.findall(r'href="#([^"]+)"', written))
    assert targets <= set(re.findall(r'id="([^"]+)"', written))
    tried = {row.attack for row in table_of(filled).rows if row.tried}
    assert tried <= targets
    assert not ({*ATTACKS} - tried) & targets


def test_what_nobody_tried_has_a_row_and_no_empty_section(written: str, filled: Path) -> None:
    tried = {row.attack for row in table_of(filled).rows if row.tried}
    assert {"jigsaw", "leading-bit", "utility-leak", "histogram-linkage"} < tried < {*ATTACKS}
    assert set(re.findall(r'<h3 id="([^"]+)">', written)) == tried
    (told,) = re.findall(r"Not measured on any scheme here: ([^<]*)\.</p>", written)
    assert set(told.split(", ")) == {*ATTACKS} - tried
    attacks = [row for row in table_of(filled).attacks if row.tried]
    assert f"{len(attacks)} of {len(table_of(filled).attacks)} attacks on 3 schemes" in written
    # Nothing of a diagnostic, no table of them.
    (filled / "block-pixel" / "statistics.json").unlink()
    assert "Measurements that recover nothing" in written
    assert "Measurements that recover nothing" not in page.write_page(filled, table_of(filled)).read_text()


def test_a_column_that_is_not_there_is_not_explained(written: str, filled: Path) -> None:
    assert "The column <b>none</b> is not hidden" in written
    (filled / "none" / "jigsaw.json").unlink()
    (filled / "none").rmdir()
    assert "none" not in table_of(filled).columns
    assert "The column <b>none</b>" not in page.write_page(filled, table_of(filled)).read_text()


def test_the_page_shows_each_cell_with_interval_and_chance(written: str) -> None:
    cells = re.findall(r'<td class="cell (\w+)">(.*?)</td>', written, flags=re.DOTALL)
    assert len(cells) == 3 * sum(attack().kind == "attack" for attack in ATTACKS.values())
    won = next(text for name, text in cells if name == "succeeds" and "0.900" in text)
    assert "[0.890, 0.910]" in won
    assert "chance 0.100" in won
    assert "recovered" in won
    # What nobody measured has no figure.
    for name, text in cells:
        if name in {"unmeasured", "inapplicable"}:
            assert "figure" not in text
    rows = re.findall(r'<tr class="least">.*?</tr>', written, flags=re.DOTALL)
    assert [re.findall(r"<td>(.*?)</td>", row) for row in rows] == [
        ["nothing: not hidden", "ciphertexts alone", "no attack here succeeded"],
        ["nothing: not hidden", "no attack here succeeded", "no attack here succeeded"],
    ]
    assert "it undoes &lt;negation&gt;" in written
    assert "no memory &lt;left&gt;" in written
    assert "what is &lt;recovered&gt;" in written


def test_nothing_is_ever_called_secure(written: str) -> None:
    visible = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", written, flags=re.DOTALL))
    assert re.findall(r"\b(?:secure|safe|resistant|unbreakable)\b", visible, flags=re.IGNORECASE) == []
    assert "Another attack may do better" in visible


def test_no_state_is_green_and_what_is_not_shown_is_hatched() -> None:
    for colour in re.findall(r"#[0-9a-f]{6}\b", STYLE):
        assert not _is_green(colour), colour
    for name, (fill, ink, hatch) in picture._LOOK.items():
        assert not _is_green(fill)
        assert not _is_green(ink)
        shows_nothing = name in {"inapplicable", "unmeasured", "unscored", "broken"}
        assert bool(hatch) == shows_nothing
        if name != "diagnostic":
            rule = re.search(rf"^\.{name} {{([^}}]*)}}", STYLE, flags=re.MULTILINE)
            assert rule is not None
            assert ("repeating-linear-gradient" in rule[1]) == shows_nothing


def _is_green(colour: str) -> bool:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    hue, _, saturation = colorsys.rgb_to_hls(red, green, blue)
    return saturation > 0.12 and 70 / 360 < hue < 175 / 360


@pytest.mark.usefixtures("drawn")
def test_the_picture_is_drawn(filled: Path) -> None:
    path = filled / "again.png"
    picture.draw(table_of(filled), path)
    with Image.open(path) as opened:
        assert opened.size[0] > 1000
        assert opened.size[1] > 1000


def test_the_csv_has_every_metric_and_every_empty_cell(filled: Path) -> None:
    table = table_of(filled)
    lines = list(csv.DictReader(io.StringIO(as_csv(table))))
    assert len(lines) == sum(max(1, len(c.result.metrics) if c.result else 1) for row in table.rows for c in row.cells)
    won = next(line for line in lines if (line["scheme"], line["attack"]) == ("block-pixel", "jigsaw"))
    assert (won["state"], won["target"], won["target_low"], won["chance"]) == ("succeeds", "0.9", "0.89", "0.1")
    assert won["wrong_key"] == won["wrong_key_low"] == ""
    failed = next(line for line in lines if line["state"] == "failed")
    assert failed["reason"] == "no memory <left>"


def test_the_markdown_has_a_line_for_each_attack(filled: Path) -> None:
    lines = as_markdown(table_of(filled)).splitlines()
    assert lines[0] == "| attack | the attacker has | none | block-pixel | aes-ctr |"
    assert len({line.count("|") for line in lines}) == 1
    told = next(line for line in lines if line.startswith("| jigsaw "))
    assert "recovered: 0.900 [0.890, 0.910] chance 0.100" in told
    assert "not scored" in told


def test_a_page_of_one_key_has_no_interval_and_says_so(tmp_path: Path) -> None:
    one = result(keys=1)
    one.metrics[one.main].ci95.update(target=None, chance=None, control=None)
    (tmp_path / "block-pixel").mkdir()
    one.write(tmp_path / "block-pixel")
    assert "one key: no interval" in page.write_page(tmp_path, read_table(tmp_path)).read_text()


@pytest.mark.parametrize("bounds", [None, [0.9, 0.9]], ids=["now", "older"])
def test_a_page_of_keys_that_score_alike_says_why_it_has_no_interval(tmp_path: Path, bounds: list[float]) -> None:
    alike = result(keys=10)
    alike.metrics[alike.main].ci95.update(target=bounds)
    alike.metrics[alike.main].values.update(target=[0.9] * 10)
    (tmp_path / "block-pixel").mkdir()
    alike.write(tmp_path / "block-pixel")
    assert "10 keys score alike: no interval" in page.write_page(tmp_path, read_table(tmp_path)).read_text()


# -- running ---------------------------------------------------------------------------------------------------------


def _saying(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(Job, "command", lambda self, folder, options: [sys.executable, "-c", script])


def test_what_fails_is_kept_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; print('jigsaw: succeeds, 1 s\\nfailed: gan: no memory: at all', file=sys.stderr); sys.exit(6)"
    _saying(monkeypatch, script)
    said: list[str] = []
    jobs = [Job(Column("none"), ("jigsaw", "gan")), Job(Column("aes-ctr"), ("jigsaw", "gan"))]
    failures = run.run(tmp_path, jobs, [], beside=2, said=said.append)
    assert failures == {label: {"gan": "no memory: at all"} for label in ("none", "aes-ctr")}
    assert "none: jigsaw: succeeds, 1 s" in said


def test_a_process_that_ends_in_error_fails_what_it_had_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _saying(monkeypatch, "import sys; print('error: no such folder', file=sys.stderr); sys.exit(2)")
    failures = run.run(tmp_path, [Job(Column("none"), ("jigsaw", "gan"))], [], beside=1, said=lambda line: None)
    assert failures == {"none": {"jigsaw": "no such folder", "gan": "no such folder"}}


def test_an_interrupt_ends_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _saying(monkeypatch, "import sys, time; print('begun', file=sys.stderr, flush=True); time.sleep(120)")
    begun: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def noted(*arguments: Any, **options: Any) -> Any:
        begun.append(popen(*arguments, **options))
        return begun[-1]

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", noted)
    with pytest.raises(KeyboardInterrupt):
        run.run(tmp_path, [Job(Column("none"), ("gan",))] * 2, [], beside=2, said=interrupted)
    assert [each.wait(timeout=20) != 0 for each in begun] == [True] * len(begun)


def test_failures_of_what_was_not_tried_again_stay() -> None:
    record = Record({}, ("none",), {"none": {"gan": "old", "jigsaw": "old"}, "aes-ctr": {"gan": "old"}})
    jobs = [Job(Column("none"), ("gan", "jigsaw"))]
    assert merged(record, jobs, {"none": {"gan": "new"}}) == {"none": {"gan": "new"}, "aes-ctr": {"gan": "old"}}
    assert merged(None, [], {}) == {}


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    assert check_settings(tmp_path, {"keys": 10}) is None
    Record({"keys": 10, "block": 16}, ("none",), {}).write(tmp_path)
    assert read_record(tmp_path) == check_settings(tmp_path, {"keys": 10, "block": 16})
    with pytest.raises(ConfigError, match="measured with keys 10, not 3"):
        check_settings(tmp_path, {"keys": 3, "block": 16})


def _process_or_at_once(command: Sequence[str], **how: Any) -> Any:
    return (tied if "aes-ctr" in command else at_once.tied)(command, **how)


@pytest.mark.e2e
@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["at once", "a process"])
def test_the_command_measures_what_is_missing_and_keeps_the_rest(
    smooth_npz: Callable[..., Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    *,
    real: bool,
) -> None:
    out = tmp_path / "matrix"
    line = ["attack-matrix", "--images", str(smooth_npz()), "--out", str(out), "--block", "8", "--keys", "2"]
    line += ["--images-per-key", "3", "--attacks", "chosen-plaintext,statistics", "--jobs", "2"]
    gone = out / "none" / "statistics.json"
    with pytest.MonkeyPatch.context() as patch:
        # The next time one is a process, and there is a page.
        patch.setattr(run, "tied", at_once.tied)
        patch.setattr("simulations.attacks.matrix.page.write_page", lambda folder, table: folder)
        assert main([*line, "--schemes", "none,block-pixel+negate"]) == 0
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}
    assert len(before) == 4
    made = read_result(out / "block-pixel+negate" / "chosen-plaintext.json")
    assert (made.target["negate"], made.target["height"], made.keys, made.verdict) == (True, 32, 2, "succeeds")
    gone.unlink()
    capfd.readouterr()
    blank = Figure.savefig
    request.getfixturevalue("drawn")
    monkeypatch.setattr(run, "tied", _process_or_at_once if real else at_once.tied)
    assert main([*line, "--schemes", "none,block-pixel+negate,aes-ctr"]) == 0
    monkeypatch.setattr(Figure, "savefig", blank)
    said = capfd.readouterr()
    assert "3 results kept" in said.err
    assert f"page: {out / 'matrix.html'}" in said.out
    for name in ("matrix.html", "matrix.csv", "matrix.md", "matrix.png", "matrix.json"):
        assert (out / name).stat().st_size > 100
    after = {path: path.stat().st_mtime_ns for path in out.glob("*/*.json")}
    assert len(after) == 6
    assert {path for path in before if after[path] == before[path]} == before.keys() - {gone}
    # The page can be made anew of what is there, and other settings do not mix with it.
    (out / "matrix.html").unlink()
    assert main(["attack-matrix", "--out", str(out)]) == 0
    assert "aes-ctr" in (out / "matrix.html").read_text()
    assert main([*line, "--seed", "5"]) == 2
    assert "was measured with seed 0, not 5" in capfd.readouterr().err


def _npz(path: Path, **changed: Any) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 16, 16), dtype=np.uint8)
    np.savez(path, **{"images": images, "labels": np.arange(24) % 2, "who": np.arange(24) // 2, **changed})


@pytest.mark.parametrize("which", ["images", "public images"])
def test_results_over_other_images_are_not_kept(
    which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def written(folder: Path, jobs: list[Job], *_: Any, **__: Any) -> dict[str, dict[str, str]]:
        (folder / "none").mkdir(exist_ok=True)
        for name in (name for job in jobs for name in job.attacks):
            result(name, scheme="none").write(folder / "none")
        return {}

    monkeypatch.setattr(run, "run", written)
    monkeypatch.setattr("simulations.attacks.matrix.page.write_page", lambda folder, table: folder)
    paths = {each: tmp_path / f"{each}.npz" for each in ("images", "public images")}
    for path in paths.values():
        _npz(path)
    line = ["attack-matrix", "--images", str(paths["images"]), "--public", str(paths["public images"])]
    line += ["--block", "4", "--schemes", "none", "--attacks", "jigsaw", "--out", str(tmp_path / "out")]
    line += ["--set", "data.group_by=who"]
    assert main(line) == 0
    assert main(line) == 0
    assert "1 results kept" in capsys.readouterr().err
    changes = {
        "labels": {"labels": np.arange(24) // 2 % 2},
        "groups": {"who": np.arange(24) // 3},
        "images": {"images": np.zeros((24, 16, 16), dtype=np.uint8)},
    }
    # The public images are in groups of no name.
    for part in ("labels", "images", *(["groups"] if which == "images" else [])):
        _npz(paths[which], **changes[part])
        assert main(line) == 3
        said = capsys.readouterr().err
        assert f"the {part} changed since its results were measured" in said
        assert ("(of the public images)" in said) == (which != "images")
        _npz(paths[which])
    assert main(line) == 0
    # An older MedVeil wrote down nothing of what it measured on.
    record = json.loads((tmp_path / "out" / "matrix.json").read_text())
    del record["basis"]
    (tmp_path / "out" / "matrix.json").write_text(json.dumps(record))
    _npz(paths[which], **changes["labels"])
    assert main(line) == 0
    assert "cannot be compared" in capsys.readouterr().err
    # Nor is it taken for measured on what lay there then.
    _npz(paths[which])
    assert main(line) == 0
    assert "cannot be compared" in capsys.readouterr().err
    (tmp_path / "out" / "matrix.json").unlink()
    assert main(line) == 0
    assert "cannot be compared" in capsys.readouterr().err


def test_two_processes_do_not_measure_into_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _npz(tmp_path / "images.npz")
    line = ["attack-matrix", "--images", str(tmp_path / "images.npz"), "--block", "4", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(run, "run", lambda *_, **__: pytest.fail("it measures beside the other"))
    with claimed(tmp_path / "out" / ".matrix", seconds=0, cure=""):
        assert main(line) == StorageError.exit_code
    assert f"is in use by another process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["--out", "O"], "holds no results"),
        (["--out", "O", "--images", "absent"], "no such folder"),
        (["--out", "O", "--images", "NPZ", "--schemes", "blok-pixel"], "did you mean block-pixel"),
        (["--out", "O", "--images", "NPZ", "--attacks", "jigsw"], "did you mean jigsaw"),
        (["--out", "O", "--images", "NPZ", "--jobs", "0"], "at least 1"),
        (["--images", "NPZ"], "--out"),
    ],
)
def test_bad_input_is_one_line(
    line: list[str], said: str, in_tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(in_tmp_path) if each == "NPZ" else each for each in line]
    assert main(["attack-matrix", *given]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert said in error


@pytest.fixture
def in_tmp_path(tmp_path: Path, smooth_npz: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder; gives an npz that can be read."""
    monkeypatch.chdir(tmp_path)
    return smooth_npz()
