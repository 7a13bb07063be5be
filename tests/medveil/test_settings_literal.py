"""Settings are what was written: text where the field is text, numbers where it is a number, each key once."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto.config import CipherConfig
from fl_client.config import SimulatedSites
from fl_client.deployment.config import SiteConfig
from fl_server.deployment.consortium import ConsortiumConfig
from fl_server.deployment.plan import RunFile
from medveil.bounded import parse_yaml
from medveil.config import commented_yaml, from_mapping, load_config, to_mapping
from medveil.contract import RunConfig
from medveil.errors import ConfigError
from medveil.yaml_core import meaning, meant, written_yaml
from simulations.attacks.config import AttackConfig
from simulations.config import ExperimentConfig

SCHEMAS = [
    ExperimentConfig,
    SiteConfig,
    ConsortiumConfig,
    RunFile,
    RunConfig,
    SimulatedSites,
    AttackConfig,
    CipherConfig,
]
_TAKEN_OTHERWISE = r"""0123 012 0o17 0x10 1e3 1_000 1:30 +.inf .nan 12e03 y Y n N yes Yes no NO on off On True false
nil None ~ 2026-11-28 2026-11-28T10:00:00Z = - . 3.0 -0 += [a] {a:b} #x @x %x 5% *x &x !x |x >x ?x a: a:b C:\x "q"
q' é 影像"""
OTHERWISE = _TAKEN_OTHERWISE.split()
SPACED = [
    "/a/yn #2",
    " leading",
    "trailing ",
    "a: b",
    "a, b",
    "it's",
    'say "x"',
    "- a",
    "? a",
    "<<",
    "#",
    "a\tb",
    "a\nb",
]


@pytest.mark.parametrize("text", [*OTHERWISE, *SPACED, "Null", "NULL", "[no"])
def test_a_command_line_gives_a_text_as_it_stands(text: str) -> None:
    made = load_config(ExperimentConfig, None, [f"data.path={text}", f"name={text}", f"data.group_by={text}"])
    assert (made.data.path, made.name, made.data.group_by) == (text, text, text)


def test_null_and_nothing_take_back_what_may_be_null(tmp_path: Path) -> None:
    file = written(tmp_path, "data: {path: a, labels: b, classes: [a, b], image_size: 3}\n")
    for none in ("null", ""):
        given = [f"data.{name}={none}" for name in ("path", "labels", "classes", "image_size")]
        data = load_config(ExperimentConfig, file, given).data
        assert (data.path, data.labels, data.classes, data.image_size) == (None, None, None, None)
    assert load_config(ExperimentConfig, None, ["name=null"]).name == "null"
    assert load_config(ExperimentConfig, written(tmp_path, "name: null\ndata: {path: 'null', labels: null}")) == (
        load_config(ExperimentConfig, written(tmp_path, "name: 'null'\ndata: {path: \"null\"}"))
    )


PLAIN = [each for each in OTHERWISE if each[0] not in "-.[{#@%*&!|>?\"'" and not each.endswith(":")]


@pytest.mark.parametrize("text", [*PLAIN, "3.0", ".nan", "-0", "-.inf", "null"])
def test_a_file_gives_a_text_as_it_stands(text: str, tmp_path: Path) -> None:
    file = written(tmp_path, f"name: {text}\ndata:\n  classes: [{text}, b]\n")
    made = load_config(ExperimentConfig, file)
    assert (made.name, made.data.classes) == (text, [text, "b"])


@pytest.mark.parametrize(
    ("given", "is_"),
    [("12", 12), ("-3", -3), ("012", 12), ("0x10", 16), ("0o17", 15), ("+4", 4)],
)
def test_a_whole_number_is_that_of_yaml_1_2(given: str, is_: int, tmp_path: Path) -> None:
    for made in both(tmp_path, "seed", given):
        assert made.seed == is_


@pytest.mark.parametrize(("given", "is_"), [("1e-3", 1e-3), ("1", 1.0), (".5", 0.5), ("5.", 5.0), ("1E2", 100.0)])
def test_a_number_is_that_of_yaml_1_2(given: str, is_: float, tmp_path: Path) -> None:
    for made in both(tmp_path, "train.lr", given):
        assert made.train.lr == is_
        assert isinstance(made.train.lr, float)


@pytest.mark.parametrize("given", ["true", "True", "TRUE"])
def test_a_truth_value_is_true_or_false(given: str, tmp_path: Path) -> None:
    for made in both(tmp_path, "server.tensorboard", given):
        assert made.server.tensorboard is True


@pytest.mark.parametrize(
    ("key", "given", "kind"),
    [
        *[("cipher.negate", each, "bool: true or false") for each in ("yes", "on", "y", "1", "0", "no", "off", "tRue")],
        *[("seed", each, "int") for each in ("1_000", "1:30", "1.0", "1e3", "true", "one", "0b1", " 5", "５")],
        *[("train.lr", each, "float") for each in ("1_000.5", "inf", "nan", "true", "fast", "1e", "1,5")],
        *[("data.image_size", each, "int | None") for each in ("no", "6_4", "~x", "64px")],
    ],
)
def test_what_is_of_another_kind_is_refused_by_field_and_kind(key: str, given: str, kind: str, tmp_path: Path) -> None:
    for where, load in loads(tmp_path, key, given):
        with pytest.raises(ConfigError) as caught:
            load()
        assert f"'{key}' has a value of the wrong type" in str(caught.value), where
        assert f"expected {kind}" in str(caught.value)


def test_a_quoted_number_is_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'seed' has a value of the wrong type: it is text"):
        load_config(ExperimentConfig, written(tmp_path, 'seed: "3"'))
    with pytest.raises(ConfigError, match="it is text; expected bool"):
        from_mapping(ExperimentConfig, {"cipher": {"negate": "true"}}, where="here")
    assert from_mapping(ExperimentConfig, {"model": {"pretrained": False}}, where="here").model.pretrained == "false"
    with pytest.raises(ConfigError, match="it is a whole number; expected str"):
        from_mapping(ExperimentConfig, {"name": 83}, where="here")


@pytest.mark.parametrize(
    ("given", "is_"),
    [
        ("[no, yes]", ["no", "yes"]),
        ("[0, 01, 1e3, ~, null, 2026-11-28]", ["0", "01", "1e3", "~", "null", "2026-11-28"]),
        ('["a, b", \'c]\', " d", "x #y", "é\\n"]', ["a, b", "c]", " d", "x #y", "é\n"]),
        ("[a b, C:\\x, yn#2, ]", ["a b", "C:\\x", "yn#2"]),
        ("[]", []),
    ],
)
def test_a_list_is_typed_in_brackets(given: str, is_: list[str]) -> None:
    assert load_config(ExperimentConfig, None, [f"data.classes={given}"]).data.classes == is_


@pytest.mark.parametrize(
    "given",
    [
        "a",
        "a, b",
        "[a",
        "[a] b",
        "[a] #]",
        "[a #b, c]",
        "[a,\nb]",
        "[a: b]",
        "[[a]]",
        "[*x]",
        "[!!str a]",
        "{a: b}",
        "[,]",
    ],
)
def test_what_is_no_list_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.classes"):
        load_config(ExperimentConfig, None, [f"data.classes={given}"])


def test_numbers_in_a_list_are_numbers() -> None:
    made = load_config(ExperimentConfig, None, ["data.window=[-600, 1.5e3]", "compare.seeds=[1, 2]"])
    assert (made.data.window, made.compare.seeds) == ([-600.0, 1500.0], [1, 2])
    with pytest.raises(ConfigError, match=r"'compare\.seeds' .*item 2: it is text"):
        load_config(ExperimentConfig, None, ["compare.seeds=[1, 2_0]"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train: {lr: 1}\nname: x\ntrain: {epochs: 2}\n", "'train' stands twice, in lines 1 and 3"),
        ("train:\n  lr: 1\n  epochs: 2\n  lr: 2\n", "'train.lr' stands twice, in lines 2 and 4"),
        (
            "data:\n  partition:\n    alpha: 1\n    'alpha': 2\n",
            "'data.partition.alpha' stands twice, in lines 3 and 4",
        ),
        ('name: a\n"na\\x6de": b\n', "'name' stands twice"),
        ("data: {classes: [a, {b: 1, b: 2}]}", "'data.classes[1].b' stands twice"),
        ("a\x7f: 1\na\x7f: 2\n", "valid YAML"),
        ("name: x\n<<: {name: y}\n", "unknown key '<<'"),
        ("? [a]\n: b\n", "a key is a list or a section"),
    ],
)
def test_a_key_stands_once(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(ExperimentConfig, written(tmp_path, text))
    assert says in str(caught.value)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Whatever a field of this kind may hold."""
    options = typing.get_args(kind) if type(None) in typing.get_args(kind) else (kind,)
    return st.one_of(*map(_values_of, options))


TEXTS = st.sampled_from(
    [*OTHERWISE, *SPACED, "null", "", "\u2028", "a\u0085b", "\ufeffx", "\U0001f600", "\x1b[1m"]
) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def _values_of(kind: Any) -> st.SearchStrategy[Any]:
    if typing.get_origin(kind) is list:
        return st.lists(values_of(typing.get_args(kind)[0]), max_size=3)
    if typing.get_origin(kind) is dict:
        return st.dictionaries(st.text("abc", min_size=1), st.integers(-9, 9) | st.floats(-9, 9) | TEXTS, max_size=2)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = {each.name: values_of(hints[each.name]) for each in dataclasses.fields(kind)}
        # What says what other settings are; a name of none of its sets, and what is no setting, is refused.
        said = {"recipe": st.just("none"), "without_recipe": st.sampled_from([{}, {"train": {"lr": 0.5}}])}
        return st.builds(kind, **fields | {name: said[name] for name in fields if name in said})
    plain: dict[Any, st.SearchStrategy[Any]] = {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(-(2**63), 2**63),
        float: st.floats(allow_nan=False) | st.sampled_from([1e-5, 1e22, 1e16, 3.0]),
        str: TEXTS.filter(lambda text: "${" not in text and text != "???"),
    }
    return plain[kind]


@pytest.mark.parametrize("schema", SCHEMAS)
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_settings_written_back_are_the_same_settings(
    tmp_path_factory: pytest.TempPathFactory, schema: type, data: st.DataObject
) -> None:
    made = data.draw(_values_of(schema))
    file = tmp_path_factory.getbasetemp() / "written.yaml"
    for text in (
        commented_yaml(schema, made),
        written_yaml(to_mapping(made)),
        written_yaml(to_mapping(made), flow=True),
    ):
        file.write_text(text, encoding="utf-8")
        assert load_config(schema, file) == made
    assert from_mapping(schema, to_mapping(made), where="here") == made


@settings(max_examples=30, deadline=None)
@given(TEXTS)
def test_a_text_written_reads_back_by_either_version_of_yaml(text: str) -> None:
    for flow in (None, True, False):
        for unicode in (True, False):
            made = written_yaml({"a": [text], "b": text}, flow=flow, unicode=unicode)
            assert yaml.safe_load(made) == {"a": [text], "b": text}
            assert meant(parse_yaml(made, where="here")) == {"a": [text], "b": text}


@settings(max_examples=30, deadline=None)
@given(st.floats(allow_nan=False) | st.integers(-(10**30), 10**30) | st.booleans() | st.none())
def test_a_number_written_reads_back(value: Any) -> None:
    found = meaning(written_yaml([value], flow=True).strip()[1:-1])
    assert found == value
    assert type(found) is type(value)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loads(tmp_path: Path, key: str, given: str) -> list[tuple[str, typing.Callable[[], ExperimentConfig]]]:
    """A setting by a file, where its text can stand there plain, and by a command line."""
    section, _, name = key.rpartition(".")
    text = f"{section}: {{{name}: {given}}}" if section else f"{name}: {given}"
    file = written(tmp_path, text)
    by_line = [("line", lambda: load_config(ExperimentConfig, None, [f"{key}={given}"]))]
    return (
        by_line
        if given != given.strip() or "," in given
        else [*by_line, ("file", lambda: load_config(ExperimentConfig, file))]
    )


def both(tmp_path: Path, key: str, given: str) -> list[ExperimentConfig]:
    return [load() for _, load in loads(tmp_path, key, given)]
