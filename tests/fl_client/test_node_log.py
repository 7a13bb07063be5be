"""What a SuperNode says, as it was heard from Flower 1.41."""

from __future__ import annotations

from pathlib import Path

import pytest

from fl_client.deployment.node_log import NOTHING, is_connected, last_words, why_it_ended

BEGIN = "\x1b[92mINFO \x1b[0m:      Starting Flower SuperNode\n\x1b[93mWARNING \x1b[0m:   EXPERIMENTAL: SuperExec\n"
UP = "INFO:     Application startup complete.\nINFO:     Uvicorn running on http://127.0.0.1:44281\n"
IN = "\x1b[92mINFO \x1b[0m:      SuperNode ID: 1884623928798614068\n"
END = "INFO:     Shutting down\n\x1b[92mINFO \x1b[0m:      FastAPI lifespan: shutdown\nINFO:     Finished\n"
REFUSED = """\x1b[91mERROR \x1b[0m:     Exit Code: 305
Failed to initialize the connection to the SuperLink.
[code: 2004] Failed to activate SuperNode.
The SuperNode could not establish a connection to the SuperLink.

For more information, visit: <https://flower.ai/docs/framework/1.41/en/ref-exit-codes/305.html>
"""


@pytest.mark.parametrize(
    ("text", "connected", "why"),
    [
        (BEGIN + UP + IN, True, "the server cut it off"),
        (BEGIN + UP + IN + END, True, "the server cut it off"),
        (BEGIN + UP + REFUSED + END, False, "the server refuses this site's key"),
        (BEGIN + UP + IN + END + BEGIN + UP + REFUSED + END, False, "the server refuses this site's key"),
        (BEGIN + UP + REFUSED + END + BEGIN + UP + IN, True, "the server cut it off"),
        (
            BEGIN + "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed\n" + END,
            False,
            "certificate does not count",
        ),
        (
            BEGIN + "\x1b[91mERROR \x1b[0m:     Exit Code: 999\nSomething new.\n" + END,
            False,
            "Exit Code: 999 Something new.",
        ),
        (BEGIN + UP, False, "Uvicorn running"),
        ("", False, NOTHING),
    ],
)
def test_a_node_says_whether_it_was_let_in_and_why_not(text: str, connected: bool, why: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    assert is_connected(log) is connected
    assert why in why_it_ended(log)


def test_a_log_is_read_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == NOTHING
    log.write_text("x" * 10**6 + "\n" + BEGIN + UP + IN)
    assert is_connected(log)
    log.write_bytes(b"\xff\x1b]0;title\x07 \x1b[31mred")
    assert "\x1b" not in last_words(log)
