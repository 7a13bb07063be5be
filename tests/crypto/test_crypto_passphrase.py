from __future__ import annotations

import argparse
import getpass
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from crypto import passphrase
from crypto.cli import main, make_parser
from crypto.passphrase import CREDENTIAL, CREDENTIALS, VARIABLE, read_passphrase
from medveil.errors import KeyMaterialError, StorageError

SOURCES = ("file", "credential", "environment", "terminal")


@pytest.fixture(autouse=True)
def nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(CREDENTIALS, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "passphrase.txt"
    made.write_text("from the file\n")
    made.chmod(0o600)
    return made


def give(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if source == "credential":
        (tmp_path / CREDENTIAL).write_text("from the credential\n")
        monkeypatch.setenv(CREDENTIALS, str(tmp_path))
    elif source == "environment":
        monkeypatch.setenv(VARIABLE, "from the environment")
    elif source == "terminal":
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(getpass, "getpass", lambda _prompt: "from the terminal")


@pytest.mark.parametrize("first", range(len(SOURCES)))
def test_the_first_source_that_is_there_is_taken(
    first: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path
) -> None:
    for source in SOURCES[first:]:
        give(source, monkeypatch, tmp_path)
    assert read_passphrase(file if first == 0 else None) == f"from the {SOURCES[first]}"


def test_without_any_source_the_ways_are_named() -> None:
    with pytest.raises(KeyMaterialError, match="no terminal to ask") as caught:
        read_passphrase()
    for way in ("--passphrase-file", CREDENTIAL, VARIABLE):
        assert way in str(caught.value)


def test_a_unit_with_other_credentials_only_is_asked_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("no")
    monkeypatch.setenv(CREDENTIALS, str(tmp_path))
    monkeypatch.setenv(VARIABLE, "from the environment")
    assert read_passphrase() == "from the environment"


def test_a_credential_that_cannot_be_read_is_an_error_and_no_reason_to_look_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / CREDENTIAL).mkdir()
    # A loop is what root cannot pass either.
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.setenv(VARIABLE, "from the environment")
    for folder in (tmp_path, tmp_path / "loop"):
        monkeypatch.setenv(CREDENTIALS, str(folder))
        with pytest.raises(StorageError, match="cannot read the file"):
            read_passphrase()


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o644, True), (0o622, False)]
)
def test_a_file_that_others_can_read_is_warned_of(
    file: Path, mode: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    file.chmod(mode)
    with caplog.at_level(logging.WARNING, logger="medveil"):
        assert read_passphrase(file) == "from the file"
    assert ("can be read by others than its owner: chmod 600" in caplog.text) is warned
    assert "from the file" not in caplog.text


def test_a_credentials_mode_is_systemds_affair(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    give("credential", monkeypatch, tmp_path)
    (tmp_path / CREDENTIAL).chmod(0o440)
    with caplog.at_level(logging.WARNING, logger="medveil"):
        read_passphrase()
    assert caplog.text == ""


def test_a_pipe_is_read_and_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe\n")
    os.close(writing)
    with caplog.at_level(logging.WARNING, logger="medveil"):
        assert read_passphrase(f"/dev/fd/{reading}") == "from a pipe"
    os.close(reading)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * (passphrase.LONGEST + 1), "is longer than 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_passphrase_is_refused(file: Path, content: bytes, words: str) -> None:
    file.write_bytes(content)
    with pytest.raises(KeyMaterialError, match=words):
        read_passphrase(file)


def test_a_device_does_not_fill_the_memory() -> None:
    with pytest.raises(KeyMaterialError, match="is longer than"):
        read_passphrase("/dev/zero")


def test_a_missing_file_is_not_made_up_for_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "from the environment")
    with pytest.raises(StorageError, match="no such file"):
        read_passphrase(tmp_path / "none")


# --- never an argument -----------------------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, argparse.Action]]:
    """Every argument of every command, however deep."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from options(below, (*path, name))
        else:
            yield " ".join(path), action


def test_no_command_takes_a_passphrase_as_an_argument() -> None:
    seen = set()
    for command, action in options(make_parser()):
        seen.add(command)
        for name in action.option_strings or [action.dest]:
            if any(word in name.lower() for word in ("pass", "phrase", "secret", "pin", "pw")):
                assert name in {"--passphrase-file", "--new-passphrase-file"}, f"{command} {name}"
                assert action.metavar == "FILE"
    assert {"keygen", "inspect", "rotate", "recipient", "share", "open"} <= seen


@pytest.mark.parametrize("command", ["keygen", "inspect", "rotate", "recipient", "share", "open"])
@pytest.mark.parametrize("option", ["--passphrase", "--pass", "-p", "--new-passphrase", "--password"])
def test_an_argument_that_looks_like_one_is_refused(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, option, "hunter2"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_what_is_given_as_a_file_is_taken_for_a_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new.key"
    assert main(["keygen", "--site", "a", "--out", str(out), "--passphrase-file", "correct horse"]) == 3
    assert "no such file" in capsys.readouterr().err
    assert not out.exists()


def test_the_passphrase_of_a_unit_reaches_the_command(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_text("correct horse battery staple")
    script = Path(sys.executable).with_name("medveil-crypto")
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    for arguments in (["keygen", "--site", "mercy", "--out", "mercy.key"], ["rotate", "mercy.key"]):
        done = subprocess.run(
            [script, *arguments],
            cwd=tmp_path,
            env={**environment, CREDENTIALS: str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_the_environments_passphrase_is_taken_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "correct horse battery staple")
    assert read_passphrase() == "correct horse battery staple"
    # What this process starts from now on inherits none, and the process itself may ask again.
    show = [sys.executable, "-c", f"import os; print(os.environ.get({VARIABLE!r}))"]
    assert subprocess.run(show, capture_output=True, text=True, check=True).stdout == "None\n"
    assert read_passphrase() == "correct horse battery staple"
    monkeypatch.setenv(VARIABLE, "another one, set anew")
    assert read_passphrase() == "another one, set anew"
