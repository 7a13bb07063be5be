"""Images that another party hid: read as they are, and never changed, hidden again or mixed."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.files.recipe import Recipe
from crypto.files.registry import kind_of
from crypto.imaging.preprocess import to_square
from crypto.keys import SiteKey
from fl_client.data.base import HiddenUnder
from fl_client.data.config import DataConfig
from fl_client.data.hidden import UNPROVEN, check_hidden
from fl_client.data.source import open_source
from medveil.errors import ConfigError, DataError

KEY = SiteKey(bytes(range(32)), "mercy")
BLOCK = CipherConfig(scheme="block-pixel", block=8, negate=True)
TRAINING = Recipe(purpose="training", cipher=BLOCK, size=32)


def hide(source: Path, target: Path, recipe: Recipe = TRAINING, key: SiteKey = KEY) -> Path:
    kind = kind_of(source)
    assert kind is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(kind.hidden_name(target.name, recipe))
    kind.hide(source, hidden, recipe, key)
    return hidden


def picture(path: Path, seed: int, *, size: int = 48) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes of two pictures, hidden for training."""
    for label in ("benign", "tumour"):
        for i in range(2):
            name = f"{label}{i}{'.jpg' if i else '.png'}"
            hide(picture(tmp_path / name, seed=i), tmp_path / "hidden" / label / name)
    return tmp_path / "hidden"


def config(tree: Path, **settings: object) -> DataConfig:
    return DataConfig(source="hidden", path=str(tree), **settings)  # type: ignore[arg-type]


def test_what_is_read_is_the_ciphertext_bit_for_bit(tree: Path, tmp_path: Path) -> None:
    source = open_source(config(tree))
    assert (source.classes, source.size, source.channels) == (("benign", "tumour"), 32, 1)
    assert [item.id for item in source.items] == [
        "benign/benign0.png",
        "benign/benign1.jpg.png",
        "tumour/tumour0.png",
        "tumour/tumour1.jpg.png",
    ]
    assert source.hidden is not None
    assert (source.hidden.fingerprint, source.hidden.derivation) == (KEY.fingerprint, 2)
    assert source.warnings == (UNPROVEN,)
    plain = to_square(np.asarray(Image.open(tmp_path / "benign0.png")), size=32, channels=1)
    cipher = make_cipher(BLOCK, KEY, channels=1, height=32, width=32, use="training")
    assert np.array_equal(source.read(0), cipher.encrypt(plain))


def test_hidden_dicom_keeps_patients_together(tmp_path: Path) -> None:
    original = pydicom.data.get_testdata_file("CT_small.dcm")
    for i, patient in enumerate(["ann", "bob", "ann"]):
        dataset = pydicom.dcmread(original)
        dataset.PatientID, dataset.SOPInstanceUID = patient, f"1.2.{i}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(tmp_path / f"{i}.dcm")
        hide(tmp_path / f"{i}.dcm", tmp_path / "hidden" / ("a" if i else "b") / f"{i}.dcm")
    groups = {item.id: item.group for item in open_source(config(tmp_path / "hidden")).items}
    assert None not in groups.values()
    assert "ann" not in groups.values()
    assert groups["b/0.dcm"] == groups["a/2.dcm"] != groups["a/1.dcm"]


def test_labels_written_for_the_originals_serve(tree: Path) -> None:
    for name in ("benign/benign0.png", "benign/benign1.jpg", "tumour/tumour1.jpg"):
        assert (tree / name).exists() or (tree / f"{name}.png").exists()
    (tree / "labels.csv").write_text(
        "path,label,group\nbenign/benign0.png,0,g\nbenign/benign1.jpg,0,g\ntumour/tumour1.jpg,1,h\nnone.jpg,1,h\n"
    )
    source = open_source(config(tree, labels="labels.csv", group_by="group"))
    assert [(item.id, item.group) for item in source.items] == [
        ("benign/benign0.png", "g"),
        ("benign/benign1.jpg", "g"),
        ("tumour/tumour1.jpg", "h"),
    ]
    assert [each.path for each in source.skipped] == ["none.jpg"]


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"image_size": 64}, r"data\.image_size: is 64, and hidden images stay as they are: 32"),
        ({"channels": 3}, r"data\.channels: is 3"),
        ({"window": [40.0, 400.0]}, r"data\.window"),
        ({"augment": "light", "views": 4}, r"data\.augment: is light"),
        ({"flip": True, "views": 4}, r"data\.flip: is True"),
    ],
)
def test_what_must_happen_before_hiding_is_refused(tree: Path, settings: dict[str, object], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        open_source(config(tree, **settings))
    assert open_source(config(tree, image_size=32, channels=1)).size == 32


def test_files_hidden_otherwise_are_skipped_by_name(tree: Path, tmp_path: Path) -> None:
    plain = picture(tmp_path / "p.png", 9)
    hide(plain, tree / "tumour" / "y-archive.png", Recipe(purpose="archive", cipher=BLOCK))
    hide(plain, tree / "tumour" / "y-other-key.png", key=SiteKey(bytes(32), "other"))
    hide(plain, tree / "tumour" / "y-other-size.png", dataclasses.replace(TRAINING, size=64))
    (tree / "tumour" / "y-plain.png").write_bytes(plain.read_bytes())
    (tree / "tumour" / "y-notes.txt").write_text("notes")
    source = open_source(config(tree))
    assert len(source) == 4
    assert {each.path.removeprefix("tumour/y-"): each.reason for each in source.skipped} == {
        "archive.png": "is an archive: it must be decrypted before training",
        "other-key.png": "is hidden otherwise than the others",
        "other-size.png": "is hidden otherwise than the others",
        "plain.png": "is not a hidden file: it has no MedVeil header",
        "notes.txt": "not an image",
    }


def test_ciphertexts_deeper_than_8_bit_are_refused_by_name(tmp_path: Path) -> None:
    recipe = Recipe(purpose="training", cipher=CipherConfig(scheme="orthogonal", block=8), size=32)
    for label in ("a", "b"):
        hide(picture(tmp_path / f"{label}.png", 1), tmp_path / "hidden" / label / "x.png", recipe)
    with pytest.raises(DataError, match="hidden with orthogonal, whose ciphertexts have 16 bits"):
        open_source(config(tmp_path / "hidden"))


def test_a_folder_without_hidden_files_says_why(tmp_path: Path) -> None:
    (tmp_path / "plain" / "a").mkdir(parents=True)
    picture(tmp_path / "plain" / "a" / "x.png", 1)
    with pytest.raises(DataError, match=r"holds no file hidden for training .*no MedVeil header"):
        open_source(config(tmp_path / "plain"))


def test_a_file_damaged_later_is_one_bad_image(tree: Path) -> None:
    source = open_source(config(tree))
    path = tree / "benign" / "benign0.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"^benign/benign0\.png"):
        source.read(0)


def test_hidden_images_are_not_hidden_again_nor_cut_into_other_patches(tree: Path) -> None:
    source = open_source(config(tree))
    check_hidden(source, keys="none", block=8)
    with pytest.raises(ConfigError, match=r"keys\.policy: is shared, and these images are hidden already"):
        check_hidden(source, keys="shared", block=8)
    with pytest.raises(ConfigError, match=r"cipher\.block: is 16; set it to 8"):
        check_hidden(source, keys="none", block=16)
    with pytest.raises(ConfigError, match=r"train\.augment: is set, and hidden images cannot be augmented"):
        check_hidden(source, keys="none", block=8, level="light")
    with pytest.raises(ConfigError, match=r"predict\.views: is 4, and no view can be made of images another party hid"):
        check_hidden(source, keys="none", block=8, views=4)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.dcm"])
def test_hidden_files_are_not_taken_for_plain_ones(tmp_path: Path, name: str) -> None:
    plain = tmp_path / name
    if name == "x.dcm":
        plain = Path(pydicom.data.get_testdata_file("CT_small.dcm"))
    else:
        picture(plain, 1)
    for label in ("a", "b"):
        hide(plain, tmp_path / "hidden" / label / name)
    plain_source = DataConfig(
        source="dicom" if name == "x.dcm" else "images", path=str(tmp_path / "hidden"), channels=1
    )
    with pytest.raises(DataError, match=r"is hidden; read it as it is: set data.source to hidden"):
        open_source(plain_source).read(0)


def test_files_of_two_derivations_are_not_one_source(tree: Path) -> None:
    older = Path(__file__).parents[1] / "crypto" / "fixtures" / "hidden-version-1"
    recipe = Recipe(purpose="training", cipher=CipherConfig(block=8, negate=True), size=16)
    mixed = tree.parent / "mixed"
    for name in ("sick", "well"):
        shutil.copytree(older / "training" / name, mixed / name)
    (mixed / "well" / "c.dcm").unlink()
    assert open_source(config(mixed)).hidden == HiddenUnder("block-pixel", 8, KEY.fingerprint, 1)
    hide(older / "plain" / "well" / "a.png", mixed / "well" / "z.png", recipe)
    skipped = {each.path: each.reason for each in open_source(config(mixed)).skipped}
    assert skipped["well/z.png"] == "is hidden otherwise than the others"
