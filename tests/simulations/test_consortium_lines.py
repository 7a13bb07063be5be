"""`medveil-sim consortium`: what it prints can be typed, and says what the tutorial says."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from pages import COORDINATOR as PAGE
from pages import blocks
from PIL import Image

from fl_client.cli import _parser as site_parser
from fl_server.cli import _parser as server_parser
from medveil.errors import DataError, FederationError
from simulations import consortium_command
from simulations.cli import main
from simulations.consortium.images import LABELLED, NEW, Dealt, deal_images
from simulations.consortium.lines import COORDINATOR, ENDING, LINES, Line, parted
from simulations.consortium.rehearsal import Rehearsal
from simulations.consortium.stage import Stage

PARSERS = {"medveil-server": server_parser, "medveil-site": site_parser}
VALUES = {
    **{"fleet": "19443", "control": "19444", "site": "st-anna", "source": "dicom", "images": "/tmp/a b/labelled"},
    **{"new": "/tmp/a b/new", "app": "0" * 64, "digest": "ab", "settings": "'data.classes=[mass, none]' rounds=2"},
}


def step(program: str, words: list[str]) -> tuple[str, ...]:
    """What a command is, without what differs between pages and machines."""
    flags = [word for word in words[1:] if word in {"--hash", "--template"}]
    return (program, words[0], *flags)


@pytest.mark.parametrize("line", [*LINES, *ENDING], ids=lambda line: " ".join(line.text.split()[1:3]))
def test_each_printed_command_is_one_that_the_program_takes(line: Line) -> None:
    program, words, _ = parted(line.typed(**VALUES))
    parsed = vars(PARSERS[program]().parse_args(words))
    assert callable(parsed["command"])
    given = {str(value) for value in parsed.values()}
    for name in ("images", "new", "app", "digest"):
        if f"{{{name}}}" in line.text:
            assert any(VALUES[name] in each for each in given), name


def test_the_coordinators_tutorial_has_the_same_commands_in_the_same_order() -> None:
    (block,) = [each for each in blocks(PAGE) if re.match(r"coordinator +medveil-server init ", each)]
    whole = re.sub(r" *\\\n *", " ", block)
    told = [(who, *step(*_words(line))) for who, line in re.findall(r"^(coordinator|site) +(.*)$", whole, re.MULTILINE)]
    typed = [(line.who, *step(*_words(line.typed(**VALUES)))) for line in LINES]
    assert [each for each in typed if each in told] == told


def _words(line: str) -> tuple[str, list[str]]:
    program, *words = shlex.split(line.partition(" > ")[0])
    return program, words


def test_given_images_are_dealt_once_with_every_class_everywhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("mass", "none"):
        (tmp_path / "given" / label).mkdir(parents=True)
        for number in range(15):
            pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "given" / label / f"{number}.png")
    folders = {name: tmp_path / name for name in ("a", "b", "c")}
    dealt = deal_images(folders, given=[tmp_path / "given"], scratch=tmp_path / "drawn")
    assert (dealt.source, dealt.classes) == ("images", ("mass", "none"))
    files = [path for folder in folders.values() for path in folder.rglob("*.png")]
    assert len({path.read_bytes() for path in files}) == len(files) == 30
    for name, folder in folders.items():
        assert {path.name for path in (folder / LABELLED).iterdir()} == {"mass", "none"}
        assert set(dealt.new[name]) == {path.name for path in (folder / NEW).iterdir()} != set()
    few = {name: tmp_path / "few" / name for name in folders}
    with pytest.raises(DataError, match=r"leaves 8 images to a to train on, and 2 to predict; 9 and 1 or more for"):
        deal_images(few, given=[tmp_path / "given"], scratch=tmp_path, least=9)
    with pytest.raises(DataError, match=r"leaves \d images to \d+ to train on, and 0 to predict"):
        many = {str(n): tmp_path / "many" / str(n) for n in range(40)}
        deal_images(many, given=[tmp_path / "given"], scratch=tmp_path)
    # A folder for each hospital: each has its own images, and no other's.
    own = {name: tmp_path / "own" / name for name in folders}
    given = [
        path.rename(tmp_path / f"of {path.parent.name}") for path in [each / LABELLED for each in folders.values()]
    ]
    dealt = deal_images(own, given=given, scratch=tmp_path)
    for name, theirs in zip(own, given, strict=True):
        files = [path.read_bytes() for path in own[name].rglob("*.png")]
        assert sorted(files) == sorted(path.read_bytes() for path in theirs.rglob("*.png"))
    (given[1] / "none").rename(given[1] / "nothing")
    with pytest.raises(DataError, match=r"of b: has other classes than .*of a; as there, a folder each: mass, none"):
        deal_images(own, given=given, scratch=tmp_path)


def test_settings_that_are_asked_for_take_the_place_of_its_own(tmp_path: Path) -> None:
    made = Rehearsal(tmp_path, 3, settings=["rounds=7", "train.lr=0.01"])
    made._dealt = Dealt("dicom", ("mass", "no tumor"))
    settings = made._run_settings()
    assert [each for each in settings if each.startswith("rounds=")] == ["rounds=7"]
    assert "train.lr=0.01" in settings
    assert shlex.split(settings[0]) == ["data.classes=[mass, no tumor]"]


def test_a_command_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    typed = "medveil-site stop --site nowhere.yaml"
    log = stage.log_for("site-1", typed)
    with pytest.raises(FederationError) as refused:
        stage.type("site-1", typed, log)
    said = str(refused.value)
    assert said.startswith(f"site-1: '{typed}' ended with 2: ")
    assert f"all it said is in {log}" in said
    assert "no such file" in log.read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sites", "2"], "--sites: is 2; 3 to 100"),
        (["--sites", "1000000000"], "--sites: is 1000000000; 3 to 100"),
        (["rounds"], "'rounds' is no setting; KEY=VALUE"),
        (["round=3"], "rounds"),
        (["rounds=many"], "rounds"),
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--data", "empty"], "empty: is empty"),
        (["--data", "a", "--data", "b"], "--data: was given 2 times for 3 hospitals; one for all, or 3"),
        (["--data", "a", "--data", "b", "--data", "b/within"], "b/within: holds images of"),
        (["--data", "a", "--data", "b", "--data", "a"], "a: holds images of"),
        (["--out", "a"], "a: is not empty"),
        (["--out", "file"], "file: is a file where a folder is needed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_made(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(consortium_command, "_tied", lambda _: pytest.fail("began"))
    for name in ("a/mass", "b/within/mass", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert main(["consortium", *words]) in {2, 3}
    told = capsys.readouterr()
    assert (says in told.err, told.err.count("\n"), told.out) == (True, 1, ""), told.err
    assert sorted(tmp_path.rglob("*")) == before


def test_where_it_stays_it_says_what_brings_it_up_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Rehearsal(tmp_path / "a b", 3, settings=["rounds=7"])
    made._dealt = Dealt("dicom", ("mass", "none"))
    made.tell_how_to_go_on()
    said = capsys.readouterr().out
    rows = made.to_go_on()
    assert [each["party"] for each in rows] == [COORDINATOR, *made.names, COORDINATOR, *made.names]
    for each in rows:
        assert f"\n{each['party']}$ {each['command']}\n" in said
        went, _, typed = each["command"].partition(" && ")
        assert shlex.split(went) == ["cd", str(tmp_path / "a b" / each["party"])]
        program, words, _ = parted(typed)
        PARSERS[program]().parse_args(words)
    assert "rounds=7" in rows[4]["command"]


def test_what_fails_before_a_command_was_typed_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the process of its own that it is tied to."""
    made: list[Path] = []

    def ended(program: list[str], arguments: argparse.Namespace, removes: Path | None) -> tuple[int, str]:
        folder = Path(program[program.index("--out") + 1])
        made.append(folder)
        assert removes == folder
        if len(made) > 1:
            Stage(folder).log_for("site-1", "medveil-site check").write_text("it failed")
        return 5, ""

    monkeypatch.setattr(consortium_command, "_ended", ended)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["consortium"]) == main(["consortium"]) == 5
    assert [each.exists() for each in made] == [False, True]
    assert f"its folder, with the keys of this trial: {made[1]}" in capsys.readouterr().err
