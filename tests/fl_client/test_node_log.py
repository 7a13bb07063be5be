"""What a SuperNode says, as it was heard from Flower 1.41."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_client.deployment import node_log, running
from fl_client.deployment.approvals import Approvals
from fl_client.deployment.config import SiteConfig
from fl_client.deployment.node_log import NOTHING, Follower, is_connected, last_words, why_it_ended
from fl_client.deployment.own_files import OwnFiles
from fl_client.deployment.supernode import answered_file
from fl_client.deployment.supervisor import NODE, Supervisor, state_file
from medveil import processes
from medveil.errors import StorageError
from medveil.installed import installed_hash

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


# -- followed from the beginning ---------------------------------------------------------------------------------------

NOISE = st.sampled_from([BEGIN, UP, REFUSED, "x" * 70000 + "\n", "SuperNode", " ID: 7\n"])
STEPS = st.lists(
    st.one_of(NOISE.map(lambda text: ("say", text)), st.sampled_from([("say", IN), ("cut", ""), ("begin", "")])),
    max_size=12,
)


def add(log: Path, text: str) -> None:
    with log.open("a") as stream:
        stream.write(text)


@settings(max_examples=30, deadline=None)
@given(earlier=st.sampled_from(["", BEGIN + UP + IN + END]), steps=STEPS)
def test_whoever_follows_a_log_knows_what_one_who_heard_every_word_would(
    earlier: str, steps: list[tuple[str, str]]
) -> None:
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        add(log, earlier)
        follower, heard = Follower(log), ""
        for act, text in steps:
            if act == "say":
                add(log, text)
                heard += text
            elif act == "cut":
                # As logrotate's copytruncate does it.
                log.write_text("")
                heard += "\0"
            else:
                follower.begin()
                heard = ""
            assert follower.look() is (node_log.CONNECTED in heard)


def test_words_that_come_letter_by_letter_are_heard(tmp_path: Path) -> None:
    log = tmp_path / "log"
    follower = Follower(log)
    assert not follower.look(), "there is no log yet"
    heard = []
    for letter in IN:
        add(log, letter)
        heard.append(follower.look())
    assert heard.index(True) == IN.index(node_log.CONNECTED) + len(node_log.CONNECTED) - 1


def test_a_long_log_is_read_in_pieces_and_never_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_log, "_PIECE", 100)
    log = tmp_path / "log"
    follower = Follower(log)
    add(log, "x" * 250 + IN + "x" * 10**6)
    assert [follower.look() for _ in range(4)] == [False, False, True, True]
    log.unlink()
    assert follower.look()
    assert "cut it off" in why_it_ended(log, let_in=follower.look())


# -- a site that tells it ----------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> OwnFiles:
    config = SiteConfig(name="mercy", server="here:1", ca="ca", node_key="node", key="key", port=1)
    made = OwnFiles(config, tmp_path / "site.yaml")
    made.state.mkdir()
    # A node that certainly runs: this process.
    processes.write_record(made.record(NODE), os.getpid())
    return made


def let_in(files: OwnFiles) -> None:
    supervisor = Supervisor(files, {})
    log = files.node_log
    log.parent.mkdir()
    supervisor._said.begin()
    add(log, BEGIN + UP + IN + "x" * 10**5 + "\n")
    supervisor._listen()
    log.write_text("")


def answered(files: OwnFiles, *, ago: float) -> None:
    answered_file(files).touch()
    when = (datetime.now(UTC) - timedelta(seconds=ago)).timestamp()
    os.utime(answered_file(files), (when, when))


@pytest.mark.parametrize(
    ("ago", "connected", "said"),
    [
        (3, True, "connected to here:1; the server answered 3 s ago"),
        (-60, True, "connected to here:1; the server answered 0 s ago"),
        (7200, False, "no answer from here:1 since 20"),
        (None, True, "connected to here:1 when its node began; whether the server still answers is not known"),
    ],
)
def test_a_site_says_since_when_its_server_is_silent(
    files: OwnFiles, ago: float | None, connected: bool, said: str
) -> None:
    let_in(files)
    if ago is not None:
        answered(files, ago=ago)
    assert running.is_connected(files) is connected
    found = running.status(files)
    assert (found["let_in"], found["connected"]) == (True, connected)
    assert (found["answered"] is None) == (ago is None)
    assert said in running._connection(found)


def test_what_an_earlier_supervisor_told_is_not_believed_of_a_new_node(files: OwnFiles) -> None:
    let_in(files)
    answered(files, ago=0)
    Supervisor(files, {})._tell()
    assert not running.is_connected(files)
    assert running.status(files)["answered"] is None
    assert running._connection(running.status(files)).startswith("not connected to here:1")


def test_a_supervisor_whose_disk_is_full_tells_later(files: OwnFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(files, {})

    def full(*arguments: object, **settings: object) -> None:
        raise StorageError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("fl_client.deployment.supervisor.write_json", full)
        supervisor._tell()
    assert not state_file(files).exists()
    supervisor._listen()
    assert state_file(files).exists()


@pytest.mark.parametrize("calm", [True, False])
def test_a_calm_supervisor_looks_seldom_yet_sees_an_end_soon(
    files: OwnFiles, monkeypatch: pytest.MonkeyPatch, *, calm: bool
) -> None:
    supervisor, slept = Supervisor(files, {}), []
    supervisor._let_in = calm
    for child in supervisor._children:
        child.state = "running"
    supervisor._tell()
    monkeypatch.setattr("fl_client.deployment.supervisor.time.sleep", slept.append)
    supervisor._rest()
    assert len(slept) == (8 if calm else 1)
    slept.clear()
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        supervisor._rest()
    assert len(slept) == 1


def test_a_process_is_not_started_again_with_code_that_is_not_approved(files: OwnFiles) -> None:
    files.record(NODE).unlink()
    supervisor, begun = Supervisor(files, {}), []
    (worker, _) = supervisor._children
    worker.begin = lambda: begun.append(1)
    supervisor._begin(worker)
    assert (worker.state, begun) == ("waiting", [])
    assert "is not approved at this site" in worker.why
    assert "is not approved" in json.loads(state_file(files).read_text())["children"]["worker"]["why"]
    # It counts at once, and is tried again when it is due.
    Approvals(files.approvals).approve(installed_hash())
    worker.next = 0.0
    supervisor._look_after(worker)
    assert (worker.state, begun) == ("running", [1])
