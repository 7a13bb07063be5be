"""Memory stays flat in the number of frames, and the stages of a file add up to its time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crypto.dicom.clock import Clock

SCRIPT = r"""
import json, re, sys
from pathlib import Path
import numpy as np
from crypto.config import CipherConfig
from crypto.dicom.elements import encode
from crypto.reading.dicom_samples import Samples
from crypto.dicom.kind import DICOM
from crypto.dicom.writing import NativeFile
from crypto.files.recipe import Recipe
from crypto.keyring import Keyring
from crypto.keys import SiteKey
from pydicom import Dataset

home, purpose = Path(sys.argv[1]), sys.argv[2]
key = SiteKey(bytes(32), "mercy")
size = 64 if purpose == "training" else None
recipe = Recipe(purpose=purpose, cipher=CipherConfig(block=16), size=size, identity="kept")
peaks = []
for frames in (32, 32, 160):
    samples = Samples(512, 512, 1, frames, 16, 12, False, "MONOCHROME2")
    dataset = Dataset()
    dataset.set_original_encoding(False, True)
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7.3", "1.2.3"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 512
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.NumberOfFrames = frames
    source = home / f"{frames}.dcm"
    with source.open("wb") as stream:
        made = NativeFile(stream, encode(dataset), samples)
        for index in range(frames):
            made.frame(np.full((512, 512), index, "<u2").tobytes())
        made.finish()
    DICOM.hide(source, home / "hidden", recipe, key)
    DICOM.verify(home / "hidden", Keyring(key))
    DICOM.show(home / "hidden", home / "shown", Keyring(key))
    # Not ru_maxrss, which a process inherits from the one that started it.
    peaks.append(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("purpose", ["archive", "training"])
@pytest.mark.slow
def test_memory_is_flat_in_frames(tmp_path: Path, purpose: str) -> None:
    """60 MB of pixels take no more than 4 MB do, give or take what the allocator keeps."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), purpose], capture_output=True, text=True, check=True
    )
    _, few, many = json.loads(done.stdout)
    assert many - few < 24
    assert many < 400


def test_stages_add_up(make_dicom: Callable[..., Path], steward: Any) -> None:
    source = make_dicom(np.zeros((20, 256, 256), np.uint16))
    start = time.perf_counter()
    steward.hide(source)
    whole = time.perf_counter() - start
    assert 0.5 * whole < sum(steward.report.seconds.values()) <= whole
    assert min(steward.report.seconds.values()) >= 0


def test_inner_stages_count_for_themselves() -> None:
    clock = Clock()

    def values() -> Any:
        for value in (1, None, 3):
            with clock.stage("inner"):
                time.sleep(0.02)
            yield value

    with clock.stage("outer"):
        time.sleep(0.03)
        assert list(clock.each("middle", values())) == [1, None, 3]
    assert clock.seconds["inner"] == pytest.approx(0.06, abs=0.03)
    assert clock.seconds["outer"] == pytest.approx(0.03, abs=0.02)
    assert clock.seconds["middle"] < 0.02
