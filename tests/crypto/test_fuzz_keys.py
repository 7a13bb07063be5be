"""What reads key files, recipient files and shared keys, under 400 examples of each kind of bad input."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import sealed_file

EXAMPLES = settings(max_examples=150, deadline=None)


def _script() -> Any:
    """The atheris script, whose target asks the same questions."""
    path = Path(__file__).parents[1] / "fuzz" / "fuzz_keys.py"
    spec = importlib.util.spec_from_file_location("fuzz_keys", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUZZ = _script()

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.text(st.characters(codec=None), max_size=8)
    | st.text("0123456789abcdef", min_size=32, max_size=32)
    | st.binary(max_size=64).map(FUZZ.recipient.text_of),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
edits = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 8), st.binary(max_size=8)), max_size=4)
files = st.integers(0, 4)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        # The target lowers both; they are put back with these.
        patch.setattr(sealed_file, "SCRYPT_N", FUZZ.CHEAP)
        patch.setattr(sealed_file, "LARGEST_N", FUZZ.CHEAP)
        yield FUZZ.Target(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("index", range(5))
def test_the_valid_files_are_read_by_what_they_are_for(target: Any, index: int) -> None:
    # By `inspect`, and by the one thing that opens them.
    assert target.judge(target.valid[index]) == 2


@EXAMPLES
@given(st.binary(max_size=4096) | st.builds(bytes.__mul__, st.sampled_from([b"[", b'{"":']), st.integers(1, 50_000)))
def test_bytes_of_any_kind_are_refused_in_our_words(target: Any, data: bytes) -> None:
    assert target.judge(data) == 0


@EXAMPLES
@given(files, edits)
def test_a_file_with_other_bytes_holds_the_same_keys_or_none(
    target: Any, index: int, edits: list[tuple[int, int, bytes]]
) -> None:
    target.judge(target.mutated(index, edits))


@EXAMPLES
@given(files, st.sampled_from(FUZZ.FIELDS), values)
def test_a_file_with_another_field_holds_the_same_keys_or_none(
    target: Any, index: int, field: str, value: object
) -> None:
    target.judge(target.with_field(index, field, value))
