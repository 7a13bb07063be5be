"""A file hidden for training says in which way its images were prepared; files of versions 1 and 2 are still read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from crypto.commands.tell import tell_header
from crypto.config import CipherConfig
from crypto.files.header import VERSION, HiddenHeader, parse_header
from crypto.files.hiding import nonces_of
from crypto.files.kinds import FileKind
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.imaging import preprocess
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from medveil.errors import FormatError, IntegrityError

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
FIXTURES = Path(__file__).with_name("fixtures")
NAMES = ("sick/a.png", "sick/b.tif", "well/c.dcm")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def kind(path: Path) -> FileKind:
    found = kind_of(path)
    assert found is not None
    return found


def hidden(name: str, target: Path, purpose: str) -> Path:
    source = FIXTURES / "hidden-version-1" / "plain" / name
    size = 16 if purpose == "training" else None
    kind(source).hide(source, target, Recipe(purpose=purpose, cipher=CipherConfig(block=8), size=size), KEY)
    return target


def opened(path: Path) -> np.ndarray:
    found = kind(path)
    header = found.header(path)
    return header.cipher(KEY).decrypt(found.ciphertext(path, 0), nonces_of(header))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("purpose", "said"), [("training", preprocess.VERSION), ("archive", 0)])
def test_every_kind_says_it_under_its_mac(tmp_path: Path, name: str, purpose: str, said: int) -> None:
    path = hidden(name, tmp_path / "x", purpose)
    header = kind(path).header(path)
    assert (header.version, header.preparation) == (3, said)
    kind(path).verify(path, RING)
    data = path.read_bytes()
    forged = data.replace(f'"preparation":{said}'.encode(), b'"preparation":7')
    assert forged != data or name.endswith(".png")
    if name.endswith(".png"):
        return
    path.write_bytes(forged)
    with pytest.raises(IntegrityError, match="was changed after it was hidden"):
        kind(path).verify(path, RING)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("purpose", ["training", "archive"])
def test_a_file_of_version_2_is_read_as_it_was(tmp_path: Path, name: str, purpose: str) -> None:
    path = FIXTURES / "hidden-version-2" / purpose / name
    header = kind(path).header(path)
    assert (header.version, header.derivation, header.preparation) == (2, 2, 0)
    kind(path).verify(path, RING)
    again = hidden(name, tmp_path / "x", purpose)
    if purpose == "training":
        assert np.array_equal(opened(path), opened(again))
    kind(path).show(path, tmp_path / "two", RING)
    kind(again).show(again, tmp_path / "three", RING)
    if name != "well/c.dcm":
        assert (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()


def header_of(**changes: object) -> str:
    path = FIXTURES / "hidden-version-2" / "training" / "sick" / "a.png"
    document = json.loads(kind(path).header(path).to_json()) | changes
    document = {name: value for name, value in document.items() if value is not None}
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def test_versions_say_what_is_theirs_and_no_more() -> None:
    assert parse_header(header_of(version=3, preparation=2), where="x").preparation == 2
    assert parse_header(header_of(), where="x").preparation == 0
    for changes in ({"preparation": 2}, {"version": 3}, {"version": 3, "preparation": -1}):
        with pytest.raises(IntegrityError):
            parse_header(header_of(**changes), where="x")
    with pytest.raises(IntegrityError):
        parse_header(header_of(version=3, preparation=True), where="x")
    with pytest.raises(FormatError, match="version 4; this MedVeil reads up to 3"):
        parse_header(header_of(version=VERSION + 1, preparation=2), where="x")
    assert isinstance(parse_header(header_of(version=3, preparation=9), where="x"), HiddenHeader)


@pytest.mark.parametrize(
    ("folder", "said", "plain"),
    [("training", "in a way that is not said", None), ("archive", "", None), ("", "in way 2 of MedVeil's", 2)],
)
def test_show_tells_it(
    tmp_path: Path, folder: str, said: str, plain: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    older = FIXTURES / "hidden-version-2" / folder / "sick" / "a.png"
    path = older if folder else hidden("sick/a.png", tmp_path / "a.png", "training")
    header = kind(path).header(path)
    tell_header("a.png", header, None, as_json=False)
    told = capsys.readouterr().out
    assert said in told
    assert ("prepared" in told) == bool(said)
    tell_header("a.png", header, None, as_json=True)
    assert json.loads(capsys.readouterr().out)["preparation"] == plain
