"""Killed at any file operation, export and predict leave no model that opens images on a disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from killed import every_point, files_with

from crypto.files import scratch
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from fl_client.deployment.own_keys import OwnKeys
from fl_client.export.fields import SEALED
from fl_client.export.held import MODELS, find_kept
from fl_client.export.kept import keep, open_kept
from fl_client.export.ready import from_folder
from fl_client.export.sealed_model import open_sealed
from fl_client.export.write import export_hidden
from fl_client.stems import StemVault

FIXTURES = Path(__file__).parent / "fixtures"
SECRET = bytes(range(32))
KEYS = OwnKeys(Keyring(SiteKey(SECRET, "st-anna")))
STEM = "patch_embed.proj.weight"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of the test's own; nothing waits for the disk, and nothing fits into memory."""
    torch.set_num_threads(1)
    for name in ("temporary", "out"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(scratch, "CHUNK_BYTES", 1024)
    monkeypatch.setattr(scratch, "MOST_CHUNKS", 1)


@pytest.fixture
def needles() -> dict[str, bytes]:
    """What a model file begins with, pieces of the stem, and the secret."""
    kept = open_kept(find_kept(FIXTURES / "site-v1" / MODELS, None), KEYS.own)
    stem = kept.tensors[STEM].numpy().tobytes()
    return {"header": STEM.encode(), "stem": stem[:32], "end of stem": stem[-32:], "secret": SECRET}


def test_an_export_killed_anywhere_leaves_no_open_model(tmp_path: Path, needles: dict[str, bytes]) -> None:
    kept = open_kept(find_kept(FIXTURES / "site-v1" / MODELS, None), KEYS.own)

    def export() -> None:
        shutil.rmtree(tmp_path / "out" / "model", ignore_errors=True)
        export_hidden(kept, KEYS, tmp_path / "out" / "model")

    for at in every_point(export, step=11):
        assert files_with(needles, tmp_path) == [], at
    assert needles["stem"] in open_sealed(tmp_path / "out" / "model" / SEALED, KEYS.own)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_opening_one_killed_anywhere_writes_nothing(tmp_path: Path, needles: dict[str, bytes]) -> None:
    for at in every_point(lambda: from_folder(FIXTURES / "exported-hidden-v2", lambda: KEYS)):
        assert files_with(needles, tmp_path) == [], at
        assert list((tmp_path / "temporary").iterdir()) == []


def test_what_a_site_keeps_is_never_open(tmp_path: Path, needles: dict[str, bytes]) -> None:
    kept = open_kept(find_kept(FIXTURES / "site-v1" / MODELS, None), KEYS.own)
    vault = StemVault(tmp_path / "out", run="run", subkey=KEYS.own.current.subkey("state"))

    def save() -> None:
        vault.save(1, {STEM: kept.tensors[STEM]})
        keep(tmp_path / "out" / "models", KEYS.own.current, kept)

    for at in every_point(save):
        assert files_with(needles, tmp_path) == [], at
