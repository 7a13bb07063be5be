from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from crypto import keyfile, passphrase, sealed_file
from crypto.cli import main
from crypto.files.raster import PngFile
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.tree import run, verify
from crypto.tree.workers import Alone

KEY = SiteKey(bytes(range(32)), "mercy")
GOOD = "correct horse battery staple"
ARCHIVE = ("--for", "archive", "--block", "8")
TRAINING = ("--for", "training", "--block", "8", "--size", "32")


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv(passphrase.VARIABLE, GOOD)
    monkeypatch.setitem(run.run_tree.__kwdefaults__, "crew", Alone)
    monkeypatch.setitem(verify.verify_tree.__kwdefaults__, "crew", Alone)
    yield
    logging.getLogger("medveil").handlers.clear()
    logging.getLogger("medveil").propagate = True


@pytest.fixture
def key(tmp_path: Path) -> str:
    keyfile.save_key(tmp_path / "mercy.key", KEY, GOOD)
    return str(tmp_path / "mercy.key")


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a.png", "sub/b.png", "sub/c.jpg")):
        picture(tmp_path / "source" / name, seed)
    (tmp_path / "source" / "notes.txt").write_text("no image")
    return tmp_path / "source"


def cli(*arguments: str | Path) -> int:
    return main([str(each) for each in arguments])


# --- trees


def test_a_tree_goes_there_and_back(source: Path, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    hidden, shown = tmp_path / "hidden", tmp_path / "shown"
    assert cli("encrypt", source, hidden, "--key", key, *TRAINING) == 0
    said = capsys.readouterr()
    assert said.out.startswith("hidden: 3 files, 3 images, ")
    assert "kinds: jpeg 1, png 2\n" in said.out
    assert f"passed over, not images: 1, named in {hidden / 'medveil-report.json'}\n" in said.out
    assert "training: train on it as it is, stays hidden\n" in said.out
    assert said.err.count("a cipher does not survive JPEG") == 1
    assert cli("verify", hidden, "--key", key) == 0
    assert capsys.readouterr().out == f"whole: 3 files, as {hidden} was written\n"
    assert cli("decrypt", hidden, shown, "--key", key) == 0
    assert "shown: 3 files" in capsys.readouterr().out
    assert (shown / "sub" / "c.jpg.png").exists()


def test_a_tree_in_json(source: Path, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "zero\udcff.png").write_bytes(b"")
    assert cli("encrypt", source, tmp_path / "hidden", "--key", key, *ARCHIVE, "--json") == 6
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert said.err == ""
    assert (document["action"], document["purpose"], document["advice"]) == (
        "encrypt",
        "archive",
        "decrypt before training",
    )
    assert (document["done"], document["failed"], document["skipped"]) == (3, 1, 1)
    assert document["failures"] == [{"file": "zero\udcff.png", "what": "is empty"}]
    assert Path(document["report"]).is_file()
    assert cli("verify", tmp_path / "hidden", "--key", key, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"action": "verify", "whole": 3, "failed": 0, "failures": []}


def test_what_failed_is_a_table_and_exit_code_6(
    source: Path, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(60):
        (source / f"zero{i:02}\n.png").write_bytes(b"")
    assert cli("encrypt", source, tmp_path / "hidden", "--key", key, *ARCHIVE) == 6
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == ["failed: 60", "  60 files  is empty (zero00\\n.png, zero01\\n.png, zero02\\n.png and 57 more)"]
    (tmp_path / "hidden" / "a.png").unlink()
    assert cli("verify", tmp_path / "hidden", "--key", key) == 6
    assert capsys.readouterr().err == "failed: 1\n  a.png  is missing\n"


def test_what_to_look_at_is_counted_whole(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").mkdir()
    for i in range(53):
        Image.new("RGBA", (16, 16)).save(tmp_path / "source" / f"{i:02}.png")
    assert cli("encrypt", tmp_path / "source", tmp_path / "hidden", "--key", key, *TRAINING) == 0
    said = capsys.readouterr().err.splitlines()
    words = "its transparency was dropped: what it covered is seen"
    assert said == ["look at: 53", f"  53 files  {words} (00.png, 01.png, 02.png and 50 more)"]


def test_few_of_a_reason_have_a_row_each_and_many_reasons_are_counted(
    source: Path, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one.png", "two.png"):
        (source / name).write_bytes(b"")
    (source / "three.gif").write_bytes(b"GIF89a")
    for i in range(70):
        # Each is refused for a size of its own.
        head = b"IHDR" + struct.pack(">IIBBBBB", 50_000 + i, 50_000, 8, 0, 0, 0, 0)
        data = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
        (source / f"z{i:02}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data + bytes(4) + b"IDAT" + bytes(4))
    assert cli("encrypt", source, tmp_path / "hidden", "--key", key, *ARCHIVE, "--dry-run") == 6
    said = capsys.readouterr().err.splitlines()
    rows = said[said.index("would fail: 73") + 1 :]
    assert rows[0].split(maxsplit=1) == ["one.png", "is empty"]
    assert rows[1].split(maxsplit=1) == ["two.png", "is empty"]
    assert sum(row.startswith("  z") for row in rows) == len(rows) - 4
    assert rows[-1] == f"  ... and {73 - (len(rows) - 1)} more"


def test_a_dry_run(source: Path, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("encrypt", source, tmp_path / "hidden", "--key", key, *ARCHIVE, "--dry-run")
    assert cli(*words) == 0
    said = capsys.readouterr()
    assert said.out.startswith("would hide: 3 files, ")
    assert "  png      2 files, " in said.out
    assert said.err == "would pass over: 1\n  notes.txt  not an image\n"
    (source / "zero.png").write_bytes(b"")
    assert cli(*words, "--json") == 6
    document = json.loads(capsys.readouterr().out)
    assert (document["would_do"], document["would_fail"], document["kinds"]) == (3, 1, {"jpeg": 1, "png": 2})
    assert not (tmp_path / "hidden").exists()


@pytest.mark.parametrize("command", ["decrypt", "verify"])
def test_the_wrong_key_is_exit_code_4(
    source: Path, tmp_path: Path, key: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = tmp_path / "hidden"
    assert cli("encrypt", source, hidden, "--key", key, *ARCHIVE) == 0
    keyfile.save_key(tmp_path / "other.key", SiteKey.generate("other"), GOOD)
    ends = (hidden, tmp_path / "shown") if command == "decrypt" else (hidden,)
    file_ends = (hidden / "a.png", tmp_path / "x.png") if command == "decrypt" else (hidden / "a.png",)
    capsys.readouterr()
    for words in (ends, file_ends):
        assert cli(command, *words, "--key", tmp_path / "other.key") == 4
        said = capsys.readouterr().err
        assert f"was hidden under the key {KEY.fingerprint}" in said
        assert said.count("\n") == 1
    if command == "decrypt":
        (hidden / "medveil-manifest.jsonl").unlink()
        assert cli("decrypt", hidden, tmp_path / "shown", "--key", tmp_path / "other.key") == 4
        assert "none of 3 files was hidden under this key" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()


# --- single files


def test_a_file_goes_there_and_back(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "a.png")
    assert cli("encrypt", tmp_path / "a.png", tmp_path / "h.png", "--key", key, *ARCHIVE) == 0
    assert capsys.readouterr().out == f"hidden: {tmp_path / 'h.png'}\narchive: decrypt before training\n"
    assert cli("verify", tmp_path / "h.png", "--key", key) == 0
    assert capsys.readouterr().out == f"whole: {tmp_path / 'h.png'}\n"
    assert cli("decrypt", tmp_path / "h.png", tmp_path / "s.png", "--key", key, "--json") == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(tmp_path / "s.png")
    with Image.open(tmp_path / "a.png") as before, Image.open(tmp_path / "s.png") as after:
        assert np.array_equal(np.asarray(before), np.asarray(after))
    assert (tmp_path / "s.png").stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("how", ["there", "slash"])
def test_a_file_goes_into_a_folder_under_its_name(tmp_path: Path, key: str, how: str) -> None:
    picture(tmp_path / "a.jpg")
    if how == "there":
        (tmp_path / "out").mkdir()
    target = f"{tmp_path / 'out'}{'/' if how == 'slash' else ''}"
    assert cli("encrypt", tmp_path / "a.jpg", target, "--key", key, *ARCHIVE, "--seal") == 0
    assert os.listdir(tmp_path / "out") == ["a.jpg.png.mvseal"]
    assert cli("decrypt", tmp_path / "out" / "a.jpg.png.mvseal", tmp_path / "out", "--key", key) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["a.jpg.png", "a.jpg.png.mvseal"]


def test_a_file_that_is_there_is_kept(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "h.png").write_text("precious")
    words = ("encrypt", tmp_path / "a.png", tmp_path / "h.png", "--key", key, *ARCHIVE)
    assert cli(*words) == 3
    assert "is there already; --force (force=True) replaces it" in capsys.readouterr().err
    assert (tmp_path / "h.png").read_text() == "precious"
    assert cli(*words, "--force") == 0
    assert cli("verify", tmp_path / "h.png", "--key", key) == 0
    for itself in (tmp_path / "a.png", tmp_path):
        assert cli("encrypt", tmp_path / "a.png", itself, "--key", key, *ARCHIVE, "--force") == 3
        assert "is the input itself" in capsys.readouterr().err


def test_a_file_that_fails_leaves_what_was_there(tmp_path: Path, key: str) -> None:
    (tmp_path / "a.png").write_bytes(picture(tmp_path / "x.png").read_bytes()[:-20])
    (tmp_path / "h.png").write_text("precious")
    before = sorted(os.listdir(tmp_path))
    assert cli("encrypt", tmp_path / "a.png", tmp_path / "h.png", "--key", key, *ARCHIVE, "--force") == 3
    assert (tmp_path / "h.png").read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == before


# --- show


def test_show_needs_no_key(tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 16, 24), np.uint16), photometric="minisblack")
    keys = ("--key", key)
    assert cli("encrypt", tmp_path / "a.png", tmp_path / "h.png", *keys, *TRAINING, "--negate") == 0
    assert cli("encrypt", tmp_path / "a.tif", tmp_path / "h.tif", *keys, *ARCHIVE) == 0
    assert cli("encrypt", tmp_path / "a.tif", tmp_path / "h.mvseal", *keys, *ARCHIVE, "--seal") == 0
    Path(key).unlink()
    capsys.readouterr()
    assert cli("show", tmp_path / "h.png") == 0
    text = capsys.readouterr().out
    assert "training: train on it as it is, stays hidden" in text
    assert "block-pixel, block 8, negated" in text
    assert "3 x 32 x 32, 8 bit" in text
    assert KEY.fingerprint in text
    assert cli("show", tmp_path / "h.tif") == 0
    text = capsys.readouterr().out
    assert "archive: decrypt before training" in text
    assert "3 x (1 x 16 x 24, 16 bit)" in text
    assert cli("show", tmp_path / "h.tif", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["frames"], document["bits"], document["fingerprint"]) == (
        "tiff",
        3,
        16,
        KEY.fingerprint,
    )
    assert cli("show", tmp_path / "h.mvseal") == 0
    text = capsys.readouterr().out
    assert "archive: decrypt before training; what it holds is sealed" in text
    assert KEY.fingerprint in text
    assert cli("show", tmp_path / "h.mvseal", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "sealed"


# --- bad use


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("encrypt", "{source}", "{out}", "--key", "{key}"), 2, "--for"),
        (("encrypt", "{source}", "{out}", *ARCHIVE), 2, "--key"),
        (("encrypt", "{source}", "--key", "{key}", *ARCHIVE), 2, "DST"),
        (("encrypt", "{source}", "{out}", "--key", "{key}", "--for", "fun"), 2, "invalid choice"),
        (("encrypt", "{source}", "{out}", "--key", "{key}", "--for", "training"), 2, "--size: 'None' is no size"),
        (("encrypt", "{source}", "{out}", "--key", "{key}", *ARCHIVE, "--size", "32"), 2, "--size is for training"),
        (("encrypt", "{source}", "{out}", "--key", "{key}", *TRAINING, "--seal"), 2, "--seal is for archives"),
        (("encrypt", "{source}", "{out}", "--key", "{key}", *TRAINING, "--size", "33"), 2, "'33' is no size"),
        (("encrypt", "{source}", "{out}", "--key", "{key}", *TRAINING, "--window", "1", "0"), 2, "a width of 0"),
        (("encrypt", "{source}", "{out}", "--key", "{key}", *ARCHIVE, "--scheme", "block-pixl"), 2, "did you mean"),
        (("encrypt", "{source}", "{out}", "--key", "{key}", *ARCHIVE, "--scheme", "none"), 2, "'none' hides nothing"),
        (
            ("encrypt", "{source}", "{out}", "--key", "{key}", *ARCHIVE, "--scheme", "pixel-wise"),
            2,
            "target for attacks",
        ),
        (
            ("encrypt", "{source}", "{out}", "--key", "{key}", *TRAINING, "--scheme", "aes-ctr"),
            2,
            "left to learn",
        ),
        (("encrypt", "{source}", "{out}", "--key", "{key}", *ARCHIVE, "--jobs", "0"), 2, "'0' processes"),
        (("encrypt", "{source}", "{source}/x", "--key", "{key}", *ARCHIVE), 2, "lies inside the input"),
        (("encrypt", "{source}", "{source}", "--key", "{key}", *ARCHIVE), 2, "is the input itself"),
        (("encrypt", "{source}/gone", "{out}", "--key", "{key}", *ARCHIVE), 3, "no such file or folder"),
        (("encrypt", "/dev/null", "{out}", "--key", "{key}", *ARCHIVE), 3, "is neither a file nor a folder"),
        (("encrypt", "{source}/notes.txt", "{out}", "--key", "{key}", *ARCHIVE), 3, "is not an image"),
        (("encrypt", "{source}/a.png", "{out}", "--key", "{key}", *ARCHIVE, "--dry-run"), 2, "is for folders"),
        (("encrypt", "{source}", "{source}/a.png", "--key", "{key}", *ARCHIVE), 2, "lies inside the input"),
        (("encrypt", "{source}", "{key}", "--key", "{key}", *ARCHIVE), 3, "is a file where a folder is needed"),
        (("encrypt", "{source}", "{out}", "--key", "{source}/a.png", *ARCHIVE), 2, "is not a medveil-key file"),
        (("decrypt", "{source}/a.png", "{out}", "--key", "{key}"), 2, "is not a hidden file"),
        (("decrypt", "{source}/sub/c.jpg", "{out}", "--key", "{key}"), 2, "is not a hidden file: it is JPEG"),
        (("verify", "{source}", "--key", "{key}"), 3, "there is no manifest"),
        (("verify", "{source}/a.png", "--key", "{key}"), 2, "is not a hidden file"),
        (("verify", "{source}/notes.txt", "--key", "{key}"), 2, "is not a hidden file"),
        (("show", "{source}/a.png"), 2, "is not a hidden file"),
        (("show", "{source}"), 2, "is a folder"),
        (("show", "{source}/gone"), 3, "no such file or folder"),
    ],
)
def test_bad_use_is_one_line_and_the_documented_exit_code(
    *,
    arguments: tuple[str, ...],
    code: int,
    words: str,
    source: Path,
    tmp_path: Path,
    key: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [each.format(source=source, out=tmp_path / "out", key=key) for each in arguments]
    assert main(given) == code
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "out").exists()


def test_a_wrong_passphrase_is_exit_code_4(
    source: Path, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(passphrase.VARIABLE, "wrong horse battery staple")
    assert cli("encrypt", source, tmp_path / "out", "--key", key, *ARCHIVE) == 4
    assert "wrong passphrase" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "passphrase").write_text(GOOD)
    given = ("--passphrase-file", tmp_path / "passphrase")
    assert cli("encrypt", source, tmp_path / "out", "--key", key, *ARCHIVE, *given) == 0


@pytest.mark.parametrize("command", ["encrypt", "decrypt", "verify", "show"])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"example: medveil-crypto {command} " in " ".join(capsys.readouterr().out.split())


def test_every_option_reaches_the_recipe(source: Path, tmp_path: Path, key: str) -> None:
    options = ("--channels", "1", "--window", "100", "50", "--negate", "--identity", "sealed", "--scheme", "per-block")
    private = ("--keep", "PatientSex", "--keep", "Modality", "--safe-private", "ACME:0019,10")
    assert cli("encrypt", source, tmp_path / "out", "--key", key, *TRAINING, *options, *private) == 0
    recipe = json.loads((tmp_path / "out" / "medveil-report.json").read_text())["recipe"]
    assert recipe == {
        "purpose": "training",
        "cipher": {"scheme": "per-block", "block": 8, "negate": True, "derivation": 2},
        "size": 32,
        "channels": 1,
        "window": [100.0, 50.0],
        "seal": False,
        "identity": "sealed",
        "keep": ["PatientSex", "Modality"],
        "safe_private": ["ACME:0019,10"],
    }
    header = PngFile().header(tmp_path / "out" / "a.png")
    assert (header.scheme, header.channels, len(header.nonces)) == ("per-block", 1, 0)
    PngFile().verify(tmp_path / "out" / "a.png", Keyring(KEY))


def test_the_seed_papers_preset(source: Path, tmp_path: Path, key: str) -> None:
    words = ("--for", "training", "--size", "200", "--scheme", "seed-paper")
    picture(tmp_path / "big" / "a.png")
    Image.new("RGB", (40, 40)).save(tmp_path / "big" / "a.png")
    assert cli("encrypt", tmp_path / "big", tmp_path / "out", "--key", key, *words) == 0
    header = PngFile().header(tmp_path / "out" / "a.png")
    assert (header.scheme, header.block, header.height, header.channels) == ("block-pixel", 25, 200, 3)
