"""The stores a site holds: which no run uses again, and removing them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from enrolled_site import WORD, enrolled, images

from crypto import sealed_file
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keyfile import load_keyring, rotate_key
from crypto.keys import Key
from fl_client.cli import main
from fl_client.data.config import DataConfig
from fl_client.data.opened_store import EncryptedStore
from fl_client.data.partition import site_parts
from fl_client.data.source import open_source
from fl_client.data.store import open_store
from fl_client.data.stores_held import HeldStore, held_stores
from fl_client.deployment.own_files import OwnFiles
from medveil.audit_verify import verify
from medveil.files import locked


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", WORD)


@pytest.fixture
def files(tmp_path: Path) -> OwnFiles:
    return enrolled(tmp_path)


def current(files: OwnFiles) -> Key:
    return load_keyring(files.path(files.config.key), WORD).current


def built(files: OwnFiles, key: Key | None, *, data: DataConfig | None = None, block: int = 4) -> EncryptedStore:
    data = data or files.data
    source = open_source(data)
    cipher = make_cipher(
        CipherConfig(scheme="block-pixel" if key else "none", block=block), key, channels=1, height=16, width=16
    )
    parts = site_parts(source, data, sites=1, index=0, seed=0)
    return open_store(source, parts, cipher, data, key=current(files), folder=files.own, seed=0)


def held(files: OwnFiles) -> dict[str, HeldStore]:
    return {each.name: each for each in held_stores(files.own, files.data, keys={current(files).fingerprint})}


def command(files: OwnFiles, *words: str) -> int:
    return main(["stores", *words, "--site", str(files.file)])


def test_a_site_without_stores(files: OwnFiles, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(files) == 0
    assert "no store is held here yet" in capsys.readouterr().out
    assert command(files, "--remove-unused", "--yes") == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_what_a_store_is_and_why_none_uses_it_again(
    files: OwnFiles, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = DataConfig(source="npz", path=str(images(tmp_path / "other.npz")))
    own, foreign, open_ = built(files, current(files)), built(files, current(files), data=other), built(files, None)
    before = current(files).fingerprint
    found = held(files)
    assert {name: each.unused for name, each in found.items()} == {
        own.folder.name: "",
        foreign.folder.name: "it is of other images than this site's now",
        open_.folder.name: "",
    }
    mine = found[own.folder.name]
    assert (mine.key, mine.images) == (before, sum(len(part.labels) for part in own.parts.values()))
    assert mine.size == sum(path.stat().st_size for path in own.folder.iterdir())
    rotate_key(files.path(files.config.key), WORD)
    assert command(files, "--json") == 0
    told = {each["store"]: each for each in json.loads(capsys.readouterr().out)}
    assert told[own.folder.name]["unused"] == "its key hides no images here any more"
    assert told[own.folder.name]["key"] == before
    assert command(files) == 0
    said = capsys.readouterr().out
    assert "none: not hidden" in said
    assert "the key that sealed it is not this site's any more" in said
    built(files, None)
    assert command(files) == 0
    assert "a run may use it" in capsys.readouterr().out


def test_removing_the_unused_leaves_the_others(files: OwnFiles, capsys: pytest.CaptureFixture[str]) -> None:
    old = built(files, current(files))
    rotate_key(files.path(files.config.key), WORD)
    plain = built(files, None)
    broken = files.own / "stores" / "broken"
    broken.mkdir()
    (broken / "header.json").write_text("{")
    assert command(files, "--remove-unused") == 2
    assert "there is no terminal to ask on" in capsys.readouterr().err
    assert old.folder.is_dir()
    assert command(files, "--remove-unused", "--yes") == 0
    said = capsys.readouterr().out
    assert old.folder.name in said
    assert [path.name for path in (files.own / "stores").iterdir() if path.is_dir()] == [plain.folder.name]
    records = verify(files.audit.path).records
    assert sorted(each["details"]["images"] for each in records if each["event"] == "store-removed") == [0, 20]
    assert old.folder.name not in files.audit.path.read_text()
    # What is missed is built anew.
    assert built(files, current(files)).built
    assert set(held(files)) == {old.folder.name, plain.folder.name}


def test_one_store_is_removed_by_its_name(files: OwnFiles, capsys: pytest.CaptureFixture[str]) -> None:
    store = built(files, current(files))
    for wrong in ("", "x", "../site"):
        assert command(files, "--remove", wrong, "--yes") == 2
    assert store.folder.name in capsys.readouterr().err
    built(files, None)
    assert command(files, "--remove", "npz", "--yes") == 2
    assert "fits several stores" in capsys.readouterr().err
    capsys.readouterr()
    assert command(files, "--remove", store.folder.name, "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out)["removed"] == [store.folder.name]
    assert not store.folder.exists()


def test_nothing_is_removed_while_it_may_be_read_or_built(
    files: OwnFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = built(files, current(files))
    with locked(store.folder.parent):
        assert command(files, "--remove", store.folder.name, "--yes") == 3
    assert "in use by another process" in capsys.readouterr().err
    monkeypatch.setattr("medveil.processes.running", lambda record: 4711)
    assert command(files, "--remove", store.folder.name, "--yes") == 2
    assert "this site runs" in capsys.readouterr().err
    assert store.folder.is_dir()
    assert command(files) == 0
