"""Keys sealed at a cost that tests can pay, and files that earlier code wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto import sealed_file


@pytest.fixture
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seal at a cost of some microseconds; at the real one it takes half a second."""
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)


@pytest.fixture
def fixtures() -> Path:
    """Files that earlier code wrote, and later code must go on reading."""
    return Path(__file__).with_name("fixtures")
