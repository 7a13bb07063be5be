"""A site's status says a reason once, however many of its processes end for it."""

from __future__ import annotations

import pytest

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
