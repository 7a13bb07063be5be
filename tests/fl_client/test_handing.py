"""What a process of a site is handed: passphrases, and what was found of the code."""

from __future__ import annotations

import io

import pytest

from fl_client.deployment import handing


@pytest.mark.parametrize("found", ["", "5" * 64])
def test_what_is_handed_is_read(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    believed: list[str] = []
    monkeypatch.setattr(handing, "compared", lambda: found)
    monkeypatch.setattr(handing, "believe", believed.append)
    sent = {"": "seven horses", "/a/key": "an umlaut: \u00fc\n"}
    assert handing.read_handed(io.StringIO(handing.handed(sent).decode())) == sent
    assert believed == [found] * bool(found)


def test_who_types_a_passphrase_says_nothing_of_code() -> None:
    assert handing.read_handed(io.StringIO('{"": "seven horses"}')) == {"": "seven horses"}
    assert handing.read_handed(io.StringIO("")) == {}
