"""A site's status says a reason once, however many of its processes end for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from enrolled_site import enrolled

from crypto import sealed_file
from fl_client.cli import main
from fl_client.deployment.running import _ended


@pytest.mark.parametrize(
    ("ended", "said", "words"),
    [
        (1, "", "the worker ended once, because: no key"),
        (3, "st-anna: supervisor 7", "the worker ended 3 times, the last time because: no key"),
        (3, "not connected: no key", "the worker ended 3 times, the last time for the reason above"),
        (1, "not connected: no key", "the worker ended once, for the reason above"),
    ],
)
def test_a_reason_is_said_once(ended: int, said: str, words: str) -> None:
    assert _ended("worker", {"ended": ended, "why": "no key"}, said=said) == words


def test_no_reason_is_not_found_in_everything() -> None:
    assert (
        _ended("worker", {"ended": 2, "why": ""}, said="anything")
        == "the worker ended 2 times, the last time because: "
    )


def test_a_site_that_does_not_run_is_not_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_file, "SCRYPT_N", 2**4)
    words = ["status", "--site", str(enrolled(tmp_path).file)]
    assert main(words) == 0
    assert main([*words, "--healthy"]) == 5
