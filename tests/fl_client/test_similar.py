"""Images that look alike: joined as a plain reading of the definition joins them, kept together, and counted."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from labelled_trees import put
from PIL import Image
from planned_site import MakePlan, setup

from crypto.imaging import preprocess
from fl_client.data import neighbours, similar
from fl_client.data.config import DataConfig, PartitionConfig, PhantomConfig, check_data_config
from fl_client.data.documents import Documents
from fl_client.data.neighbours import FILE, Near, near_training
from fl_client.data.partition import Parts, site_parts
from fl_client.data.similar import SIDE, alike, components, has_neighbour, small
from fl_client.data.site_shares import grouped_by
from fl_client.data.source import Source, open_source
from fl_client.data.standing import settings_of
from fl_client.export.together import grouping, told_of_similar
from fl_client.site import Site
from medveil.errors import ConfigError, DataError, MedVeilError

T = 0.93
Bytes = npt.NDArray[np.uint8]


@pytest.fixture(autouse=True)
def forgetful() -> None:
    neighbours._found.clear()


def smooth(n: int, seed: int, side: int = SIDE) -> Bytes:
    """Unlike images (n, side, side): few values, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 6, 6), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(each).resize((side, side), Image.Resampling.BICUBIC)) for each in coarse]
    )


def noisy(image: Bytes, noise: float, seed: int) -> Bytes:
    rng = np.random.default_rng(seed)
    return np.clip(np.rint(image + rng.normal(0, noise, image.shape)), 0, 255).astype(np.uint8)


@functools.lru_cache
def correlations(images: bytes) -> npt.NDArray[np.float64]:
    """(n, n); 0 where an image is of one grey value."""
    made = np.frombuffer(images, np.uint8).reshape(-1, SIDE * SIDE).astype(float)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.corrcoef(made))


def slowly(images: Bytes, threshold: float, together: Sequence[object] | None = None) -> list[int]:
    """The groups by the definition: every pair, one after another."""
    group = list(range(len(images)))

    def join(i: int, j: int) -> None:
        old, new = group[j], group[i]
        group[:] = [new if each == old else each for each in group]

    for i in range(len(images)):
        for j in range(i + 1, len(images)):
            one = together is not None and together[i] is not None and together[i] == together[j]
            if one or correlations(images.tobytes())[i, j] > threshold:
                join(i, j)
    first: dict[int, int] = {}
    return [first.setdefault(each, len(first)) for each in group]


@pytest.fixture(scope="module")
def drawn() -> Bytes:
    """Images of a chain (each like the next, the ends not), of near copies, of one grey value, and alone."""
    lone = smooth(12, 1)
    far = smooth(2, 2).astype(float)
    chain = [far[0] + (far[1] - far[0]) * step for step in np.linspace(0, 1, 9)]
    copies = [noisy(lone[0], 8, seed) for seed in range(3)]
    flat = np.stack([np.full((SIDE, SIDE), level, np.uint8) for level in (0, 0, 128, 255)])
    made = np.concatenate([lone, np.rint(chain).astype(np.uint8), np.stack(copies), flat])
    return made[np.random.default_rng(3).permutation(len(made))].reshape(len(made), -1)


@pytest.mark.parametrize("block", [1, 5, 64])
@pytest.mark.parametrize("threshold", [0.5, T, 0.999])
def test_groups_are_those_of_the_definition(
    drawn: Bytes, monkeypatch: pytest.MonkeyPatch, block: int, threshold: float
) -> None:
    monkeypatch.setattr(similar, "_BLOCK", block)
    assert components(drawn, threshold).tolist() == slowly(drawn, threshold)
    together = [f"p{i % 9}" if i % 3 else None for i in range(len(drawn))]
    assert components(drawn, threshold, together=together).tolist() == slowly(drawn, threshold, together)
    found = has_neighbour(drawn[:10], drawn[10:], threshold)
    assert found.tolist() == (correlations(drawn.tobytes())[:10, 10:] > threshold).any(axis=1).tolist()


def test_a_chain_is_one_group_and_images_of_one_grey_value_are_like_none(drawn: Bytes) -> None:
    groups = components(drawn, T)
    assert np.bincount(groups).max() >= 9
    flat = groups[drawn.std(axis=1) == 0]
    assert len(set(flat.tolist())) == len(flat) == 4
    assert not np.isin(groups[drawn.std(axis=1) > 0], flat).any()
    nothing = np.zeros((0, SIDE * SIDE), np.uint8)
    assert components(nothing, T).tolist() == []
    assert has_neighbour(nothing, drawn, T).tolist() == []
    assert components(np.zeros((5, SIDE * SIDE), np.uint8), T).tolist() == [0, 1, 2, 3, 4]


def test_what_is_near_the_threshold_is_decided_exactly() -> None:
    """The threshold is moved to just below and just above a pair's own correlation, beyond single precision."""
    base = smooth(1, 5)[0]
    pair = np.stack([base, noisy(base, 20, 1)]).reshape(2, -1)
    a, b = pair.astype(object)
    n = len(a)
    covaries = n * int((a * b).sum()) - int(a.sum()) * int(b.sum())
    varies = [n * int((x * x).sum()) - int(x.sum()) ** 2 for x in (a, b)]
    exact = float(np.sqrt(float(Fraction(covaries**2, varies[0] * varies[1]))))
    block = similar._block(pair)
    for off in (1e-3, 1e-6, 1e-9, 1e-12):
        assert components(pair, exact - off).tolist() == [0, 0]
        assert components(pair, exact + off).tolist() == [0, 1]
        assert len(alike(block, block, exact + off)[0]) == 2


def test_memory_is_bounded_however_many_look_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similar, "_BLOCK", 64)
    images = np.repeat(smooth(1, 0).reshape(1, -1), 150, axis=0)
    most = []
    joined = similar._joined

    def watched(group: Any, rows: Any, columns: Any) -> Any:
        most.append(len(rows))
        return joined(group, rows, columns)

    monkeypatch.setattr(similar, "_joined", watched)
    assert set(components(images, T).tolist()) == {0}
    assert max(most) <= 64 * 64


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 1.0, -0.5, 1.5, float("nan"), float("inf"), float("-inf")])
def test_a_threshold_out_of_range_is_refused_before_any_file_is_looked_at(value: float, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.similar.*a correlation above 0 and below 1"):
        open_source(DataConfig(source="images", path=str(tmp_path / "none"), similar=value))


def test_settings_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"similar, or COLUMN\+similar"):
        check_data_config(DataConfig(source="images", path="x", group_by="+similar"))
    for group_by in ("similar", "patient+similar"):
        with pytest.raises(ConfigError, match="hidden images show no likeness"):
            open_source(DataConfig(source="hidden", path=str(tmp_path), group_by=group_by))


def test_what_images_are_grouped_by_is_told_with_and_without(tmp_path: Path) -> None:
    def by(source: str, group_by: str | None) -> str | None:
        return grouped_by(DataConfig(source=source, path="x", group_by=group_by))

    assert [by("images", each) for each in (None, "none", "similar", "none+similar", "p", "p+similar")] == [
        None,
        None,
        "similar",
        "similar",
        "p",
        "p+similar",
    ]
    assert [by("dicom", each) for each in (None, "similar", "none+similar")] == [
        "PatientID",
        "PatientID+similar",
        "similar",
    ]


# -- sources -----------------------------------------------------------------------------------------------------------


def npz(path: Path, images: Bytes, **more: Any) -> DataConfig:
    labels = np.arange(len(images)) % 2
    np.savez(path, images=images, labels=labels, **more)
    return DataConfig(source="npz", path=str(path), group_by="similar")


@pytest.fixture
def copied() -> Bytes:
    """30 images (30, 20, 20): three copies of each of ten, copy by copy."""
    lone = smooth(10, 7, side=20)
    return np.concatenate([lone, *(np.stack([noisy(each, 4, 1) for each in lone]) for _ in range(2))])


def groups_of(source: Source) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for i, item in enumerate(source.items):
        found.setdefault(item.group or item.id, []).append(i)
    return sorted(found.values())


def test_copies_stay_together_in_every_split(tmp_path: Path, copied: Bytes) -> None:
    config = npz(tmp_path / "a.npz", copied)
    source = open_source(config)
    assert groups_of(source) == [[i, i + 10, i + 20] for i in range(10)]
    assert source.similar == (T, 10, 3)
    patients = npz(tmp_path / "p.npz", copied, patient=np.r_[0, 0, np.arange(2, 30)])
    patients.group_by = "patient+similar"
    assert groups_of(open_source(patients)) == [[0, 1, 10, 11, 20, 21], *([i, i + 10, i + 20] for i in range(2, 10))]
    patients.group_by = "none"
    assert len(groups_of(open_source(patients))) == 30
    said = "images that look alike (correlation above 0.93) stay together: 30 images in 10 groups, the largest of 3"
    assert said in source.remarks
    for test in ("common", "partitioned"):
        config.partition = PartitionConfig(test=test, min_per_site=1)
        for seed in range(4):
            parts = [site_parts(source, config, sites=2, index=i, seed=seed) for i in range(2)]
            places = [set((getattr(p, name) % 10).tolist()) for p in parts for name in ("train", "validation")]
            places += [set((p.test % 10).tolist()) for p in (parts[:1] if test == "common" else parts)]
            assert sum(map(len, places)) == len(set.union(*places)) == 10


def test_images_of_folders_tables_and_dicom_are_joined_the_same(tmp_path: Path, copied: Bytes) -> None:
    rows = ["path,label,patient"]
    for i, image in enumerate(copied[:20]):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        name = f"{'ab'[i % 2]}/{i:02d}.png"
        Image.fromarray(image).save(tmp_path / name)
        rows.append(f"{name},{'ab'[i % 2]},{'p' if i in (3, 4) else f'q{i}'}")
    (tmp_path / "a" / "98.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    pairs = [["00", "10"], ["01", "11"], ["02", "12"], ["03", "13"], ["04", "14"]]

    def found(config: DataConfig) -> list[list[str]]:
        source = open_source(config)
        named = [[Path(source.items[i].id).stem for i in own] for own in groups_of(source)]
        return sorted(sorted(own) for own in named if len(own) > 1)

    folder = DataConfig(source="images", path=str(tmp_path), group_by="similar")
    assert found(folder)[:5] == pairs
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    table = DataConfig(source="images", path=str(tmp_path), labels="labels.csv", group_by="patient+similar")
    assert ["03", "04", "13", "14"] in found(table)
    assert found(table)[:3] == pairs[:3]
    table.group_by = "none+similar"
    assert found(table)[:5] == pairs
    # A patient of several images is not torn apart because likeness alone was asked for.
    table.group_by = "similar"
    with pytest.raises(DataError, match=r"data\.group_by=patient\+similar, or data\.group_by=none\+similar"):
        open_source(table)
    (tmp_path / "labels.csv").write_text("\n".join(rows).replace("patient", "similar") + "\n")
    with pytest.raises(DataError, match=r"has a column 'similar', which .* means images that look alike.*rename"):
        open_source(table)


def test_phantoms_join_patients_and_likeness(tmp_path: Path) -> None:
    phantoms = PhantomConfig(sites=1, images=12, classes=2, size=32)
    config = DataConfig(
        path=str(tmp_path / "p"), phantoms=phantoms, image_size=16, group_by="similar", similar=0.999999
    )
    apart = open_source(config)
    assert apart.similar is not None
    assert apart.similar.groups == 6  # Two images a patient, and no two patients alike.
    config.similar = 0.05
    joined = open_source(config)
    assert joined.similar is not None
    assert joined.similar.largest > 6
    assert any("look alike, directly or through others" in each for each in joined.remarks)


def test_an_official_split_that_tears_copies_apart_is_refused(tmp_path: Path, copied: Bytes) -> None:
    arrays = {"train_images": copied[:20], "test_images": copied[20:]}
    np.savez(tmp_path / "b.npz", **arrays, train_labels=np.arange(20) % 2, test_labels=np.arange(10) % 2)
    config = DataConfig(source="npz", path=str(tmp_path / "b.npz"), group_by="similar")
    with pytest.raises(DataError, match=r"stands in more than one official split.*data\.split=drawn"):
        site_parts(open_source(config), config, sites=1, index=0, seed=0)
    config.split = "drawn"
    assert len(site_parts(open_source(config), config, sites=1, index=0, seed=0).test)


def test_too_much_alike_says_to_raise_the_threshold(tmp_path: Path) -> None:
    base = smooth(1, 0, side=20)[0]
    config = npz(tmp_path / "c.npz", np.stack([noisy(base, 3, seed) for seed in range(20)]))
    with pytest.raises(DataError, match=r"20 images are 1 groups of such that look alike: raise data\.similar"):
        site_parts(open_source(config), config, sites=1, index=0, seed=0)


def test_settings_of_a_run_name_the_threshold_where_it_decides(tmp_path: Path, copied: Bytes) -> None:
    config = npz(tmp_path / "d.npz", copied)
    named = settings_of(open_source(config), config, seed=0)
    assert (named["data.group_by"], named["data.similar"]) == ("similar", T)
    config.group_by = None
    assert "data.similar" not in settings_of(open_source(config), config, seed=0)


# -- kept, and counted -------------------------------------------------------------------------------------------------


def test_what_was_found_is_kept_and_holds_no_picture(
    tmp_path: Path, copied: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = npz(tmp_path / "e.npz", copied)
    folder = tmp_path / "site"
    first = open_source(config, kept_in=(Documents(folder),))
    kept = json.loads((folder / FILE).read_text())
    assert sorted(kept) == ["format", "found", "version"]
    assert [len(each) for each in kept["found"].values()] == [30]
    assert (folder / FILE).stat().st_mode & 0o077 == 0
    neighbours._found.clear()
    looked = []
    monkeypatch.setattr(neighbours, "small", lambda pixels: looked.append(1) or small(pixels))
    assert open_source(config, kept_in=(Documents(folder),)).items == first.items
    assert not looked
    # Another threshold, and a file that is no record of ours, are looked for anew.
    config.similar = 0.5
    open_source(config, kept_in=(Documents(folder),))
    assert len(looked) == 30
    neighbours._found.clear()
    (folder / FILE).write_text('{"format": "medveil-similar", "version": 1, "found": {"a": ["x"]}}')
    open_source(config, kept_in=(Documents(folder),))
    assert len(looked) == 60
    neighbours._found.clear()
    kept = json.loads((folder / FILE).read_text())
    kept["found"] = {key: numbers[1:] for key, numbers in kept["found"].items()}
    (folder / FILE).write_text(json.dumps(kept))
    open_source(config, kept_in=(Documents(folder),))
    assert len(looked) == 90


def test_test_images_with_a_neighbour_in_training_are_counted(tmp_path: Path, copied: Bytes) -> None:
    config = npz(tmp_path / "f.npz", copied)
    config.group_by = None
    source = open_source(config)
    none = np.array([], dtype=np.int64)
    # Of the test images 25 has a copy (5) here, 11 at the other site, 29 in validation alone.
    here = Parts(np.array([0, 5]), np.array([9]), np.array([25, 29]))
    there = Parts(np.array([1, 2]), none, np.array([11]))
    near = near_training(source, [here, there], config)
    assert near == Near(T, 3, 2)
    assert str(near).startswith("2 of 3 test images look like a training image (a correlation above 0.93 of grey 48x48")
    assert "data.group_by=similar" in str(near)
    assert near_training(source, [here], config) == Near(T, 2, 1)
    unlike = near_training(source, [Parts(np.array([0]), none, np.array([1]))], config)
    assert str(unlike).startswith("0 of 1 test images")
    assert "group_by" not in str(unlike)


def test_nothing_is_counted_where_groups_are_or_nothing_is_tested_and_not_too_many(
    tmp_path: Path, copied: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = npz(tmp_path / "g.npz", copied, patient=np.arange(30))
    parts = [Parts(np.arange(20), np.array([], dtype=np.int64), np.arange(20, 30))]
    assert near_training(open_source(config), parts, config) is None
    config.group_by = "patient"
    assert near_training(open_source(config), parts, config) is None
    config.group_by = "none"
    near = near_training(open_source(config), parts, config)
    assert near is not None
    assert near.near == 10
    assert (
        near_training(open_source(config), [Parts(np.arange(5), *[np.array([], dtype=np.int64)] * 2)], config) is None
    )
    monkeypatch.setattr(neighbours, "MOST_COUNTED", 29)
    neighbours._found.clear()
    skipped = near_training(open_source(config), parts, config)
    assert str(skipped) == "near duplicates across the split were not counted: there are more than 29 images"


def test_an_image_that_cannot_be_read_is_like_none(tmp_path: Path) -> None:
    put(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(3)))
    (tmp_path / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    (tmp_path / "b" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n cut too")
    source = open_source(DataConfig(source="images", path=str(tmp_path), group_by="similar", channels=1))
    with pytest.raises(MedVeilError):
        source.decoded(0)
    bad = [item.group for item in source.items if item.id.endswith("/0.png")]
    assert bad == [None, None]


# -- the data card -----------------------------------------------------------------------------------------------------


def test_the_data_card_says_it() -> None:
    def grouped(source: str, group_by: str | None) -> str:
        return grouping({"source": source, "group_by": group_by})

    assert grouped("images", "similar") == "images that look alike"
    assert grouped("images", "patient+similar") == "images of one patient and images that look alike"
    assert grouped("dicom", "similar") == "the patient (PatientID) and images that look alike"
    assert grouped("dicom", "none+similar") == "images that look alike"
    assert (grouped("images", None), grouped("dicom", "none")) == ("nothing", "nothing")
    joined = {"similar": {"threshold": 0.9, "groups": 1590, "largest": 0}, "near": None}
    assert told_of_similar(joined, 10) == [
        "- look alike where grey 48x48 versions correlate above 0.9: 1590 groups of the images read, the largest of "
        "fewer than 10"
    ]
    near = {"similar": None, "near": {"threshold": 0.93, "near": 20, "test": 100, "skipped": ""}}
    assert told_of_similar(near, 10) == [
        "- test images that look like a training image (correlation above 0.93): 20 of 100"
    ]
    assert told_of_similar({}, 10) == []


def test_the_small_version_is_pillows_own() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)
    right = Image.fromarray(colour).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    assert np.array_equal(small(colour), np.asarray(right).ravel())
    assert np.array_equal(small(colour[..., 0]), preprocess.to_square(colour[..., 0], size=SIDE, channels=1).ravel())


def test_a_hospital_says_it_keeps_what_was_found_and_tells_it_coarsely(
    tmp_path: Path, copied: Bytes, planned: MakePlan, caplog: pytest.LogCaptureFixture
) -> None:
    config = npz(tmp_path / "h.npz", copied)
    settings = ["sites=1", "cipher.block=4", "data.image_size=16", f"data.path={config.path}", "data.classes=null"]
    for group_by in ("null", "similar"):
        plan = planned(*settings, f"data.group_by={group_by}")
        with caplog.at_level("WARNING", logger="medveil.site"):
            caplog.clear()
            neighbours._found.clear()
            site = Site(plan.run, setup(plan, tmp_path / group_by))
        said = [each.message for each in caplog.records if "look" in each.message]
        assert len(said) == 1
        assert (tmp_path / group_by / FILE).is_file()
        near = site.images.near()
        if group_by == "similar":
            assert "30 images in 10 groups, the largest of 3" in said[0]
            assert near is None
        else:
            assert near is not None
            assert said == [f"site-1: {near}"]
            assert near.near > 0
