"""What is hidden and shown honours the umask of who hides and shows it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crypto import sealed_file
from crypto.cli import main
from crypto.tree.run import run_tree
from crypto.tree.workers import Alone


@pytest.mark.parametrize("umask", [0o077, 0o022])
@pytest.mark.parametrize("words", [["--for", "archive"], ["--for", "archive", "--seal"]])
def test_a_hidden_tree_and_file_are_no_wider_than_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int, words: list[str]
) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    if umask == 0o022:
        # Processes of their own do the work under the narrower one.
        monkeypatch.setitem(run_tree.__kwdefaults__, "crew", Alone)
    monkeypatch.setenv("MEDVEIL_PASSPHRASE", "seven horses correct the battery")
    images = tmp_path / "images" / "inner"
    images.mkdir(parents=True)
    for number in range(2):
        Image.fromarray(np.full((16, 16), number, np.uint8)).save(images / f"{number}.png")
    before = os.umask(umask)
    try:
        key = tmp_path / "keys" / "a.key"
        key.parent.mkdir()
        assert main(["keygen", "--site", "anna", "--out", str(key)]) == 0
        for source, target in ((images.parent, tmp_path / "hidden"), (images / "0.png", tmp_path / "one.png")):
            out = target.with_suffix(".mvseal") if "--seal" in words and source.is_file() else target
            assert main(["encrypt", str(source), str(out), "--key", str(key), "--block", "8", *words]) == 0
        assert main(["decrypt", str(tmp_path / "hidden"), str(tmp_path / "shown"), "--key", str(key)]) == 0
    finally:
        os.umask(before)
    made = [each for each in tmp_path.rglob("*") if "images" not in each.parts]
    assert any(each.suffix in {".png", ".mvseal"} for each in made if "hidden" in each.parts)
    for each in made:
        mode = each.stat().st_mode & 0o777
        assert not mode & umask, (each, oct(mode))
        if each.suffix == ".png" and "shown" in each.parts:
            assert not mode & 0o077, (each, oct(mode))
