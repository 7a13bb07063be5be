from __future__ import annotations

import inspect
import pickle

import pytest

from medveil import errors
from medveil.errors import (
    AggregationError,
    BasisError,
    ConfigError,
    DataError,
    DrainedError,
    FederationError,
    FormatError,
    IntegrityError,
    KeyMaterialError,
    MedVeilError,
    PacsError,
    PartialError,
    PolicyError,
    SignatureError,
    StorageError,
)

CODES = {
    MedVeilError: 2,
    ConfigError: 2,
    PolicyError: 2,
    FormatError: 2,
    DataError: 3,
    BasisError: 3,
    StorageError: 3,
    IntegrityError: 3,
    KeyMaterialError: 4,
    FederationError: 5,
    SignatureError: 5,
    AggregationError: 5,
    PacsError: 5,
    DrainedError: 6,
    PartialError: 6,
}


def test_every_error_has_the_documented_exit_code() -> None:
    found = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MedVeilError)}
    assert {kind: kind.exit_code for kind in found} == CODES


@pytest.mark.parametrize("kind", CODES)
def test_an_error_is_one_line_and_says_what_where_and_cure(kind: type[MedVeilError]) -> None:
    error = kind("two\nlines,  and\ttabs", where="a/b.yaml", cure="do\nthis")
    assert str(error) == "a/b.yaml: two lines, and tabs; do this"
    assert str(kind("only this")) == "only this"


@pytest.mark.parametrize("kind", CODES)
def test_an_error_survives_pickling(kind: type[MedVeilError]) -> None:
    error = kind("broken", where="there", cure="mend it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.problem, again.where, again.cure, str(again)) == ("broken", "there", "mend it", str(error))
