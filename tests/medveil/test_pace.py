from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from medveil.pace import Pace

SECONDS = st.floats(0, 100)


@given(st.floats(0.01, 60), st.lists(SECONDS, min_size=3, max_size=20))
def test_looks_take_a_tenth_of_the_time_at_most_once_they_are_slow(shortest: float, took: list[float]) -> None:
    pace = Pace(shortest)
    waits = [pace.wait(each) for each in took]
    assert all(each >= shortest for each in waits)
    assert all(wait == max(shortest, 10 * min(took[max(0, i - 2) : i + 1])) for i, wait in enumerate(waits))


@given(st.floats(0.01, 1), SECONDS)
def test_one_slow_look_among_quick_ones_changes_nothing(shortest: float, slow: float) -> None:
    pace = Pace(shortest)
    assert [pace.wait(took) for took in (0.0, slow, 0.0, 0.0)] == [shortest] * 4
