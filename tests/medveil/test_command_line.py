from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from medveil.cli import add_common, guarded, parser, start_logging, subcommand
from medveil.errors import DataError, FederationError, KeyMaterialError, MedVeilError, PartialError, StorageError
from medveil.log import each_line_once, set_up_logging


@pytest.mark.parametrize("kind", [DataError, KeyMaterialError, FederationError, PartialError, StorageError])
def test_our_errors_become_one_line_and_a_code(kind: type[MedVeilError], capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise kind("broke\nhere", where="x", cure="mend")

    assert guarded(body) == kind.exit_code
    assert capsys.readouterr().err == "error: x: broke here; mend\n"


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> int:
        raise KeyboardInterrupt

    assert guarded(body) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize(("blow", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_whatever_asks_a_command_to_end_ends_it_in_order(tmp_path: Path, blow: int, code: int) -> None:
    command = """
        import sys, tempfile, time
        from medveil.cli import parser, run_command, subcommand
        def wait(arguments):
            with tempfile.TemporaryDirectory() as scratch:
                print(scratch, flush=True)
                time.sleep(600)
        def make():
            made = parser("medveil-thing", "Does things.", "medveil-thing wait")
            subcommand(made.add_subparsers(), "wait", text="Wait.", example="wait").set_defaults(command=wait)
            return made
        sys.exit(run_command(make, ["wait"]))
    """
    # Who runs the tests under nohup has their processes ignore SIGHUP.
    heard = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # noqa: E731
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        preexec_fn=heard,  # noqa: PLW1509
    ) as process:
        assert process.stdout is not None
        assert Path(process.stdout.readline().strip()).parent == tmp_path
        process.send_signal(blow)
        _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert said in {f"error: ended by {signal.Signals(blow).name}\n", "error: interrupted\n"}
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_operating_system_is_said_in_our_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: len(Path("/nowhere/at/all").read_text())) == 3
    assert capsys.readouterr().err == "error: /nowhere/at/all: cannot use the file: no such file or directory\n"


def test_a_defect_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)


def test_usage_errors_are_one_line_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    made = parser("medveil-thing", "Does things.", "medveil-thing --fast")
    made.add_argument("--fast", action="store_true")
    assert guarded(lambda: made.parse_args(["--slow"]).fast) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: medveil-thing: ")
    assert "--slow" in said
    assert said.count("\n") == 1
    assert "example: medveil-thing --fast" in made.format_help()


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parser("medveil-thing", "Does things.", "x").parse_args(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("medveil-thing 0.")


def test_logs_go_to_stderr_and_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = argparse.ArgumentParser()
    add_common(made)
    start_logging(made.parse_args(["--log-level", "info", "--log-file", str(tmp_path / "log")]))
    logging.getLogger("medveil.thing").info("heard")
    logging.getLogger("medveil.thing").debug("not heard")
    assert "INFO medveil.thing: heard" in capsys.readouterr().err
    assert (tmp_path / "log").read_text().count("heard") == 1
    start_logging(made.parse_args([]))
    logging.getLogger("medveil.thing").info("quiet")
    assert capsys.readouterr().err == ""
    with pytest.raises(StorageError, match="open the log file"):
        start_logging(made.parse_args(["--log-file", str(tmp_path / "no" / "log")]))


def test_what_looks_at_many_runs_says_each_sentence_once_a_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("warning", tmp_path / "log.txt")
    log = logging.getLogger("medveil.experiment")
    with each_line_once():
        for text in ("one split", "one split", "another", "one split"):
            log.warning(text)
    log.warning("one split")
    for said in (capsys.readouterr().err, (tmp_path / "log.txt").read_text()):
        assert [line.rpartition(": ")[2] for line in said.splitlines()] == ["one split", "another", "one split"]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_help_breaks_no_word_that_is_to_be_typed(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    example = "door attack known-plaintext --images brain-mri --cipher block-pixel --images-per-key 20 --out ATTACKS"
    door = parser("door", "Hides images with block-pixel, seed-paper or aes-ctr.", "door --help")
    inner = subcommand(door.add_subparsers(), "attack", text="Attack with known-plaintext pairs.", example=example)
    inner.add_argument("--images-per-key", help="see histogram-linkage, view-linkage, aux-statistics, utility-leak")
    assert {"block-pixel,", "seed-paper", "aes-ctr."} <= set(door.format_help().split())
    shown = set(inner.format_help().split())
    assert {*example.split(), "histogram-linkage,", "view-linkage,", "aux-statistics,", "utility-leak"} <= shown
