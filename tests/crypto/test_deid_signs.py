"""What is said of text in the pixels is of the image that came, under every way to hide whose it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PIXELS = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)
MR, ULTRASOUND = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.6.1"
MakeDicom = Callable[..., Path]


def signs(steward: Any, source: Path, purpose: str, identity: str) -> list[str]:
    steward.hide(source, purpose, identity=identity)
    return [text for text in steward.report.warnings if "carry text in the pixels" in text]


@pytest.mark.parametrize("purpose", ["training", "archive"])
@pytest.mark.parametrize("identity", ["removed", "sealed"])
def test_text_is_suspected_in_what_came_and_not_in_what_was_made(
    steward: Any, make_dicom: MakeDicom, purpose: str, identity: str
) -> None:
    plain = make_dicom(PIXELS, name="mr.dcm", bits=12, SOPClassUID=MR, Modality="MR")
    # A training file is a secondary capture, of ours: it carries no more text than the image did.
    assert signs(steward, plain, purpose, identity) == []
    suspect = make_dicom(PIXELS, name="us.dcm", bits=12, SOPClassUID=ULTRASOUND, Modality="US")
    (said,) = signs(steward, suspect, purpose, identity)
    assert said.startswith("ultrasound images often carry text")
