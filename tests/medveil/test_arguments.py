"""Settings stand anywhere on a command line; what is no option is refused by the nearest that is one."""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path

import pytest

import fl_client.cli
import fl_server.cli
import simulations.cli
from medveil.cli import parser, subcommand
from medveil.errors import ConfigError

DOORS = {
    "medveil-sim": simulations.cli._parser,
    "medveil-server": fl_server.cli._parser,
    "medveil-site": fl_client.cli._parser,
}


def parse(line: list[str], door: str = "medveil-sim") -> argparse.Namespace:
    made: argparse.Namespace = DOORS[door]().parse_args(line)
    return made


PIECES = (["FILE"], ["--out", "RUN"], ["rounds=1"], ["data.path=a b"], ["--json"], ["--engine=flower"])


@pytest.mark.parametrize("command", ["run", "compare"])
def test_settings_stand_anywhere(command: str) -> None:
    pieces = [piece for piece in PIECES if command == "run" or "--engine=flower" not in piece]
    orders = list(itertools.permutations(pieces))
    for order in random.Random(0).sample(orders, 40):
        found = parse([command, *itertools.chain.from_iterable(order)])
        assert (str(found.config), found.out, found.json) == ("FILE", Path("RUN"), True), order
        assert sorted(found.overrides) == ["data.path=a b", "rounds=1"]


def test_settings_keep_their_order() -> None:
    assert parse(["run", "a=1", "FILE", "a=2", "--out", "R", "a=3"]).overrides == ["a=1", "a=2", "a=3"]


@pytest.mark.parametrize(
    ("door", "line", "settings"),
    [
        (
            "medveil-server",
            ["run", "FILE", "--consortium", "C", "rounds=1", "--json", "sites=2"],
            ["rounds=1", "sites=2"],
        ),
        ("medveil-server", ["run", "rounds=1", "--json", "FILE"], ["rounds=1"]),
        (
            "medveil-server",
            ["init", "name=veil", "--log-level", "info", "FILE", "log_days=3"],
            ["name=veil", "log_days=3"],
        ),
        ("medveil-server", ["init", "--log-level", "info", "name=veil"], ["name=veil"]),
        (
            "medveil-site",
            ["enroll", "data.source=npz", "--name", "s", "--out", "o", "device=cpu"],
            ["data.source=npz", "device=cpu"],
        ),
        ("medveil-sim", ["attack", "jigsaw", "--images", "d", "--set", "a=1", "--out", "o", "b=2"], ["a=1", "b=2"]),
        ("medveil-sim", ["attack", "--set", "a=1", "b=2", "jigsaw", "--images", "d"], ["a=1", "b=2"]),
        ("medveil-sim", ["attack-matrix", "a=1", "--out", "o", "b=2"], ["a=1", "b=2"]),
    ],
)
def test_every_command_that_takes_settings_takes_them_anywhere(door: str, line: list[str], settings: list[str]) -> None:
    assert parse(line, door).overrides == settings


def test_no_file_is_taken_for_a_setting_nor_a_setting_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = parse(["run", "rounds=1", "--out", "R"])
    assert (found.config, found.overrides) == (None, ["rounds=1"])
    (tmp_path / "lr=0.1.yaml").touch()
    assert parse(["run", "lr=0.1.yaml", "--out", "R", "rounds=1"]).config == "lr=0.1.yaml"
    assert parse(["run", "./lr=0.1.yaml", "rounds=1"]).config == "./lr=0.1.yaml"
    assert parse(["init", "--out", "F"]).name is None


def test_behind_two_dashes_nothing_is_an_option() -> None:
    found = parse(["run", "--out", "R", "rounds=1", "--", "-odd.yaml", "name=--json"])
    assert (found.config, found.overrides, found.json) == ("-odd.yaml", ["rounds=1", "name=--json"], False)
    found = parse(["run", "FILE", "--", "a=1", "b=2"])
    assert (found.config, found.overrides) == ("FILE", ["a=1", "b=2"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            ["run", "FILE", "--egnine", "flower", "--out", "R"],
            "there is no option '--egnine'; did you mean '--engine'?",
        ),
        (["run", "FILE", "rounds=1", "--ot=R"], "there is no option '--ot'; did you mean '--out'?"),
        (["compare", "FILE", "--job", "3"], "did you mean '--jobs'?"),
        (["run", "-x\x1b[2J", "FILE"], "there is no option '-x\\x1b[2J'; see 'medveil-sim run --help'"),
        (["run", "FILE", "--out"], "argument --out: expected one argument"),
        (["run", "FILE", "--out", "--json"], "argument --out: expected one argument"),
        (["report", "RUN", "more"], "unrecognized arguments: more"),
        (["attack", "jigsaw", "--sed", "1"], "did you mean '--se"),
    ],
)
def test_what_is_no_option_is_named_with_the_nearest(line: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(line)
    assert says in str(caught.value)


def test_options_keep_their_values() -> None:
    made = parser("medveil-thing", "Does things.", "x")
    one = subcommand(made.add_subparsers(), "one", text="One.", example="x")
    one.add_argument("--shift", type=float)
    one.add_argument("--pair", nargs=2)
    one.add_argument("--maybe", nargs="?", const="yes")
    one.add_argument("names", nargs="*")
    line = ["one", "a=1", "--shift", "-1.5", "b", "--pair", "c", "d=2", "f", "--maybe", "--log-file", "k=v", "e"]
    found = made.parse_args(line)
    assert (found.shift, found.pair, found.maybe, found.log_file) == (-1.5, ["c", "d=2"], "yes", "k=v")
    assert found.names == ["a=1", "b", "f", "e"]
