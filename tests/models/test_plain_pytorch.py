"""The snippet of the documentation that trains on hidden files without MedVeil, run as it is printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from crypto.cipher import make_cipher
from crypto.config import CipherConfig
from crypto.keys import SiteKey

ROOT = Path(__file__).parents[2]
MARK = 'Path("hidden")'


def snippet() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    (found,) = [block for block in blocks if MARK in block]
    return str(found)


def hide(folder: Path) -> None:
    """Two classes of one image each, as `medveil-crypto encrypt --for training --size 224` hides them."""
    rng = np.random.default_rng(0)
    cipher = make_cipher(CipherConfig(block=16), SiteKey.generate("mercy"), channels=1, height=224, width=224)
    for label, name in enumerate(("glioma", "no_tumor")):
        (folder / name).mkdir(parents=True)
        plain = rng.integers(0, 100, (1, 1, 224, 224), dtype=np.uint8) + np.uint8(120 * label)
        for number, image in enumerate(cipher.encrypt(plain)):
            Image.fromarray(image[0]).save(folder / name / f"{number}.png")


def test_it_trains_as_printed(tmp_path: Path) -> None:
    hide(tmp_path / "hidden")
    # A process of its own, in which nothing of ours has prepared an import.
    done = subprocess.run(
        [sys.executable, "-c", snippet()], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    losses = [float(line.rsplit(" ", 1)[1]) for line in done.stdout.splitlines()]
    assert len(losses) == 20
    assert losses[-1] < min(0.2, losses[0])
