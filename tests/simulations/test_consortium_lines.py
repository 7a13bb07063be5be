"""`medveil-sim consortium`: what it prints can be typed, and says what the tutorial says."""

from __future__ import annotations

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
from simulations.cli import main
from simulations.consortium.images import LABELLED, NEW, deal_images
from simulations.consortium.lines import ENDING, LINES, Line, parted
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
    dealt = deal_images(folders, given=tmp_path / "given", scratch=tmp_path / "drawn")
    assert (dealt.source, dealt.classes) == ("images", ("mass", "none"))
    files = [path for folder in folders.values() for path in folder.rglob("*.png")]
    assert len({path.read_bytes() for path in files}) == len(files) == 30
    for name, folder in folders.items():
        assert {path.name for path in (folder / LABELLED).iterdir()} == {"mass", "none"}
        assert set(dealt.new[name]) == {path.name for path in (folder / NEW).iterdir()} != set()
    with pytest.raises(DataError, match="leaves no image to"):
        deal_images({str(n): tmp_path / "many" / str(n) for n in range(40)}, given=tmp_path / "given", scratch=tmp_path)


def test_settings_that_are_asked_for_take_the_place_of_its_own(tmp_path: Path) -> None:
    from simulations.consortium.images import Dealt  # noqa: PLC0415

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


def test_two_sites_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["consortium", "--sites", "2"]) == 2
    assert "--sites: is 2; 3 or more" in capsys.readouterr().err
