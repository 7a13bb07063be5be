"""What a server reads of a site's reply, under 2,000 examples of bad input; `tests/fuzz/fuzz_replies.py` goes on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def _script() -> Any:
    """The atheris script, whose target asks the same questions."""
    path = Path(__file__).parents[1] / "fuzz" / "fuzz_replies.py"
    spec = importlib.util.spec_from_file_location("fuzz_replies", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUZZ = _script()
INPUTS = FUZZ.inputs()
edits = st.lists(st.tuples(st.integers(0, 2**12), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=4)


@pytest.mark.parametrize("name", ["array", "measures", "row"])
def test_the_valid_inputs_are_taken(name: str) -> None:
    data = INPUTS[name]
    FUZZ.READERS[data[0]](data[1:])


@pytest.mark.parametrize("name", INPUTS)
def test_nothing_but_our_errors_comes_out_of_the_corpus(name: str) -> None:
    FUZZ.one_input(INPUTS[name])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(INPUTS)), edits)
def test_nothing_but_our_errors_comes_out_of_mutants(name: str, changes: list[tuple[int, int, bytes]]) -> None:
    data = bytearray(INPUTS[name])
    for at, gone, put in changes:
        start = at % (len(data) + 1)
        data[start : start + gone] = put
    FUZZ.one_input(bytes(data))
