from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from fl_client.data.config import DataConfig, PartitionConfig, PhantomConfig
from fl_client.data.partition import site_parts
from fl_client.data.phantoms import CLASSES, draw_phantoms, draw_slice
from fl_client.data.rng import generator
from fl_client.data.source import Source, open_source, read_many
from medveil.errors import DataError, StorageError

SMALL = {"sites": 3, "images": 16, "size": 48}


def phantoms(path: Path, **settings: Any) -> Source:
    config = DataConfig(source="phantoms", path=str(path), phantoms=PhantomConfig(**{**SMALL, **settings}))
    return open_source(config)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_phantoms_are_dicom_files_any_reader_opens(tmp_path: Path) -> None:
    source = phantoms(tmp_path / "p")
    assert source.classes == CLASSES
    assert (len(source), source.size, source.channels, source.skipped) == (48, 48, 1, ())
    files = sorted((tmp_path / "p").rglob("*.dcm"))
    headers = [pydicom.dcmread(path) for path in files]
    assert len({str(each.SOPInstanceUID) for each in headers}) == len(files)
    assert len({each.PatientID for each in headers}) == 24
    for each in headers:
        assert each.pixel_array.shape == (each.Rows, each.Columns)
        assert each.file_meta.MediaStorageSOPInstanceUID == each.SOPInstanceUID
        assert pydicom.uid.UID(each.StudyInstanceUID).is_valid
    assert {each.Manufacturer for each in headers} == {"Norrland Imaging", "Helvetia Medical", "Pacifica Scanners"}
    assert {each.Modality for each in headers} == {"MR", "CT"}
    assert {each.Rows for each in headers} == {48, 60, 72}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    phantoms(tmp_path / "a")
    phantoms(tmp_path / "b")
    phantoms(tmp_path / "c", seed=1)
    first = digests(tmp_path / "a")
    assert first == digests(tmp_path / "b")
    assert not set(first.values()) & set(digests(tmp_path / "c").values()) - {first["labels.csv"]}


def test_sites_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    phantoms(tmp_path / "a", sites=1)
    phantoms(tmp_path / "b", sites=2)
    few, many = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert all(many[name] == digest for name, digest in few.items() if name.endswith(".dcm"))


def test_phantoms_are_kept_replaced_and_never_drawn_over_something_else(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    config = PhantomConfig(**{**SMALL, "images": 4})
    assert draw_phantoms(folder, config)
    assert not draw_phantoms(folder, config)
    assert draw_phantoms(folder, PhantomConfig(**{**SMALL, "images": 2}))
    assert len(list(folder.rglob("*.dcm"))) == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="holds something else than phantoms"):
        draw_phantoms(tmp_path / "mine", config)
    with pytest.raises(StorageError):
        draw_phantoms(tmp_path / "mine" / "thesis.txt" / "p", config)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter(range(100))

    def stop(*_: Any, **__: Any) -> None:
        if next(calls) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("fl_client.data.phantoms.write_phantom", stop)
    with pytest.raises(KeyboardInterrupt):
        phantoms(tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir()] == [".p.lock"]


def test_sites_that_start_together_draw_once(tmp_path: Path) -> None:
    config = PhantomConfig(**{**SMALL, "images": 8})
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: draw_phantoms(tmp_path / "p", config), range(4)))
    assert sorted(drawn) == [False, False, False, True]


def test_each_hospital_has_its_own_scanner(tmp_path: Path) -> None:
    source = phantoms(tmp_path / "p")
    config = DataConfig(path=str(tmp_path), partition=PartitionConfig(kind="site"))
    for index in range(3):
        parts = site_parts(source, config, sites=3, index=index, seed=0)
        together = np.concatenate([parts.train, parts.validation, parts.test])
        assert {source.items[i].site for i in together} == {f"Hospital {index + 1}"}
        assert len(together) == 16


@pytest.mark.slow
def test_brightness_does_not_tell_the_class_but_the_shape_does(tmp_path: Path) -> None:
    source = phantoms(tmp_path / "p", sites=4, images=80)
    labels = np.array([item.label for item in source.items])
    images = read_many(source, range(len(source))).reshape(len(labels), -1).astype(float)
    mean = images.mean(axis=1, keepdims=True)
    chance = cross_val_score(LogisticRegression(), (mean - mean.mean()) / mean.std(), labels, cv=5).mean()
    assert chance < 0.36
    darkest = [images[labels == k].mean() for k in range(4)]
    assert max(darkest) - min(darkest) < 0.15 * np.mean(darkest)


def test_lesions_are_what_they_are_called() -> None:
    drawn = {kind: draw_slice(kind, size=64, rng=generator(0, "test", 1)) for kind in CLASSES}
    base = drawn["none"]
    assert base.min() == 0
    assert 0.3 < base[base > 0].mean() < 0.6
    for kind in CLASSES[1:]:
        assert np.percentile(drawn[kind] - base, 99) > 0.25, kind
