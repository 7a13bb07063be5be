from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from crypto.config import CipherConfig
from fl_client.config import SimulatedSites, TrainConfig
from fl_client.data.config import DataConfig
from fl_server.config import ServerConfig
from medveil.config import again, commented_yaml, from_mapping, load_config, to_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError, StorageError
from models.config import ModelConfig
from simulations.config import ExperimentConfig

SCHEMAS = [
    ExperimentConfig,
    RunConfig,
    CipherConfig,
    ModelConfig,
    DataConfig,
    TrainConfig,
    SimulatedSites,
    ServerConfig,
]


@dataclass
class Inner:
    rate: float = field(default=0.5, metadata={"help": "A rate."})
    names: list[str] = field(default_factory=lambda: ["a", "b"], metadata={"help": "Names."})


@dataclass
class Outer:
    rounds: int = field(default=5, metadata={"help": "Rounds."})
    title: str | None = field(default=None, metadata={"help": "A title."})
    active: bool = field(default=False, metadata={"help": "Whether."})
    inner: Inner = field(default_factory=Inner, metadata={"help": "A section."})
    plain: dict[str, Any] = field(default_factory=dict, metadata={"help": "Plain data."})


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, written(tmp_path, text))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_file_then_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, "rounds: 7\ninner: {rate: 2}\n")
    config = load_config(Outer, path, ["title=a b", "inner.names=[x, y]", "active=true", "rounds=9"])
    assert config == Outer(rounds=9, title="a b", active=True, inner=Inner(rate=2.0, names=["x", "y"]))
    assert load_config(Outer, path, ["title="]).title is None
    assert load_config(Outer, path, ["title=a=b"]).title == "a=b"
    assert load_config(Outer, written(tmp_path, "")) == Outer()


def test_an_unknown_key_names_file_key_and_the_nearest(tmp_path: Path) -> None:
    text = refusal(tmp_path, "inner: {rat: 1}")
    assert "run.yaml" in text
    assert "unknown key 'inner.rat'" in text
    assert "did you mean 'inner.rate'?" in text
    assert "did you mean 'rounds'?" in refusal(tmp_path, "round: 3")
    assert "valid here: rounds, title, active, inner, plain" in refusal(tmp_path, "zzz: 3")
    with pytest.raises(ConfigError, match=r"command line 'inner\.nam=1'.*did you mean 'inner\.names'"):
        load_config(Outer, None, ["inner.nam=1"])


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("rounds: many", "rounds", "int"),
        ("rounds: 1.5", "rounds", "int"),
        ("rounds: [1]", "rounds", "int"),
        ("rounds: null", "rounds", "int"),
        ("rounds: {a: 1}", "rounds", "int"),
        ("active: maybe", "active", "bool"),
        ("title: [1]", "title", "str"),
        ("inner: {rate: fast}", "inner.rate", "float"),
        ("inner: {names: 3}", "inner.names", "list"),
        ("inner: {names: {a: 1}}", "inner.names", "list"),
        ("inner: {names: [[a]]}", "inner.names", "list[str]"),
        ("inner: {names: [a, {b: c}]}", "inner.names", "list[str]"),
        ("plain: [1]", "plain", "dict[str, "),
        ("plain: 1", "plain", "dict[str, "),
    ],
)
def test_a_wrong_type_names_key_and_what_was_expected(tmp_path: Path, text: str, key: str, expected: str) -> None:
    said = refusal(tmp_path, text)
    assert "run.yaml" in said
    assert f"'{key}'" in said
    assert "expected" in said
    assert expected in said.partition("expected")[2]


@pytest.mark.parametrize("text", ["inner: 3", "inner: [1, 2]", "inner: null"])
def test_a_section_is_not_a_value(tmp_path: Path, text: str) -> None:
    assert "'inner' is a section" in refusal(tmp_path, text)


def test_yaml_that_is_none_says_the_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, "rounds: 3\ninner: {rate: 1\nactive: true\n")
    assert "is not valid YAML (line 3" in said
    assert "holds no keys" in refusal(tmp_path, "- a\n- b\n")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not text"):
        load_config(Outer, tmp_path / "bytes.yaml")
    with pytest.raises(ConfigError, match=r"gone\.yaml: no such file"):
        load_config(Outer, tmp_path / "gone.yaml")
    with pytest.raises(StorageError, match="is a directory"):
        load_config(Outer, tmp_path)


@pytest.mark.parametrize("text", ["rounds", "=3", ".rounds=3", "inner..rate=3", ""])
def test_an_override_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="is not 'key=value'"):
        load_config(Outer, None, [text])


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("title: ${oc.env:HOME}", "'title'"),
        ("title: a \\${b", "'title'"),
        ("title: ${nowhere}", "'title'"),
        ("rounds: ${inner.rate}", "'rounds'"),
        ('title: "\\u0024{oc.env:HOME}"', "'title'"),
        ('title: "\\x24{oc.env:HOME}"', "'title'"),
        ("title: |\n  $\n  ${oc.env:HOME}\n", "'title'"),
        ("inner: {names: [a, '${oc.env:HOME}']}", "'inner.names[1]'"),
        ("plain: {a: {b: [1, {c: '${oc.env:HOME}'}]}}", "'plain.a.b[1].c'"),
        ("plain: {'${oc.env:HOME}': 1}", "a key in 'plain'"),
        ("'${oc.env:HOME}': 1", "a key at the top"),
        ("inner: ${oc.create:{rate:1}}", "'inner'"),
    ],
)
def test_nothing_is_ever_interpolated(tmp_path: Path, text: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "canary-home")
    said = refusal(tmp_path, text)
    assert f"{field} has an interpolation ('${{')" in said
    assert "canary" not in said
    assert "oc.env" not in said
    values = yaml.safe_load(text)
    with pytest.raises(ConfigError, match="has an interpolation"):
        from_mapping(Outer, values, where="from elsewhere")


@pytest.mark.parametrize("override", ["title=${oc.env:HOME}", "inner.names=[${rounds}]", "${oc.env:HOME}=1"])
def test_nothing_is_interpolated_on_the_command_line(override: str) -> None:
    with pytest.raises(ConfigError, match=r"has an interpolation|unknown key"):
        load_config(Outer, None, [override])


@pytest.mark.parametrize(
    "text",
    ["rounds: canary", "rounds: [canary]", "active: canary", "inner: {rate: canary}", "inner: {names: [[canary]]}"],
)
def test_no_error_shows_a_value(tmp_path: Path, text: str) -> None:
    assert "canary" not in refusal(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, yaml.safe_load(text), where="from elsewhere")
    assert "canary" not in str(caught.value)


def test_a_bomb_of_aliases_is_refused_before_it_is_built(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "has an alias" in refusal(tmp_path, "\n".join(lines))
    assert "has an alias" in refusal(tmp_path, "inner: &a {rate: 1}\nplain: {<<: *a}\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("plain: {a: " + "[" * 5000 + "]" * 5000 + "}", "is nested deeper than 16"),
        ("plain: {a: [" + "1, " * 10001 + "]}", "has more than 10000 values"),
        ("title: " + "x" * 5000, "has a value of more than 4096 characters"),
        ("x: " + "1:" * 100000 + "1", "has a value of more than 4096 characters"),
        ("#" * (2**20 + 1), "is longer than 1048576 characters"),
        ("rounds: " + "9" * 4000, "'rounds' is a number beyond 64 bits"),
        ("rounds: 0x" + "f" * 4000, "'rounds' is a number beyond 64 bits"),
        ("title: !!binary aGVsbG8=", "has a tag ('!name')"),
        ("title: !!str 3", "is not valid YAML (line 1, column 8): has a tag"),
        ("title: !!python/object/apply:os.system [ls]", "is not valid YAML"),
        ("1: 2", "a key at the top is a whole number"),
        ("title: ???", "'title' is '???'"),
    ],
)
def test_what_settings_cannot_hold_is_refused(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_the_same_data_again_is_another_configuration_and_like_data_is_not_the_same() -> None:
    given: dict[str, Any] = {"plain": {"a": [1, 2]}, "inner": {"rate": 1}}
    first = from_mapping(Outer, given, where="here")
    first.plain["a"].append(3)
    first.inner.names.clear()
    given["plain"]["a"].append(9)
    assert from_mapping(Outer, {"plain": {"a": [1, 2]}, "inner": {"rate": 1}}, where="there") == Outer(
        inner=Inner(rate=1.0), plain={"a": [1, 2]}
    )
    for value in (1, 1.0, True, "1", None, -0.0, 0.0):
        made = from_mapping(Outer, {"plain": {"a": value}}, where="here").plain["a"]
        assert (type(made), repr(made)) == (type(value), repr(value))
    for where in ("here", "there"):
        with pytest.raises(ConfigError, match=f"{where}: 'rounds' has a value of the wrong type"):
            from_mapping(Outer, {"rounds": "many"}, where=where)


def test_layers_lie_one_on_another_and_each_answers_for_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, "plain: {a: 1, b: {c: 2, d: 3}}\ninner: {names: [x, y]}\n")
    made = load_config(Outer, path, ["inner.names=[z]", "rounds=6", "rounds=7"], values={"plain": {"b": {"d": 4}}})
    assert made == Outer(rounds=7, inner=Inner(names=["z"]), plain={"a": 1, "b": {"c": 2, "d": 4}})
    with pytest.raises(ConfigError, match="command line 'rounds=many'"):
        load_config(Outer, path, ["rounds=6", "rounds=many", "rate=1"])


@dataclass
class Kinds:
    share: float = 1
    rates: list[float] = field(default_factory=lambda: [1])
    table: dict[str, float] = field(default_factory=lambda: {"b": 2})
    plain: dict[str, Any] = field(default_factory=lambda: {"a": 1, "b": {"c": [2]}})


@pytest.mark.parametrize(
    "values",
    [{}, {"share": 2}, {"rates": [3, 0.5]}, {"table": {"c": 1}}, {"plain": {"b": {"c": None, "d": []}}}, {"plain": {}}],
)
def test_settings_are_what_omegaconf_makes_of_them_and_everyones_own(values: dict[str, Any]) -> None:
    expected = repr(OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Kinds), values)))
    made = from_mapping(Kinds, values, where="here")
    assert repr(made) == expected
    made.plain["b"]["c"] = "changed"
    made.rates.append(9.0)
    assert repr(from_mapping(Kinds, values, where="here")) == expected
    assert repr(load_config(Kinds, values=values)) == expected


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["${a}", "???", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["rounds", "title", "active", "inner", "plain", "rate", "names"])


@given(values=st.dictionaries(KEYS, st.dictionaries(KEYS, PLAIN, max_size=3) | PLAIN, max_size=5))
@settings(max_examples=100, deadline=None)
def test_whatever_comes_is_taken_as_it_is_or_refused_by_us(values: dict[str, Any]) -> None:
    try:
        made = from_mapping(Outer, values, where="here")
    except ConfigError as error:
        assert "here" in str(error)
    else:
        assert "${" not in str(to_mapping(made))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_commented_defaults_load_back_and_say_every_help(schema: type, tmp_path: Path) -> None:
    text = commented_yaml(schema)
    assert load_config(schema, written(tmp_path, text)) == schema()
    # Also by whoever reads YAML 1.1, where a bare "on" is a truth value.
    assert yaml.safe_load(text) == to_mapping(schema())
    for help_ in helps(schema):
        assert f"# {help_}" in text


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_field_carries_help(schema: type) -> None:
    for text in helps(schema):
        assert text.strip() == text
        assert text.endswith((".", ")."))
        assert "\n" not in text


def helps(schema: type) -> list[str]:
    found = []
    for each in dataclasses.fields(schema):
        assert each.metadata.get("help"), f"{schema.__name__}.{each.name} has no help"
        found.append(each.metadata["help"])
        kind = typing.get_type_hints(schema)[each.name]
        if dataclasses.is_dataclass(kind):
            found += helps(typing.cast("type", kind))
    return found


def test_plain_data_and_back() -> None:
    config = load_config(ExperimentConfig, None, ["data.path=/images", "compare.seeds=[1, 2]"])
    assert from_mapping(ExperimentConfig, to_mapping(config), where="here") == config
    with pytest.raises(ConfigError, match="here: unknown key 'dta'; did you mean 'data'"):
        from_mapping(ExperimentConfig, {"dta": {}}, where="here")


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "simulations" / "conf").glob("*.yaml")))
def test_every_configuration_we_ship_loads(path: Path) -> None:
    assert load_config(ExperimentConfig, path).name != "experiment"


@dataclass
class Wider(Outer):
    """Adds to `Outer`, and changes one thing of two of its fields."""

    rounds: int = again(Outer, "rounds", default=9)
    inner: Inner = again(Outer, "inner", make=lambda: Inner(rate=0.25))
    more: int = field(default=1, metadata={"help": "More."})


def test_a_configuration_that_adds_to_another_keeps_its_order_and_words() -> None:
    before, after = commented_yaml(Outer), commented_yaml(Wider)
    assert after.startswith("# Rounds.\nrounds: 9\n# A title.\n")
    assert [line for line in before.splitlines() if line.lstrip().startswith("#")] == [
        line for line in after.splitlines() if line.lstrip().startswith("#")
    ][:-1]
    assert load_config(Wider, None, ["more=3"]).inner == Inner(rate=0.25)
    with pytest.raises(ConfigError, match="did you mean 'more'"):
        load_config(Wider, None, ["mor=3"])


def test_a_field_said_again_with_other_words_keeps_its_default() -> None:
    found = again(Inner, "rate", words="Another word.")
    assert (found.default, found.metadata["help"]) == (0.5, "Another word.")
