"""How `make test` installs: from where pip would."""

from __future__ import annotations

from installing import pips_settings, sources

LISTED = """:env:.cert='/etc/ssl/ca.crt'
:env:.find-links='/opt/wheels'
global.constraint='/etc/pip/held.txt'
global.extra-index-url='file:///opt/simple https://example.org/simple'
global.find-links='/somewhere/else'
install.no-index='true'
"""


def test_uv_looks_where_pip_does() -> None:
    settings = pips_settings(LISTED)
    assert settings["cert"] == "/etc/ssl/ca.crt"
    assert sources(settings)[2:] == [
        *("--constraint", "/etc/pip/held.txt"),
        *("--extra-index-url", "file:///opt/simple", "--extra-index-url", "https://example.org/simple"),
        *("--find-links", "/opt/wheels", "--no-index"),
    ]
    assert sources({"no-index": "false"}) == sources({}) == ["--index-strategy", "unsafe-best-match"]
