"""What the numbers in documents of ours may be."""

from __future__ import annotations

import pytest

from medveil.errors import IntegrityError
from medveil.shapes import check_shape


def test_every_id_that_flower_draws_is_a_whole_number() -> None:
    """Half of them are above 2^63: their runs could not be read again."""
    for each in (2**64 - 1, 2**63, 1, 0, -(2**63)):
        check_shape({"flower_runs": [each]}, {"flower_runs": [int]}, where="here")


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**400, True, 1.0, "1", None])
def test_what_is_no_whole_number_of_64_bits_is_refused(value: object) -> None:
    with pytest.raises(IntegrityError, match=r"flower_runs\[0\]"):
        check_shape({"flower_runs": [value]}, {"flower_runs": [int]}, where="here")
