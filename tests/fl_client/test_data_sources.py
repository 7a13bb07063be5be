from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from crypto.imaging.preprocess import percentiles_to_bytes, to_square, window_to_bytes
from fl_client.data.config import DataConfig
from fl_client.data.source import Source, open_source, read_many
from medveil.errors import ConfigError, DataError
from medveil.sheets import sheet


def picture(seed: int, shape: tuple[int, ...] = (20, 20)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for label, name in enumerate(("benign", "malignant")):
        (root / name / "deeper").mkdir(parents=True)
        for i in range(3):
            Image.fromarray(picture(10 * label + i)).save(root / name / f"{i}.png")
        Image.fromarray(picture(10 * label + 9)).save(root / name / "deeper" / "9.JPG", quality=95)
    return root


def images(root: Path, **settings: Any) -> Source:
    return open_source(DataConfig(source="images", path=str(root), **settings))


def npz(path: Path, **settings: Any) -> Source:
    return open_source(DataConfig(source="npz", path=str(path), **settings))


# -- class folders ---------------------------------------------------------------------------------------------------


def test_class_folders_give_sorted_classes_and_their_files(tree: Path) -> None:
    source = images(tree, image_size=20)
    assert source.classes == ("benign", "malignant")
    assert [item.id for item in source.items][:4] == [
        "benign/0.png",
        "benign/1.png",
        "benign/2.png",
        "benign/deeper/9.JPG",
    ]
    assert [item.label for item in source.items] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert source.channels == 1
    np.testing.assert_array_equal(source.read(1)[0], picture(1))
    assert read_many(source, [0, 4, 7]).shape == (3, 1, 20, 20)


def test_resized_to_a_square_and_brought_to_the_channels_asked_for(tree: Path) -> None:
    Image.fromarray(picture(5, (40, 24, 3))).save(tree / "benign" / "colour.png")
    source = images(tree, image_size=16, channels=3)
    assert read_many(source, range(len(source))).shape == (9, 3, 16, 16)
    grey = source.read(0)
    np.testing.assert_array_equal(grey[0], grey[2])
    assert images(tree).size == 224


def test_files_that_are_no_images_are_skipped_by_name(tree: Path) -> None:
    (tree / "benign" / "notes.txt").write_text("hello")
    (tree / "README").write_text("hello")
    (tree / ".hidden").mkdir()
    (tree / ".hidden" / "x.png").write_bytes(b"")
    (tree / "benign" / "Thumbs.db").write_bytes(b"")
    source = images(tree, image_size=16)
    assert {each.path: each.reason for each in source.skipped} == {
        "README": "not inside a class folder",
        "benign/notes.txt": "not an image",
    }
    assert len(source) == 8


def test_a_file_name_that_is_no_text_is_skipped(tree: Path) -> None:
    os.rename(os.fsencode(tree / "benign" / "0.png"), os.fsencode(tree / "benign") + b"/\xff.png")
    source = images(tree)
    assert [each.reason for each in source.skipped] == ["its name is not valid UTF-8"]


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "missing"])
def test_an_unreadable_image_raises_by_name_and_leaves_the_others(tree: Path, damage: str) -> None:
    bad = tree / "benign" / "deeper" / "9.JPG"
    whole = bad.read_bytes()
    source = images(tree, image_size=16)
    contents = {"truncated": whole[: len(whole) // 2], "text": b"not an image", "empty": b""}
    bad.unlink() if damage == "missing" else bad.write_bytes(contents[damage])
    with pytest.raises(DataError, match=r"benign/deeper/9\.JPG") as raised:
        source.read(3)
    assert "\n" not in str(raised.value)
    assert source.read(2).shape == (1, 16, 16)


def test_an_image_smaller_than_asked_for_is_an_error_by_name(tree: Path) -> None:
    Image.fromarray(picture(1, (15, 40))).save(tree / "benign" / "0.png")
    source = images(tree, image_size=16)
    with pytest.raises(DataError, match=r"benign/0\.png: is 40x15 pixels, smaller than data\.min_side 16"):
        source.read(0)
    assert images(tree, image_size=16, min_side=15).read(0).shape == (1, 16, 16)


def test_deep_grey_palette_alpha_and_turned_images_are_read(tree: Path) -> None:
    deep = (np.arange(400, dtype=np.uint16) * 9).reshape(20, 20)
    folder = tree / "benign"
    Image.fromarray(deep).save(folder / "a-deep.png")
    Image.fromarray(picture(2, (20, 20, 4)), "RGBA").save(folder / "b-alpha.png")
    Image.fromarray(picture(3, (20, 20, 3))).quantize(16).save(folder / "c-palette.png")
    tall = Image.fromarray(np.vstack([np.zeros((10, 20), np.uint8), np.full((10, 20), 255, np.uint8)]))
    exif = Image.Exif()
    exif[0x0112] = 3
    tall.save(folder / "d-turned.jpg", exif=exif)
    source = images(tree, image_size=20, channels=1)
    at = {item.id: i for i, item in enumerate(source.items)}
    low, high = np.percentile(deep, (0.5, 99.5))
    shown = source.read(at["benign/a-deep.png"])[0]
    np.testing.assert_array_equal(shown, np.rint(np.clip((deep - low) / (high - low), 0, 1) * 255))
    turned = source.read(at["benign/d-turned.jpg"])[0]
    assert turned[0].min() > 200
    assert turned[-1].max() < 50
    assert images(tree, image_size=20, channels=3).read(at["benign/b-alpha.png"]).shape == (3, 20, 20)


def test_missing_empty_and_foreign_folders_are_refused(tmp_path: Path, tree: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        images(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        images(tmp_path / "empty")
    with pytest.raises(DataError, match="is not a folder"):
        images(tree / "benign" / "0.png")
    (tmp_path / "texts" / "a").mkdir(parents=True)
    (tmp_path / "texts" / "a" / "x.txt").write_text("x")
    with pytest.raises(DataError, match=r"no usable image \(1 files were skipped"):
        images(tmp_path / "texts")


def test_everything_unreadable_is_an_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of 2 images can be read"):
        images(tmp_path)


def test_one_class_only_and_unknown_labels_are_refused(tree: Path) -> None:
    assert images(tree, classes=["malignant", "benign", "unclear"]).items[0].label == 1
    with pytest.raises(DataError, match=r"unknown label 'malignant'.*data\.classes are benign, other"):
        images(tree, classes=["benign", "other"])
    for file in (tree / "malignant").rglob("*.*"):
        file.unlink()
    with pytest.raises(DataError, match="one class only"):
        images(tree)


def test_links_are_followed_and_loops_are_not(tree: Path) -> None:
    (tree / "benign" / "loop").symlink_to(tree / "benign")
    (tree / "third").symlink_to(tree / "malignant")
    assert images(tree, image_size=16).classes in {("benign", "malignant"), ("benign", "third")}


# -- labels in a CSV -------------------------------------------------------------------------------------------------


def with_csv(tree: Path, text: str) -> Path:
    (tree / "labels.csv").write_text(text)
    return tree


def test_csv_gives_labels_groups_and_sites(tree: Path) -> None:
    rows = "path,label,patient,site\nbenign/0.png,b,p1,X\nmalignant/0.png,a,p1,X\nbenign/1.png,a,,Y\n"
    source = images(with_csv(tree, rows), labels="labels.csv", group_by="patient")
    assert source.classes == ("a", "b")
    assert [(i.id, i.label, i.group, i.site) for i in source.items] == [
        ("benign/0.png", 1, "p1", "X"),
        ("benign/1.png", 0, None, "Y"),
        ("malignant/0.png", 0, "p1", "X"),
    ]


def test_csv_naming_missing_files_skips_them_by_name(tree: Path) -> None:
    rows = "path,label\nbenign/0.png,b\nbenign/77.png,b\nmalignant/0.png,a\n"
    source = images(with_csv(tree, rows), labels="labels.csv")
    assert len(source) == 2
    assert source.skipped == (("benign/77.png", "named in labels.csv, but there is no such file"),)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("file,label\nbenign/0.png,b\n", "no column 'path'"),
        ("path,class\nbenign/0.png,b\n", "no column 'label'"),
        ("", "no column 'path'"),
        ("path,label\n", "names no files"),
        ("path,label\nbenign/0.png,b\nbenign/./0.png,a\n", "lines 2 and 3 both name"),
        ("path,label\nbenign/0.png,\n", "line 2 has no label"),
        ("path,label\n,b\n", "line 2 has no path"),
        ("path,label\nbenign/0.png\n", "line 2 has no label"),
    ],
)
def test_bad_csv_is_refused_saying_where(tree: Path, rows: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        images(with_csv(tree, rows), labels="labels.csv")


def test_csv_that_is_missing_or_no_text_is_refused(tree: Path) -> None:
    with pytest.raises(DataError, match=r"no such labels file; .*; data.labels=null takes the names of class folders"):
        images(tree, labels="labels.csv")
    (tree / "labels.csv").write_bytes(b"path,label\n\xff\xfe,b\n")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        images(tree, labels="labels.csv")


def test_all_files_of_a_csv_missing_is_an_error(tree: Path) -> None:
    with pytest.raises(DataError, match=r"no usable image \(2 files were skipped, 2 because: named in labels\.csv"):
        images(with_csv(tree, "path,label\nx.png,a\ny.png,b\n"), labels="labels.csv")


def test_unknown_group_column_is_refused_and_an_unused_one_warned_of(tree: Path) -> None:
    with_csv(tree, "path,label,group\nbenign/0.png,b,1\nmalignant/0.png,a,2\n")
    with pytest.raises(DataError, match="no column 'patient'"):
        images(tree, labels="labels.csv", group_by="patient")
    with pytest.raises(DataError, match="class folders have no columns"):
        images(tree, group_by="patient")
    assert "data.group_by does not use" in images(tree, labels="labels.csv").warnings[0]
    assert images(tree, labels="labels.csv", group_by="group").warnings == ()


# -- npz -------------------------------------------------------------------------------------------------------------


def parts(n: int = 6, **extra: Any) -> dict[str, Any]:
    made: dict[str, Any] = dict(extra)
    for seed, key in enumerate(("train", "val", "test")):
        made[f"{key}_images"] = picture(seed, (n, 28, 28))
        made[f"{key}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
    return made


def test_npz_keeps_the_official_split_and_the_pixels(tmp_path: Path) -> None:
    arrays = parts()
    np.savez_compressed(tmp_path / "m.npz", **arrays)
    source = npz(tmp_path / "m.npz")
    assert (source.size, source.channels, source.classes, len(source)) == (28, 1, ("0", "1"), 18)
    assert [item.split for item in source.items] == ["train"] * 6 + ["validation"] * 6 + ["test"] * 6
    assert source.items[7].id == "val/1"
    np.testing.assert_array_equal(source.read(8)[0], arrays["val_images"][2])


def test_npz_with_classes_colour_and_groups(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    made: Any = {
        "images": picture(0, (4, 20, 20, 3)),
        "labels": np.array([0, 1, 2, 1]),
        "classes": np.array(["x", "y", "z"]),
    }
    np.savez(path, patient=np.array([5, 5, 6, 7]), **made)
    source = npz(path, group_by="patient")
    assert source.channels == 3
    assert source.classes == ("x", "y", "z")
    assert [item.group for item in source.items] == ["5", "5", "6", "7"]
    np.testing.assert_array_equal(source.read(2), made["images"][2].transpose(2, 0, 1))
    reordered = npz(path, classes=["z", "y", "x"])
    assert [item.label for item in reordered.items] == [2, 1, 0, 1]
    with pytest.raises(DataError, match="unknown label 'z'"):
        npz(path, classes=["x", "y"])


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"pictures": np.zeros(3)}, "no arrays 'images' and 'labels'"),
        ({"images": np.zeros((3, 20, 20)), "labels": np.zeros(2, int)}, "for 3 images"),
        ({"images": np.zeros((3, 20, 20)), "labels": np.zeros((3, 2), int)}, "one integer per image"),
        ({"images": np.zeros((3, 20, 20)), "labels": np.zeros(3)}, "one integer per image"),
        ({"images": np.zeros((3, 20)), "labels": np.zeros(3, int)}, "has shape"),
        ({"images": np.zeros((3, 20, 20, 2)), "labels": np.zeros(3, int)}, "has shape"),
        ({"images": np.zeros((3, 8, 8)), "labels": np.arange(3)}, r"smaller than data\.min_side"),
        ({"images": np.zeros((3, 20, 20)), "labels": np.array([0, 1, -1])}, "unknown label -1"),
        ({"images": np.zeros((3, 20, 20)), "labels": np.zeros(3, int)}, "one class only"),
        ({"images": np.zeros((0, 20, 20)), "labels": np.zeros(0, int)}, "no|one class"),
        ({"images": np.array([None, 1]), "labels": np.zeros(2, int)}, "Python objects"),
        ({"images": np.zeros((2, 20, 24)), "labels": np.arange(2)}, r"set data\.image_size"),
    ],
)
def test_bad_npz_is_refused(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(DataError, match=says):
        npz(tmp_path / "m.npz")


def test_missing_cut_and_foreign_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with pytest.raises(DataError, match="no such file"):
        npz(path)
    np.savez(path, **parts())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="cannot be read as npz"):
        npz(path)
    path.write_text("hello")
    with pytest.raises(DataError, match="cannot be read as npz"):
        npz(path)
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(DataError, match="cannot be read as npz"):
        npz(tmp_path / "a.npy")
    with pytest.raises(DataError, match="is no plain file"):
        npz(tmp_path)


def test_npz_group_key_must_be_there(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **parts())
    with pytest.raises(DataError, match="no array 'train_patient'"):
        npz(tmp_path / "m.npz", group_by="patient")


# -- all sources -----------------------------------------------------------------------------------------------------


def test_identity_follows_files_and_preprocessing(tree: Path) -> None:
    first = images(tree, image_size=16).identity()
    assert images(tree, image_size=16).identity() == first
    assert images(tree, image_size=20).identity() != first
    assert images(tree, image_size=16, window=[100.0, 50.0]).identity() != first
    os.utime(tree / "benign" / "0.png", (1, 1))
    assert images(tree, image_size=16).identity() != first


def test_limit_keeps_groups_whole_and_classes_alike(tree: Path) -> None:
    rows = "\n".join(f"{c}/{i}.png,{c},{c}{i // 2}" for c in ("benign", "malignant") for i in range(3))
    source = images(with_csv(tree, f"path,label,g\n{rows}\n"), labels="labels.csv", group_by="g", limit=4)
    assert [item.label for item in source.items].count(0) == 2
    assert len(source) == 4
    assert all(source.read(i).shape[0] == 1 for i in range(4))
    with pytest.raises(DataError, match=r"smaller than the smallest group"):
        rows = "\n".join(f"{c}/{i}.png,{c},one" for c in ("benign", "malignant") for i in range(3))
        images(with_csv(tree, f"path,label,g\n{rows}\n"), labels="labels.csv", group_by="g", limit=4)


def test_invalid_settings_are_refused_before_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        open_source(DataConfig(source="jpeg", path=str(tmp_path)))
    with pytest.raises(ConfigError):
        open_source(DataConfig(source="npz"))


def test_windows_and_percentiles() -> None:
    values = np.array([-100.0, 0.0, 50.0, 100.0, 900.0])
    assert window_to_bytes(values, [50, 100]).tolist() == [0, 0, 128, 255, 255]
    assert percentiles_to_bytes(np.full((3, 3), 7)).max() == 0
    padded = np.array([-2000.0] * 50 + list(range(100)))
    shown = percentiles_to_bytes(padded, padded > -1000)
    assert shown[50:].max() - shown[50:].min() == 255
    with pytest.raises(DataError, match="not finite"):
        percentiles_to_bytes(np.array([1.0, np.nan]))


def test_to_square_is_antialiased() -> None:
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    assert np.abs(to_square(stripes, size=8, channels=1).astype(int) - 127).max() < 12


OUTSIDE = [
    "../secret.png",
    "benign/../../secret.png",
    "/etc/hostname",
    "{root}/benign/0.png",
    "~/secret.png",
    "~root/x.png",
    "C:\\secret.png",
    "C:secret.png",
    "..\\secret.png",
    "\\\\host\\share\\x.png",
    "//host/share/x.png",
    "leads/secret.png",
    "leads-file.png",
    "benign/../benign/0.png",
]


@pytest.mark.parametrize("named", OUTSIDE)
def test_a_labels_table_names_no_file_outside_of_the_folder(tree: Path, named: str) -> None:
    outside = tree.parent / "outside"
    outside.mkdir()
    for place in (outside / "secret.png", tree.parent / "secret.png"):
        place.write_bytes(next((tree / "benign").iterdir()).read_bytes())
    (tree / "leads").symlink_to(outside)
    (tree / "leads-file.png").symlink_to(outside / "secret.png")
    with pytest.raises(DataError, match="leads out of the folder") as caught:
        images(with_csv(tree, f"path,label\n{named.format(root=tree)},benign\n"), labels="labels.csv")
    assert "line 2" in str(caught.value)


@pytest.mark.parametrize("named", ["benign/\0.png", "x" * 5000, "benign/\x1b[2J.png"])
def test_names_that_no_file_has_end_with_an_error_of_ours(tree: Path, named: str) -> None:
    with pytest.raises(DataError) as caught:
        images(with_csv(tree, f"path,label\n{named},benign\n"), labels="labels.csv")
    assert str(caught.value).isprintable()


def test_a_folder_reached_by_a_link_is_the_folder(tree: Path) -> None:
    (tree.parent / "link").symlink_to(tree)
    some = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png"))[:2]
    rows = "".join(f"{name},{number}\n" for number, name in enumerate(some))
    with_csv(tree, f"path,label\n{rows}")
    assert len(images(tree.parent / "link", labels="labels.csv")) == 2


def test_a_name_that_a_sheet_would_take_for_a_formula_is_read_as_it_was_written(tree: Path) -> None:
    first, second = sorted(tree.rglob("*.png"))[:2]
    first.rename(tree / "=1+1.png")
    (tree / "labels.csv").write_text(
        sheet([("path", "label"), ("=1+1.png", "a"), (second.relative_to(tree).as_posix(), "-b")])
    )
    source = images(tree, labels="labels.csv")
    assert sorted(source.classes) == ["-b", "a"]
    assert not source.skipped
