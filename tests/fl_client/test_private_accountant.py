"""What noisy steps cost, held to accountants that are tighter, and the ledger over runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from opacus.accountants import PRVAccountant

from fl_client.privacy.accountant import ORDERS, Charge, epsilon, noise_for
from fl_client.privacy.budget import Budget, Course, EpsilonLimit
from fl_client.privacy.ledger import Ledger
from medveil.errors import ConfigError, IntegrityError, PolicyError
from medveil.privacy import LARGEST_ORDER, MOST_EPSILON, PrivacyConfig, least_epsilon

LOSS_DISTRIBUTIONS = {
    (256 / 3500, 1.0, 200, 1e-4): 6.0726,
    (256 / 3500, 2.0, 400, 1e-4): 2.9437,
    (256 / 3500, 4.0, 400, 1e-4): 1.2325,
    (128 / 1177, 1.5, 80, 5e-4): 2.4976,
    (0.02, 0.8, 100, 1e-5): 2.6202,
    (1.0, 20.0, 60, 1e-5): 1.5004,
}
"""Epsilon of (rate, noise, steps, delta) by the PLD accountant of dp-accounting 0.6.0, made apart: what that needs
cannot be installed beside what we need."""
PROMISE = PrivacyConfig(unit="example", epsilon=3.0, delta=1e-4)
COURSE = Course(run="a", rounds=4, steps=10, rate=0.1)


@pytest.mark.parametrize(("kind", "tight"), LOSS_DISTRIBUTIONS.items())
def test_epsilon_is_above_that_of_privacy_loss_distributions_and_near_it(
    kind: tuple[float, float, int, float], tight: float
) -> None:
    rate, noise, steps, delta = kind
    found = epsilon([Charge(noise, rate, steps)], delta)
    assert tight <= found <= 1.27 * tight


def test_epsilon_is_above_that_of_the_prv_accountant_for_rounds_of_different_noise() -> None:
    tight = PRVAccountant()
    tight.history = [(1.2, 0.1, 30), (2.0, 0.1, 30)]
    found = epsilon([Charge(1.2, 0.1, 20), Charge(2.0, 0.1, 30), Charge(1.2, 0.1, 10)], 1e-4)
    assert tight.get_epsilon(delta=1e-4) <= found <= 1.27 * tight.get_epsilon(delta=1e-4)


def test_nothing_costs_nothing_and_no_noise_costs_everything() -> None:
    assert epsilon([], 1e-5) == 0.0
    assert math.isinf(epsilon([Charge(2.0, 0.1, 5), Charge(0.0, 0.1, 1)], 1e-5))


def test_the_least_noise_keeps_the_promise_and_little_less_does_not() -> None:
    noise = noise_for(2.0, 1e-4, rate=0.1, steps=40)
    assert epsilon([Charge(noise, 0.1, 40)], 1e-4) <= 2.0
    assert epsilon([Charge(noise * 0.999, 0.1, 40)], 1e-4) > 2.0
    with pytest.raises(ConfigError, match="no noise is enough"):
        noise_for(2.0, 1e-4, rate=0.1, steps=40, before=[Charge(noise * 0.5, 0.1, 40)])


@pytest.mark.parametrize("delta", [1e-5, 1e-300])
def test_what_no_noise_can_keep_is_no_promise(delta: float) -> None:
    assert ORDERS[-1] == LARGEST_ORDER
    least = least_epsilon(delta)
    assert epsilon([Charge(1e9, 0.1, 10)], delta) == pytest.approx(least)
    promise = PrivacyConfig(unit="example", epsilon=1.01 * least + 1e-3, delta=delta)
    promise.check()
    assert epsilon([Charge(noise_for(promise.epsilon, delta, rate=0.01, steps=1), 0.01, 1)], delta) <= promise.epsilon
    with pytest.raises(ConfigError, match=r"'epsilon' is out of its range; above .*: less cannot be counted"):
        PrivacyConfig(unit="example", epsilon=least, delta=delta).check()


@pytest.mark.parametrize("delta", [1e-5, 1e-300])
def test_the_largest_promise_is_kept(delta: float) -> None:
    assert 0 < epsilon([Charge(noise_for(MOST_EPSILON, delta, rate=1.0, steps=5), 1.0, 5)], delta) <= MOST_EPSILON


def test_a_run_takes_one_noise_and_comes_to_what_it_promised(tmp_path: Path) -> None:
    budget, _ = made(tmp_path)
    noises = {charged(budget, round_).noise for round_ in (1, 2, 3, 4)}
    assert len(noises) == 1
    assert 0.97 * PROMISE.epsilon < budget.spent <= PROMISE.epsilon


def test_rounds_that_are_made_again_are_charged_again_and_the_promise_is_kept(tmp_path: Path) -> None:
    """Killed after it was charged, taken up again, asked for twice: the server may have seen each of them."""
    budget, ledger = made(tmp_path)
    first = charged(budget, 1)
    for round_ in (2, 2, 3):
        charged(budget, round_)
    assert charged(budget, 4).noise > first.noise
    assert len(ledger.of("a")) == 5
    assert 0.97 * PROMISE.epsilon < budget.spent <= PROMISE.epsilon
    with pytest.raises(ConfigError, match="no noise is enough to keep it"):
        for _ in range(200):
            charged(budget, 4)
    assert budget.spent <= PROMISE.epsilon, "whatever a server asks for"


def test_a_simulated_round_that_is_made_again_is_the_same_round(tmp_path: Path) -> None:
    budget, ledger = made(tmp_path, repeats=True)
    once = [charged(budget, round_) for round_ in (1, 2, 3, 4)]
    again = [charged(budget, round_) for round_ in (3, 4)]
    assert again == once[2:]
    assert ledger.of("a") == once


def test_all_runs_on_the_same_images_add_up_and_the_sites_limit_holds(tmp_path: Path) -> None:
    limit = EpsilonLimit(1e-4, at_most(4.0))
    first, ledger = made(tmp_path, limit=limit)
    for round_ in (1, 2, 3, 4):
        charged(first, round_)
    told = ledger.spent()
    assert told is not None and (told.runs, told.unit, told.delta) == (1, "example", 1e-4)
    assert first.spent - 0.01 <= told.epsilon <= first.spent

    second, _ = made(tmp_path, run="b", limit=limit)
    charged(second, 1)
    before = (tmp_path / "privacy.json").read_bytes()
    with pytest.raises(PolicyError, match="more than 4"):
        for _ in range(20):
            before = (tmp_path / "privacy.json").read_bytes()
            charged(second, 2)
    assert (tmp_path / "privacy.json").read_bytes() == before, "what was refused is not charged"
    together = ledger.spent()
    assert together is not None and told.epsilon < together.epsilon <= 4.0
    assert together.epsilon == pytest.approx(epsilon([*ledger.of("a"), *ledger.of("b")], 1e-4))


def test_a_ledger_of_images_does_not_count_patients(tmp_path: Path) -> None:
    budget, _ = made(tmp_path)
    charged(budget, 1)
    other, _ = made(tmp_path, run="b", promise=PrivacyConfig(unit="patient", epsilon=3.0, delta=1e-4))
    with pytest.raises(ConfigError, match="is patient, and this site's ledger counts by example"):
        charged(other, 1)


def test_a_run_whose_ledger_is_gone_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.json")
    ledger.begin("a", served=False)
    ledger.begin("a", served=True)
    assert ledger.spent() is None, "nothing was charged yet"
    (tmp_path / "privacy.json").unlink()
    with pytest.raises(IntegrityError, match="does not know this run, which was served here before"):
        ledger.begin("a", served=True)


def test_a_ledger_that_was_cut_or_cannot_be_is_refused(tmp_path: Path) -> None:
    budget, ledger = made(tmp_path)
    charged(budget, 1)
    path = tmp_path / "privacy.json"
    document = json.loads(path.read_text())
    twice = {**document, "runs": [*document["runs"], *document["runs"]]}
    path.write_text(json.dumps(twice))
    with pytest.raises(IntegrityError, match="names a run twice"):
        ledger.of("a")
    document["runs"][0]["rounds"][0]["rate"] = 2.0
    path.write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="a round that cannot be"):
        ledger.of("a")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(IntegrityError):
        charged(budget, 2)


def test_runs_without_noise_are_told_beside_the_number(tmp_path: Path) -> None:
    budget, ledger = made(tmp_path)
    ledger.without("plain")
    ledger.without("plain")
    assert ledger.spent() is None
    charged(budget, 1)
    told = ledger.spent()
    assert told is not None and told.without == 1


def test_a_site_adds_more_noise_than_the_promise_needs_where_its_limit_says_so(tmp_path: Path) -> None:
    least = charged(made(tmp_path / "a")[0], 1).noise
    budget, ledger = made(tmp_path / "b", limit=EpsilonLimit(noise=3 * least))
    assert [charged(budget, round_).noise for round_ in (1, 2, 2)] == [pytest.approx(3 * least)] * 3
    assert budget.spent < PROMISE.epsilon / 2
    assert charged(made(tmp_path / "c", limit=EpsilonLimit(noise=least / 3))[0], 1).noise == pytest.approx(least)
    assert ledger.of("a")


def made(
    folder: Path,
    *,
    run: str = "a",
    repeats: bool = False,
    promise: PrivacyConfig = PROMISE,
    limit: EpsilonLimit | None = None,
) -> tuple[Budget, Ledger]:
    ledger = Ledger(folder / "privacy.json", repeats=repeats)
    course = Course(run=run, rounds=COURSE.rounds, steps=COURSE.steps, rate=COURSE.rate)
    return Budget(promise, course, [], ledger, limit or EpsilonLimit()), ledger


def charged(budget: Budget, round_: int) -> Charge:
    return budget.hide(round_, lambda: bytes(32)).charge


def at_most(most: float) -> Callable[[Callable[[float], float]], None]:
    def allow(spent: Callable[[float], float]) -> None:
        if spent(1e-4) > most:
            raise PolicyError(f"more than {most:g}")

    return allow


def test_folders_share_a_ledger_by_a_link_and_one_that_leads_nowhere_is_not_a_fresh_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/privacy.json").symlink_to(tmp_path / "shared.json")
    linked = Ledger(tmp_path / "a/privacy.json")
    with pytest.raises(IntegrityError, match="is where a link leads, and not there"):
        linked.begin("a", served=False)
    Ledger(tmp_path / "shared.json").begin("a", served=False)
    linked.begin("b", served=False)
    assert (tmp_path / "a/privacy.json").is_symlink()
    assert Ledger(tmp_path / "shared.json").of("b") == []
    Ledger(tmp_path / "shared.json").begin("b", served=True)
