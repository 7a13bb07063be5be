"""What a real site keeps beside its store is sealed; what an older MedVeil left open is said, read and sealed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from enrolled_site import WORD, enrolled
from older_store import lay_open
from one_site import SIZE as SIDE
from one_site import evaluated
from sweep import files_below, image_forms, key_forms, leaks

from crypto import sealed_file
from crypto.base import ImageCipher
from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keyfile import load_keyring, rotate_key
from crypto.keyring import Keyring
from crypto.keys import SimulatedKey, SiteKey
from crypto.resealing import reseal
from fl_client.cli import main
from fl_client.data import contents, documents, neighbours
from fl_client.data.config import PhantomConfig
from fl_client.data.documents import Documents
from fl_client.data.left_open import NAMES, left_open
from fl_client.data.opened_store import EncryptedStore
from fl_client.data.partition import site_parts
from fl_client.data.phantoms import draw_phantoms
from fl_client.data.source import open_source, read_many
from fl_client.data.store import open_store
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.own_keys import OwnKeys
from fl_client.site_basis import FOLDER
from fl_client.site_files import DESCRIPTION, PREDICTIONS, write_description, write_predictions
from medveil.audit_verify import verify
from medveil.errors import IntegrityError, StorageError

KEY = SiteKey(bytes(range(32)), "a")


# -- documents ---------------------------------------------------------------------------------------------------------


def test_a_real_key_seals_and_a_simulated_one_does_not(tmp_path: Path) -> None:
    document = {"format": "f", "version": 1, "name": "patient-doe"}
    for key, name in ((KEY, "a.json.sealed"), (SimulatedKey(0, "a"), "a.json")):
        kept = Documents.of(tmp_path / name, key)
        kept.write("a.json", document)
        assert [path.name for path in kept.folder.iterdir()] == [name]
        assert (kept.folder / name).stat().st_mode & 0o777 == 0o600
        assert (b"doe" in (kept.folder / name).read_bytes()) == (name == "a.json")
        assert kept.read("a.json", {"name": str}, format_="f", newest=1) == document
        assert kept.find("b.json") is None
        with pytest.raises(StorageError, match=r"b\.json: no such file"):
            kept.read_bytes("b.json")


def test_a_plain_one_is_read_and_gone_once_it_is_written_anew(tmp_path: Path) -> None:
    name = f"{FOLDER}/run.json"
    Documents(tmp_path).write_bytes(name, b"before")
    kept = Documents.of(tmp_path, KEY)
    assert kept.read_bytes(name) == b"before"
    kept.write_bytes(name, b"after")
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == ["run.json.sealed"]
    (tmp_path / name).write_bytes(b"put there by somebody")
    assert kept.read_bytes(name) == b"after"


def test_a_plain_one_in_the_place_of_a_sealed_one_is_not_taken(tmp_path: Path) -> None:
    kept = Documents.of(tmp_path, KEY)
    for name in (DESCRIPTION, PREDICTIONS, "pulled/pacs/0.dcm"):
        kept.write_bytes(name, b"sealed")
    for name in (PREDICTIONS, "pulled/pacs/0.dcm"):
        (tmp_path / f"{name}.sealed").unlink()
        (tmp_path / name).write_bytes(b"put there by somebody")
    cured = "this site's own, of an older MedVeil: medveil-site seal; else remove it"
    with pytest.raises(IntegrityError, match=rf"predictions\.npz: lies open, and what this site keeps is .*{cured}"):
        kept.read_bytes(PREDICTIONS)
    (tmp_path / f"{DESCRIPTION}.sealed").unlink()
    assert kept.read_bytes(PREDICTIONS), "nothing lies sealed: an older MedVeil's"
    with pytest.raises(StorageError, match=r"0\.dcm: no such file"):
        kept.read_bytes("pulled/pacs/0.dcm")


def test_another_name_key_or_bit_is_refused_and_a_former_key_opens(tmp_path: Path) -> None:
    Documents.of(tmp_path, KEY).write_bytes("a", b"x")
    new = SiteKey.generate("a")
    assert Documents.of(tmp_path, new, [KEY]).read_bytes("a") == b"x"
    with pytest.raises(IntegrityError, match=r"a\.sealed: wrong key or changed file"):
        Documents.of(tmp_path, new).read_bytes("a")
    (tmp_path / "b.sealed").write_bytes((tmp_path / "a.sealed").read_bytes())
    with pytest.raises(IntegrityError, match=r"b\.sealed: wrong key or changed file"):
        Documents.of(tmp_path, KEY).read_bytes("b")
    (tmp_path / "a.sealed").write_bytes((tmp_path / "a.sealed").read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"a\.sealed: wrong key or changed file"):
        Documents.of(tmp_path, KEY).read_bytes("a")


def test_every_name_is_looked_for(tmp_path: Path) -> None:
    assert set(NAMES) == {DESCRIPTION, PREDICTIONS, contents.FILE, neighbours.FILE, f"{FOLDER}/*.json"}
    for name in NAMES:
        Documents(tmp_path).write_bytes(name.replace("*", "run"), b"")
    assert len(left_open(tmp_path).files) == len(NAMES)
    assert left_open(tmp_path / "nowhere").plain() == {"stores": 0, "files": 0, "sealed_stores": 0}


# -- the site's commands -----------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnFiles:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", WORD)
    return enrolled(tmp_path)


def ring(files: OwnFiles, word: str = WORD) -> Keyring:
    return load_keyring(files.path(files.config.key), word)


def built(files: OwnFiles, word: str = WORD) -> EncryptedStore:
    key, source = ring(files, word).current, open_source(files.data)
    cipher = make_cipher(CipherConfig(block=4), key, channels=1, height=16, width=16)
    parts = site_parts(source, files.data, sites=1, index=0, seed=0)
    return open_store(source, parts, cipher, files.data, key=key, folder=files.own, seed=0)


def command(files: OwnFiles, *words: str) -> int:
    return main([*words, "--site", str(files.file)])


def left_by_an_older(files: OwnFiles) -> EncryptedStore:
    """A store and what lies beside it, open."""
    store, plain = built(files), Documents(files.own)
    lay_open(store)
    write_description(plain, {"skipped": [{"path": "doe.png", "reason": "cut"}]})
    write_predictions(plain, ids=["doe.png"], labels=[1], probabilities=[[0.5, 0.5]], groups=["doe.png"])
    plain.write_bytes("basis/run.json", b"{}")
    return store


def test_what_lies_open_is_said_and_sealed_by_one_command(files: OwnFiles, capsys: pytest.CaptureFixture[str]) -> None:
    store = left_by_an_older(files)
    assert command(files, "status") == 0
    told = "1 store and 3 files lie open, as an older MedVeil left them: 'medveil-site seal' seals them"
    assert told in capsys.readouterr().out
    assert command(files, "stores") == 0
    assert "NO, older" in capsys.readouterr().out
    assert command(files, "seal") == 0
    said = capsys.readouterr().out
    assert f"sealed under the key {ring(files).current.fingerprint}: stores: 1, other files: 3" in said
    assert "the disk may keep what was written before" in said
    assert command(files, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["open"] == {"stores": 0, "files": 0, "sealed_stores": 1}
    left = [path for path in files.own.rglob("*") if path.is_file() and path.suffix not in {".sealed", ".lock"}]
    assert [path.name for path in left] == ["header.json"]
    again = built(files)
    assert not again.built
    np.testing.assert_array_equal(again.part("train").batch([0]), store.part("train").batch([0]))
    (event,) = [each for each in verify(files.audit.path).records if each["event"] == "sealed"]
    assert (event["details"]["stores"], event["details"]["files"]) == (1, 3)
    assert command(files, "seal") == 0
    assert "nothing lies open here" in capsys.readouterr().out


def test_sealing_that_was_cut_short_is_finished(files: OwnFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by_an_older(files)
    real = documents.write_bytes

    def refuses(path: Path, data: bytes, **how: Any) -> None:
        if path.name.startswith(PREDICTIONS):
            raise StorageError("cannot write the file: no space left on device", where=path)
        real(path, data, **how)

    with monkeypatch.context() as patch:
        patch.setattr(documents, "write_bytes", refuses)
        assert command(files, "seal") == StorageError.exit_code
    assert (files.own / PREDICTIONS).is_file()
    assert command(files, "seal") == 0
    assert left_open(files.own).files == ()


def test_nothing_is_sealed_while_the_site_runs(
    files: OwnFiles, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = left_by_an_older(files)
    monkeypatch.setattr("medveil.processes.running", lambda record: 4711)
    assert command(files, "seal") == 2
    assert "this site runs, and may be reading what is to be sealed; medveil-site stop" in capsys.readouterr().err
    assert (store.folder / "train.npy").is_file()


def test_what_was_sealed_is_opened_for_its_owner(files: OwnFiles, capsys: pytest.CaptureFixture[str]) -> None:
    out = files.file.parent / "out"
    assert command(files, "unseal", "predictions", "--out", str(out)) == StorageError.exit_code
    assert "predictions.npz: is not there yet; it is written when a run is evaluated here" in capsys.readouterr().err
    kept = Documents.of(files.own, ring(files).current)
    write_predictions(kept, ids=["doe.png"], labels=[1], probabilities=[[0.5, 0.5]], groups=["doe.png"])
    write_description(kept, {"skipped": [{"path": "doe.png", "reason": "cut"}]})
    # A former key's files are read still.
    rotate_key(files.path(files.config.key), WORD)
    assert command(files, "unseal", "predictions", "--out", str(out)) == 0
    assert "lies open, with names of images and labels" in capsys.readouterr().out
    assert out.stat().st_mode & 0o777 == 0o600
    assert np.load(io.BytesIO(out.read_bytes()))["ids"].tolist() == ["doe.png"]
    assert command(files, "unseal", "site", "--out", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"what": "site", "file": str(out)}
    assert json.loads(out.read_text())["skipped"][0]["path"] == "doe.png"


def test_another_passphrase_leaves_the_store_as_it_is(files: OwnFiles) -> None:
    built(files)
    reseal(files.path(files.config.key), WORD, "another one, and as long")
    assert not built(files, "another one, and as long").built


def test_a_rotated_key_builds_the_store_anew(files: OwnFiles) -> None:
    built(files)
    rotate_key(files.path(files.config.key), WORD)
    again = built(files)
    assert str(again.rebuilt).startswith("the key that seals it changed (from ")
    assert again.sealed


# -- all of a folder ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_phantoms(folder, PhantomConfig(sites=1, images=40, classes=2, size=SIDE))
    (folder / "hospital-1" / "cut.dcm").write_bytes(b"no image")
    return folder


POLICIES: dict[str, dict[str, Any]] = {
    "none": {"stem_init": "public", "stem_train": "averaged", "cipher": {"scheme": "none", "block": 8}},
    "per-site": {"stem_init": "adapted", "stem_train": "local"},
}


OPEN = {"header.json", "privacy.json"}
"""What tells of no image, and lies open."""


@pytest.mark.parametrize("keys", POLICIES)
def test_a_site_that_trained_leaves_nothing_of_its_images_or_keys(tmp_path: Path, phantoms: Path, keys: str) -> None:
    """Plain images, hidden ones, their names, patients, paths and labels, keys and permutations; under any policy."""
    held = OwnKeys(Keyring(SiteKey.generate("st-anna")), Keyring(SiteKey.generate("shared")))
    site = evaluated(tmp_path / "site", phantoms, held, keys=keys, **POLICIES[keys])
    source, parts = site.source, site.store.parts.values()
    shown = read_many(source, range(len(source)))
    hidden = np.concatenate([part.batch(np.arange(len(part))) for part in parts])
    wanted = image_forms(shown) | image_forms(hidden)
    assert len(wanted) >= len(source)
    wanted |= {item.id.encode() for item in source.items} | {
        b".dcm",
        b"hospital-1",
        b"no image",
        str(phantoms).encode(),
    }
    for path in phantoms.rglob("*.dcm"):
        if path.name != "cut.dcm":
            image = pydicom.dcmread(path)
            wanted |= {str(image[tag].value).encode() for tag in ("PatientID", "PatientName", "SOPInstanceUID")}
    wanted |= {b'"mass"', b"'mass'", b"mass\n", "mass".encode("utf-32-le")}
    real = [*held.own, *(held.shared or ())]
    wanted |= set().union(*(key_forms(each, cipher_for(each)) for each in real))
    stem = site.vault.load(before=99)
    for tensor in (stem[1] if stem is not None else {}).values():
        wanted.add(tensor.numpy().tobytes()[:64])
    left = files_below(tmp_path / "site")
    assert leaks(left, wanted) == []
    assert {name.rpartition("/")[2] for name in left if not name.endswith((".sealed", ".lock"))} == OPEN
    # Where it lies open, as an older MedVeil left it, the same search finds it.
    lay_open(site.store)
    name = f"stores/{site.store.folder.name}"
    found = leaks(files_below(tmp_path / "site"), wanted)
    assert {f"{name}/header.json", f"{name}/train.npy", f"{name}/test.npy"} <= set(found)


def cipher_for(key: SiteKey) -> ImageCipher:
    config = CipherConfig(block=8, negate=True)
    return make_cipher(config, key, channels=1, height=SIDE, width=SIDE)
