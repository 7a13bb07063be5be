from __future__ import annotations

import pytest

from fl_server.early_stopping import EarlyStopping
from fl_server.same_sites import Measured
from medveil.errors import ConfigError


def at_one_site(value):
    return Measured({} if value is None else {"a": value}, lambda sites: dict.fromkeys(sites, 1.0))


def fed(stopping, values):
    for round_, value in enumerate(values):
        stopping.see(round_, at_one_site(value))
        if stopping.stops:
            return round_
    return None


def test_stops_after_patience_rounds_without_improvement():
    assert fed(EarlyStopping(patience=2), [1.0, 0.8, 0.9, 0.85]) == 3
    assert fed(EarlyStopping(patience=2), [1.0, 0.8, 0.9, 0.7, 0.9, 0.9]) == 5


def test_never_stops_without_patience():
    assert fed(EarlyStopping(), [1.0] * 50) is None


def test_higher_is_better_for_auroc_and_accuracy():
    for monitor in ("auroc", "accuracy"):
        assert fed(EarlyStopping(patience=1, monitor=monitor), [0.5, 0.6, 0.7]) is None
        assert fed(EarlyStopping(patience=1, monitor=monitor), [0.5, 0.6, 0.6]) == 2


def test_a_gain_below_min_delta_is_none():
    assert fed(EarlyStopping(patience=1, min_delta=0.1), [1.0, 0.95]) == 1
    assert fed(EarlyStopping(patience=1, min_delta=0.1), [1.0, 0.85]) is None


def test_an_unknown_value_counts_neither_way():
    stopping = EarlyStopping(patience=1)
    assert fed(stopping, [None, 1.0, None, None, 0.5]) is None
    assert stopping.best == 0.5 and stopping.best_round == 4


def test_state_comes_back():
    one, other = EarlyStopping(patience=3), EarlyStopping(patience=3)
    fed(one, [1.0, 0.5, 0.6])
    other.state = one.state
    assert (other.best, other.best_round, other.waited) == (0.5, 1, 1)


def worsening(world):
    for site in world.sites:
        site.validation = lambda round_: 0.5 if round_ == 1 else 1.0 + round_


def test_a_run_stops_early_on_validation(make_world):
    world = make_world(3, rounds=9)
    worsening(world)
    summary = world.federate(patience=2)
    # Round 4's messages bring the measure of round 3's model, the second without improvement on round 1's.
    assert summary["status"] == "stopped-early" and summary["rounds"] == 4
    assert world.manifest()["status"] == "stopped-early"


def test_a_run_that_was_stopped_while_it_evaluated_stays_stopped(make_world):
    world = make_world(3, rounds=9)
    worsening(world)
    world.site("site-1").fails = lambda kind, _: KeyboardInterrupt() if kind == "evaluate" else None
    with pytest.raises(KeyboardInterrupt):
        world.federate(patience=2)
    world.site("site-1").fails = lambda kind, _: None
    assert world.federate(patience=2, resume=True)["rounds"] == 4


def test_early_stopping_needs_validation_measures(make_world):
    with pytest.raises(ConfigError, match="early stopping needs 'evaluate_first'"):
        make_world(3, evaluate_first=False).federate(patience=2)
