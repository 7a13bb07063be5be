"""Settings that are told are settings that can be typed: a shell and YAML read what was meant."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medveil.config import load_config
from medveil.written import setting


@dataclass
class Data:
    classes: list[str] = field(default_factory=list)
    path: str = ""


@dataclass
class Settings:
    data: Data = field(default_factory=Data)


NAMES = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=20).filter(
    lambda name: name.isprintable() and "${" not in name
)


@settings(deadline=None)
@given(st.lists(NAMES, max_size=8, unique=True))
def test_a_list_of_names_comes_back_through_shell_and_yaml(names: list[str]) -> None:
    (word,) = shlex.split(setting("data.classes", names))
    assert load_config(Settings, None, [word]).data.classes == names


@pytest.mark.parametrize(
    "names", [["no", "yes"], ["0", "1"], ["1.0", "~"], ["a, b", "[c]"], ["it's", '"'], ["null", "é"]]
)
def test_names_that_yaml_takes_for_something_else_stay_names(names: list[str]) -> None:
    (word,) = shlex.split(setting("data.classes", names))
    assert load_config(Settings, None, [word]).data.classes == names


def test_a_path_is_one_word() -> None:
    (word,) = shlex.split(setting("data.path", "/a folder/it's: here"))
    assert load_config(Settings, None, [word]).data.path == "/a folder/it's: here"


def test_what_is_told_is_bounded_and_printable() -> None:
    assert setting("data.classes", ["x" * 10_000] * 2).count("x") == 512
    assert setting("data.classes", [str(number) for number in range(5000)]).endswith("...]'")
    assert setting("data.classes", ["\x1b[2J", "a\nb"]).isprintable()
