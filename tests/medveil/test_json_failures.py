"""With --json a command leaves one JSON document: its result, or why there is none."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from medveil.cli import add_json, parser, run_command, subcommand
from medveil.errors import ConfigError, KeyMaterialError
from medveil.plain import tell, tell_json, tell_result


def ran(body: Callable[[argparse.Namespace], int], *words: str) -> int:
    def made() -> argparse.ArgumentParser:
        top = parser("medveil-test", "A test.", "medveil-test do")
        commands = top.add_subparsers(required=True, metavar="COMMAND")
        one = subcommand(commands, "do", text="Do it.", example="medveil-test do --json")
        add_json(one)
        one.set_defaults(command=body)
        return top

    return run_command(made, ["do", *words])


def fails(error: BaseException, first: Any = None) -> Callable[[argparse.Namespace], int]:
    def body(arguments: argparse.Namespace) -> int:
        tell("a word aside", error=True)
        if first is not None:
            tell_json(first)
        raise error

    return body


def test_a_result_is_one_document_or_lines_that_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    def body(arguments: argparse.Namespace) -> int:
        tell_result({"images": 3}, "3 images", "of nobody", as_json=arguments.json)
        return 6

    assert ran(body, "--json") == 6
    assert json.loads(capsys.readouterr().out) == {"images": 3}
    assert ran(body) == 6
    assert capsys.readouterr().out == "3 images\nof nobody\n"


def test_an_error_is_one_document_too_and_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = KeyMaterialError("opens\nnothing", where="st-anna.key", cure="another passphrase")
    assert ran(fails(wrong), "--json") == 4
    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "error": {
            "kind": "KeyMaterialError",
            "exit_code": 4,
            "problem": "opens\nnothing",
            "where": "st-anna.key",
            "cure": "another passphrase",
        }
    }
    assert said.err.endswith("error: st-anna.key: opens nothing; another passphrase\n")
    assert ran(fails(wrong)) == 4
    assert not capsys.readouterr().out


def test_an_interrupt_is_one_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(fails(KeyboardInterrupt()), "--json") == 130
    assert json.loads(capsys.readouterr().out)["error"] == {
        "kind": "Interrupted",
        "exit_code": 130,
        "problem": "interrupted",
        "where": None,
        "cure": None,
    }


def test_a_result_that_was_told_before_an_error_stays_the_only_document(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    assert ran(fails(ConfigError("is not whole"), first={"whole": False}), "--json") == 2
    assert json.loads(capsys.readouterr().out) == {"whole": False}
    assert sys.stdout is before
