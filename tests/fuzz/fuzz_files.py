"""Coverage-guided fuzzing of what reads files from strangers: headers, images, sealed files, arrays and tables.

Not part of the test suite. Install atheris, then from the root of the repository:

    PYTHONPATH=.:tests/support python tests/fuzz/fuzz_files.py -runs=100000

Only `MedVeilError` may come out; anything else ends the run with the input that did it. A corpus folder may be named;
without one a small corpus is made in a temporary folder. libFuzzer's other options work too.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["crypto.files", "crypto.reading", "crypto.tree", "fl_client.data", "medveil"]):
    from crypto.config import CipherConfig
    from crypto.files.header import parse_header
    from crypto.files.raster import BmpFile, JpegFile, PngFile
    from crypto.files.raster_tiff import TiffFile
    from crypto.files.recipe import Recipe
    from crypto.files.sealing import check_sealed, sealed_output
    from crypto.reading.look import open_image
    from crypto.tree.records import Marks, parse_heading, parse_record
    from fl_client.data.config import DataConfig
    from fl_client.data.source import open_source
    from medveil.errors import MedVeilError

import numpy as np
from mutants import with_checksums
from PIL import Image

from crypto.keyring import Keyring
from crypto.keys import SiteKey
from crypto.reading import base
from medveil.disks import leave_small_files_unsynced

KEY = SiteKey(bytes(range(32)), "mercy")
RING = Keyring(KEY)
MARKS = Marks(KEY)
RECIPES = [
    Recipe(purpose=purpose, cipher=CipherConfig(block=2), size=size, identity="sealed")
    for purpose, size in (("archive", None), ("training", 4))
]
# A disk in memory, where there is one.
PLACE = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def written(data: bytes) -> Path:
    path = PLACE / "input"
    path.write_bytes(data)
    return path


def a_header(data: bytes) -> None:
    parse_header(data, where="input")


def a_record(data: bytes) -> None:
    parse_record(data, MARKS)
    parse_heading(data, where=Path("input"))


def a_hidden_png(data: bytes) -> None:
    PngFile().show(written(with_checksums(data)), PLACE / "output", RING)


def a_hidden_tiff(data: bytes) -> None:
    TiffFile().show(written(data), PLACE / "output", RING)


def a_sealed_file(data: bytes) -> None:
    check_sealed(written(data), RING)


def a_png(data: bytes) -> None:
    PngFile().hide(written(with_checksums(data)), PLACE / "output", RECIPES[len(data) % 2], KEY)


def a_tiff(data: bytes) -> None:
    TiffFile().hide(written(data), PLACE / "output", RECIPES[len(data) % 2], KEY)


def a_jpeg(data: bytes) -> None:
    JpegFile().hide(written(data), PLACE / "output", RECIPES[len(data) % 2], KEY)


def a_bmp(data: bytes) -> None:
    BmpFile().hide(written(data), PLACE / "output", RECIPES[len(data) % 2], KEY)


def an_image(data: bytes) -> None:
    """What every door reads of a file: its header, and each image as stored and as shown."""
    opened = open_image(written(with_checksums(data)))
    for frame in range(min(opened.about.frames, 4)):
        opened.stored(frame)
        opened.shown(frame, window=(100.0, 50.0) if len(data) % 2 else None)


def arrays(data: bytes) -> None:
    """An npz file whose archive is whole, and whose images are what stands here."""
    path = PLACE / "arrays.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", data)
        archive.write(PLACE / "work" / "labels.npy", "labels.npy")
    source = open_source(DataConfig(source="npz", path=str(path), min_side=1))
    for index in range(min(len(source), 8)):
        source.read(index)


def a_table(data: bytes) -> None:
    (PLACE / "tree" / "labels.csv").write_bytes(data)
    open_source(DataConfig(source="images", path=str(PLACE / "tree"), labels="labels.csv", image_size=8, min_side=1))


READERS: tuple[Callable[[bytes], None], ...] = (
    a_header,
    a_record,
    a_hidden_png,
    a_hidden_tiff,
    a_sealed_file,
    a_png,
    a_tiff,
    a_jpeg,
    a_bmp,
    an_image,
    arrays,
    a_table,
)


def one_input(data: bytes) -> None:
    """The first byte says who reads the rest."""
    if not data:
        return
    with contextlib.suppress(MedVeilError):
        READERS[data[0] % len(READERS)](data[1:])


def corpus() -> Path:
    """One whole input for each reader."""
    folder, work = PLACE / "corpus", PLACE / "work"
    folder.mkdir()
    work.mkdir()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    for name in ("PNG", "TIFF", "JPEG", "BMP"):
        image.save(work / name, name)
    image.save(work / "LZW", "TIFF", compression="tiff_lzw")
    PngFile().hide(work / "PNG", work / "hidden.png", RECIPES[0], KEY)
    TiffFile().hide(work / "TIFF", work / "hidden.tif", RECIPES[0], KEY)
    with sealed_output(work / "sealed", KEY) as stream:
        stream.write((work / "PNG").read_bytes())
    (work / "header").write_bytes(PngFile().header(work / "hidden.png").to_json().encode())
    (work / "record").write_bytes(b'{"format":"medveil-manifest","version":1,"action":"","fingerprint":"","recipe":{}}')
    np.save(work / "images.npy", np.arange(4 * 36, dtype=np.float32).reshape(4, 6, 6))
    np.save(work / "labels.npy", np.arange(4) % 2)
    (work / "labels.csv").write_bytes(b"path,label,patient\n0.png,a,p0\n1.png,b,p1\n")
    (PLACE / "tree").mkdir()
    for n in range(2):
        image.save(PLACE / "tree" / f"{n}.png")
    given = {
        a_header: "header",
        a_record: "record",
        a_hidden_png: "hidden.png",
        a_hidden_tiff: "hidden.tif",
        a_sealed_file: "sealed",
        a_png: "PNG",
        a_tiff: "TIFF",
        a_jpeg: "JPEG",
        a_bmp: "BMP",
        arrays: "images.npy",
        a_table: "labels.csv",
    }
    for reader, name in given.items():
        data = bytes([READERS.index(reader)]) + (work / name).read_bytes()
        (folder / name).write_bytes(data)
    for name in ("PNG", "TIFF", "JPEG", "BMP", "LZW"):
        (folder / f"image-{name}").write_bytes(bytes([READERS.index(an_image)]) + (work / name).read_bytes())
    (folder / "LZW").write_bytes(bytes([READERS.index(a_tiff)]) + (work / "LZW").read_bytes())
    return folder


def main() -> None:
    leave_small_files_unsynced()
    # A mutant that says it is large, and is, costs seconds and shows nothing that a small one does not.
    base.LARGEST_VALUES = 2**18
    named = any(not each.startswith("-") for each in sys.argv[1:])
    # Made even where another is named: arrays and tables need what stands beside them.
    made = str(corpus())
    atheris.Setup([*sys.argv, *([] if named else [made])], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
