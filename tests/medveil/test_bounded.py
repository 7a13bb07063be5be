"""Plain data of others: measured before it is parsed, whole or refused, and in time that grows with its length."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medveil.bounded import SETTINGS, Bounds, check_settings, parse_json, word
from medveil.contract import RunConfig
from medveil.errors import ConfigError, FormatError, IntegrityError
from medveil.files import read_json
from medveil.yaml_core import parsers_of

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=80, deadline=None)
def test_json_within_bounds_is_what_json_makes_of_it(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False), json.dumps(value, indent=2)):
        assert parse_json(text, where="x", bounds=Bounds(10**6, 100, 10**6)) == json.loads(text)


@given(st.text(alphabet='[]{}",:\\\\0a ', max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_is_taken_as_json_takes_it_or_refused(text: str) -> None:
    try:
        wanted = json.loads(text, object_pairs_hook=list)
    except ValueError:
        with pytest.raises(FormatError):
            parse_json(text, where="x")
        return
    try:
        parse_json(text, where="x")
    except FormatError as error:
        assert "each key once" in str(error) or "nested" in str(error), wanted


@given(st.text(alphabet="ab0-:,[]{}'\"#\\~=@.\n ", max_size=40))
@settings(max_examples=150, deadline=None)
def test_what_libyaml_takes_pyyaml_takes_for_the_same(text: str) -> None:
    """The quick parser is asked first: what it took and the other would refuse, nobody would refuse."""
    quick, parser = parsers_of(text)
    try:
        found = serialized(text, quick)
    except yaml.YAMLError:
        return
    assert found == serialized(text, parser)


def serialized(text: str, parser: type) -> list[tuple[Any, ...]]:
    return [
        (type(each), getattr(each, "value", None), isinstance(each, yaml.ScalarEvent) and bool(each.style))
        for each in yaml.parse(text, Loader=parser)
    ]


@pytest.mark.parametrize(
    "text", ["a: !b c", "%YAML 1.1", "a: &b c", "- *a", "a: |", "a: >", "? a", "a:\tb", "é: 1", "a\r"]
)
def test_what_the_parsers_of_yaml_may_take_otherwise_is_asked_of_one(text: str) -> None:
    assert parsers_of(text) == (yaml.SafeLoader,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 5_000, "is nested deeper than 16"),
        ("[" * 100_000, "has more than 10000 values"),
        ('{"a":' * 17 + "1" + "}" * 17, "is nested deeper than 16"),
        ("[" + "[]," * 20_000 + "[]]", "has more than 10000 values"),
        ("[" + "1," * 20_000 + "1]", "has more than 10000 values"),
        ('"' + "x" * 2**20 + '"', "is longer than 1048576 bytes"),
        ("[" + "9" * 5000 + "]", "is not JSON"),
        ('{"a": 1, "a": 2}', "each key once"),
        ("[NaN]", "is not JSON"),
        ("[Infinity]", "is not JSON"),
        ('"[[[[', "is not JSON"),
        (b"\xff", "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_what_holds_too_much_or_is_no_json_is_refused(text: str | bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        parse_json(text, where="x")


def test_brackets_and_commas_within_strings_are_text() -> None:
    text = json.dumps({"a": "[" * 3000 + "," * 900 + '\\"{' * 20})
    assert parse_json(text, where="x") == json.loads(text)


@pytest.mark.parametrize("text", ['"' + '\\"' * 500_000, '"' * 2**20, "\\" * 2**20, '"\\' * 300_000])
def test_measuring_takes_time_that_grows_with_the_length(text: str) -> None:
    began = time.process_time()
    with pytest.raises(FormatError):
        parse_json(text, where="x")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "section",
    [
        {"a": "x" * 64, **{f"k{n}": "${.a}${.a}" for n in range(9)}},
        {"a": [[] for _ in range(400_000)]},
        {"a": [{} for _ in range(300_000)]},
        {f"k{n}": n for n in range(100_000)},
    ],
)
def test_a_small_text_takes_a_small_memory(section: dict[str, object]) -> None:
    document = json.loads(RunConfig(run="r", classes=["a", "b"]).to_json()) | {"model": section}
    text = json.dumps(document, separators=(",", ":"))
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError):
            RunConfig.from_json(text)
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_is_read_no_further_than_its_bounds(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(["x" * 100]))
    assert read_json(path) == ["x" * 100]
    with pytest.raises(IntegrityError, match="is larger than the 50 bytes"):
        read_json(path, bounds=Bounds(50, 5, 5))
    with pytest.raises(IntegrityError, match="is larger than"):
        read_json("/dev/zero", bounds=SETTINGS)
    path.write_text("[" * 100_000)
    with pytest.raises(IntegrityError, match="nested"):
        read_json(path)


def test_half_a_character_is_no_text() -> None:
    with pytest.raises(ConfigError, match="'a' is not text"):
        check_settings(json.loads('{"a": "\\ud800"}'), where="x")
    check_settings({"a": "\U0001f600 é"}, where="x")


def test_a_word_of_others_is_cut_and_escaped() -> None:
    assert word("abc") == "abc"
    assert word("a\x1b[31m\n") == "a\\x1b[31m\\n"
    assert len(word("x" * 1000)) < 80
