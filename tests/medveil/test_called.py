"""What a program hands a public call, held against its signature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medveil.called import typed
from medveil.errors import ConfigError


@typed
@dataclass(frozen=True)
class _Made:
    _made_by = "_Made(1) makes one"

    size: int


@typed
def _call(
    made: _Made | None = None,
    out: str | Path = "out",
    *,
    count: int | None = None,
    share: float = 0.5,
    names: str | Sequence[str] = "all",
    seeds: Sequence[int] = (0,),
    over: Mapping[str, Any] | None = None,
    window: tuple[float, float] | None = None,
    told: Callable[[str], None] | None = None,
    quiet: bool = True,
    slow: NotThere | None = None,  # type: ignore[name-defined]  # noqa: F821 - as what only a type checker imports
) -> tuple[Any, ...]:
    return made, out, count, share, names, seeds, over, window, told, quiet, slow


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"made": "demo"}, "_call(made=...): is 'demo'; _Made(1) makes one"),
        ({"out": None}, "_call(out=...): is None; expected str or Path"),
        ({"out": ""}, "_call(out=...): is empty; expected str or Path"),
        ({"out": "a\0b"}, "_call(out=...): has a zero byte, which no path can have; expected str or Path"),
        ({"count": "3"}, "_call(count=...): is '3'; expected int or None"),
        ({"count": 2.0}, "_call(count=...): is 2.0; expected int or None"),
        ({"count": True}, "_call(count=...): is True; expected int or None"),
        ({"share": float("nan")}, "_call(share=...): is not a number; expected float"),
        ({"names": ["a", 3]}, "_call(names=...): item 2 is 3; expected str or a list of str"),
        ({"seeds": 3}, "_call(seeds=...): is 3; expected a list of int"),
        ({"seeds": "012"}, "_call(seeds=...): is '012'; expected a list of int"),
        ({"seeds": np.array(3)}, "_call(seeds=...): is of type 'ndarray'; expected a list of int"),
        ({"over": ["train.lr"]}, "_call(over=...): is ['train.lr']; expected a dict or None"),
        ({"over": {3: 1}}, "_call(over=...): a name in it is 3; expected a dict or None"),
        ({"window": (1.0,)}, "_call(window=...): has 1 values; expected (float, float) or None"),
        ({"told": 3}, "_call(told=...): is 3; expected a function or None"),
        ({"quiet": 0}, "_call(quiet=...): is 0; expected True or False"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_its_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _call(**given)
    assert str(caught.value) == said


def test_what_is_as_it_should_be_comes_through() -> None:
    made = _Made(1)
    given = {"count": np.int64(3), "share": 1, "seeds": np.arange(2), "names": ("a",), "over": {"a": None}}
    found = _call(made, Path("x"), **given, window=[1, 2.5], told=print, quiet=False, slow="anything")  # type: ignore[arg-type]
    assert found == (made, Path("x"), 3, 1, ["a"], [0, 1], {"a": None}, (1, 2.5), print, False, "anything")
    assert _call() == (None, "out", None, 0.5, "all", (0,), None, None, None, True, None)


def test_a_class_is_held_to_its_own_signature_and_an_unknown_name_is_pythons_to_refuse() -> None:
    wrong: Any = "1"
    with pytest.raises(ConfigError, match=r"^_Made\(size=\.\.\.\): is '1'; expected int$"):
        _Made(wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument 'cout'"):
        _call(cout=3)  # type: ignore[call-arg]


@typed
def _refusing(option: str, recipe: str = "", safe_private: str = "") -> None:
    raise ConfigError(f"{option} cannot be", where=option, cure="see --recipe")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--from", "_refusing(recipe=...): recipe=... cannot be; see --recipe"),
        ("--safe-private", "_refusing(safe_private=...): safe_private=... cannot be; see --recipe"),
        ("--elsewhere", "--elsewhere: --elsewhere cannot be; see --recipe"),
        ("a file--recipe", "a file--recipe: a file--recipe cannot be; see --recipe"),
    ],
)
def test_an_error_names_the_argument_for_the_option(option: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _refusing(option)
    assert str(refused.value) == said
    assert str(refused.value.where) in said


@pytest.mark.parametrize("given", [{"share": 10**400}, {"share": -(10**400)}])
def test_a_whole_number_that_no_float_holds_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is larger than any number with a point"):
        _call(**given)
    assert _call(share=10**30)[3] == 1e30
    assert _call(share=3)[3] == 3
    assert _call(count=10**400)[2] == 10**400
