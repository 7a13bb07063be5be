"""Intervals, agreement and equivalence: against known values, against scikit-learn, and by simulation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from fl_client.measures import measure
from medveil.errors import DataError, IntegrityError, StorageError
from simulations.equivalence import equivalence_test, prediction_agreement
from simulations.predictions import Predictions, load_predictions
from simulations.statistics import (
    Interval,
    accuracy,
    add_intervals,
    at_chance,
    auroc,
    balanced_accuracy,
    confusion,
    interval_of,
    mean_metric,
    resampling_note,
)


def from_correct(correct: np.ndarray, *, prefix: str = "", labels: np.ndarray | None = None) -> Predictions:
    """Two-class predictions that are right exactly where `correct` says so."""
    labels = np.zeros(len(correct), np.int64) if labels is None else labels
    answer = np.where(correct, labels, 1 - labels)
    probabilities = np.where(np.arange(2)[None, :] == answer[:, None], 0.9, 0.1).astype(np.float32)
    return Predictions(np.array([f"{prefix}{i}" for i in range(len(correct))]), labels, probabilities)


def drawn(rng: np.random.Generator, n: int, classes: int = 2, *, signal: float = 1.0, prefix: str = "") -> Predictions:
    labels = rng.integers(classes, size=n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += signal
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(np.array([f"{prefix}{i}" for i in range(n)]), labels, probabilities.astype(np.float32))


# --- the metrics themselves ---


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60), classes=st.integers(2, 5), ties=st.booleans())
def test_metrics_equal_scikit_learn(seed: int, n: int, classes: int, ties: bool) -> None:
    made = drawn(np.random.default_rng(seed), n, classes)
    p = np.round(made.probabilities, 1) if ties else made.probabilities
    present = np.unique(made.labels)
    assert accuracy(made.labels, p) == pytest.approx(np.mean(p.argmax(1) == made.labels))
    with np.errstate(all="ignore"):
        recalls = [np.mean(p.argmax(1)[made.labels == c] == c) for c in present]
    assert balanced_accuracy(made.labels, p) == pytest.approx(np.mean(recalls))
    if len(present) < 2:
        assert math.isnan(auroc(made.labels, p))
    elif classes == 2:
        assert auroc(made.labels, p) == pytest.approx(roc_auc_score(made.labels, p[:, 1]))
    else:
        each = [roc_auc_score(made.labels == c, p[:, c]) for c in present]
        assert auroc(made.labels, p) == pytest.approx(np.mean(each))
    at_its_site = measure(made.labels, p)
    assert at_its_site.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert at_its_site.auroc == pytest.approx(auroc(made.labels, p), nan_ok=True)


def test_balanced_accuracy_equals_scikit_learn_when_all_classes_are_present() -> None:
    made = drawn(np.random.default_rng(0), 400, 4)
    assert balanced_accuracy(made.labels, made.probabilities) == pytest.approx(
        balanced_accuracy_score(made.labels, made.predicted)
    )


def test_area_by_hand() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.8])
    labels = np.array([0, 0, 1, 1])
    p = np.stack([1 - scores, scores], axis=1).astype(np.float32)
    # Four pairs: three won, one tied.
    assert auroc(labels, p) == pytest.approx(3.5 / 4)


def test_no_image_is_undefined() -> None:
    none = np.zeros(0, np.int64), np.zeros((0, 3), np.float32)
    assert all(math.isnan(metric(*none)) for metric in (accuracy, balanced_accuracy, auroc))


def test_mean_weights_sites_by_images_and_leaves_undefined_ones_out() -> None:
    rng = np.random.default_rng(1)
    large, small = drawn(rng, 90, prefix="a"), drawn(rng, 10, prefix="b")
    single = Predictions(small.ids, np.zeros(10, np.int64), small.probabilities)
    values = accuracy(large.labels, large.probabilities), accuracy(small.labels, small.probabilities)
    assert mean_metric([{"a": large, "b": small}], "accuracy") == pytest.approx(0.9 * values[0] + 0.1 * values[1])
    only = auroc(large.labels, large.probabilities)
    assert mean_metric([{"a": large, "b": single}], "auroc") == pytest.approx(only)
    assert math.isnan(mean_metric([{"b": single}], "auroc"))
    assert math.isnan(interval_of([{"b": single}], "auroc").low)


def test_confusion_counts_every_site_once() -> None:
    rng = np.random.default_rng(2)
    sites = {"a": drawn(rng, 30, 3, prefix="a"), "b": drawn(rng, 20, 3, prefix="b")}
    table = confusion(sites)
    assert table.shape == (3, 3)
    assert table.sum() == 50
    assert table.trace() == sum(each.correct.sum() for each in sites.values())
    assert table[0].sum() == sum((each.labels == 0).sum() for each in sites.values())


# --- intervals ---


def test_an_interval_repeats() -> None:
    runs = [{"a": drawn(np.random.default_rng(3), 80)}]
    assert interval_of(runs, "auroc") == interval_of(runs, "auroc")


def test_interval_of_an_accuracy_is_the_binomial_one() -> None:
    correct = np.arange(1000) < 800
    low, high = interval_of([{"a": from_correct(correct)}], "accuracy")
    judge = stats.binomtest(800, 1000).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((judge.low, judge.high), abs=1e-4)


def test_images_that_several_sites_predict_make_the_interval_wider() -> None:
    rng = np.random.default_rng(5)
    one = drawn(rng, 200)
    common = {f"site-{i}": one for i in range(4)}
    apart = {s: Predictions(np.char.add(f"{s}/", one.ids), one.labels, one.probabilities) for s in common}
    wide = interval_of([common], "accuracy")
    narrow = interval_of([apart], "accuracy")
    # Four copies of the same evidence are worth one: half the width would be a claim out of nothing.
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2.0, rel=0.15)
    assert wide == pytest.approx(interval_of([{"a": one}], "accuracy"), abs=0.02)
    assert "200 test images, however many" in resampling_note([common])
    assert "however many" not in resampling_note([apart])


def test_seeds_that_predict_the_same_images_add_no_images() -> None:
    rng = np.random.default_rng(6)
    one = {"a": drawn(rng, 150)}
    single = interval_of([one], "auroc")
    assert interval_of([one, one, one], "auroc") == pytest.approx(single)


def test_equal_ids_with_different_labels_are_different_images() -> None:
    labels = np.arange(40) % 2
    a = from_correct(np.ones(40, bool), labels=labels)
    b = from_correct(np.ones(40, bool), labels=1 - labels)
    assert "over 80 test images;" in resampling_note([{"a": a, "b": b}])
    assert "over 40 test images, however many" in resampling_note([{"a": a, "b": a}])


def test_chance_is_judged_by_the_interval() -> None:
    rng = np.random.default_rng(7)
    guessing = [{"a": drawn(rng, 300, signal=0.0)}]
    knowing = [{"a": drawn(rng, 300, signal=1.5)}]
    assert at_chance(interval_of(guessing, "auroc"))
    assert not at_chance(interval_of(knowing, "auroc"))
    assert not at_chance(Interval(math.nan, math.nan))


# --- pairs of arms ---


def test_agreement_pairs_by_image_and_not_by_place() -> None:
    rng = np.random.default_rng(8)
    one = drawn(rng, 100)
    order = rng.permutation(100)
    shuffled = Predictions(one.ids[order], one.labels[order], one.probabilities[order])
    assert prediction_agreement([{"a": one}], [{"a": shuffled}]) == 1.0
    flipped = one.probabilities.copy()
    flipped[:25] = flipped[:25, ::-1]
    other = Predictions(one.ids, one.labels, flipped)
    assert prediction_agreement([{"a": one}], [{"a": other}]) == pytest.approx(0.75)


def test_agreement_refuses_arms_that_are_not_pairs() -> None:
    rng = np.random.default_rng(9)
    a, b = drawn(rng, 20), drawn(rng, 20, prefix="x")
    with pytest.raises(DataError, match="same images"):
        prediction_agreement([{"s": a}], [{"s": b}])
    with pytest.raises(DataError, match="same runs and sites"):
        prediction_agreement([{"s": a}], [{"t": a}])
    with pytest.raises(DataError, match="same runs and sites"):
        prediction_agreement([{"s": a}], [{"s": a}, {"s": a}])
    relabelled = Predictions(a.ids, 1 - a.labels, a.probabilities)
    with pytest.raises(DataError, match="different labels"):
        equivalence_test([{"s": a}], [{"s": relabelled}])


def test_identical_arms_are_equivalent_when_there_are_images_enough_to_say_so() -> None:
    many = [{"a": drawn(np.random.default_rng(10), 624)}]
    result = equivalence_test(many, many)
    assert result.equivalent
    assert result.difference == 0.0
    assert result.p_value == pytest.approx(0.99**624)
    assert result.interval == pytest.approx((-(1 - 0.05 ** (1 / 624)), 1 - 0.05 ** (1 / 624)))
    assert "exact" in result.note
    assert result.verdict == "equivalent within ±1 point"
    # 298 identical answers still leave room for a difference of one point in the population; 299 do not.
    few = {n: [{"a": drawn(np.random.default_rng(10), n)}] for n in (298, 299)}
    assert not equivalence_test(few[298], few[298]).equivalent
    assert equivalence_test(few[299], few[299]).equivalent
    assert "not shown" in equivalence_test(few[298], few[298]).verdict


def test_three_points_are_not_equivalent() -> None:
    n = 3000
    a = [{"a": from_correct(np.arange(n) % 100 < 90)}]
    b = [{"a": from_correct(np.arange(n) % 100 < 87)}]
    result = equivalence_test(a, b)
    assert result.difference == pytest.approx(0.03)
    assert not result.equivalent
    assert result.p_value > 0.99
    assert equivalence_test(b, a).difference == pytest.approx(-0.03)
    assert equivalence_test(b, a).p_value == pytest.approx(result.p_value)


def test_equivalence_equals_two_t_tests_by_hand() -> None:
    rng = np.random.default_rng(11)
    right, left = rng.random(5000) < 0.9, rng.random(5000) < 0.9
    result = equivalence_test([{"a": from_correct(right)}], [{"a": from_correct(left)}], margin=0.02)
    d = right.astype(float) - left.astype(float)
    error = d.std(ddof=1) / math.sqrt(5000)
    upper = stats.ttest_1samp(d, 0.02, alternative="less").pvalue
    lower = stats.ttest_1samp(d, -0.02, alternative="greater").pvalue
    assert result.p_value == pytest.approx(max(upper, lower))
    assert result.interval == pytest.approx(stats.t.interval(0.90, 4999, loc=d.mean(), scale=error))
    # The test and the interval say the same.
    assert result.equivalent == (result.interval.low > -0.02 and result.interval.high < 0.02)


@pytest.mark.parametrize("discordance", [0.01, pytest.param(0.1, marks=pytest.mark.slow)])
def test_a_difference_of_exactly_the_margin_is_seldom_called_equivalent(discordance: float) -> None:
    # discordance 0.01 is the hardest case: every image that differs differs in the same direction.
    rng = np.random.default_rng(12)
    worse = (discordance + 0.01) / 2
    called = 0
    for _ in range(600):
        u = rng.random(624)
        right = np.where(u < worse, False, True)
        left = np.where((u >= worse) & (u < discordance), False, True)
        called += equivalence_test([{"a": from_correct(left)}], [{"a": from_correct(right)}]).equivalent
    assert called / 600 <= 0.085


def test_copies_of_an_image_do_not_count_as_new_evidence() -> None:
    rng = np.random.default_rng(13)
    a, b = (from_correct(rng.random(400) < 0.9) for _ in range(2))
    once = equivalence_test([{"s": a}], [{"s": b}], margin=0.05)
    thrice = equivalence_test([{"s": a, "t": a}] * 3, [{"s": b, "t": b}] * 3, margin=0.05)
    assert thrice.n == once.n == 400
    assert thrice.p_value == pytest.approx(once.p_value)


def test_differences_that_cancel_are_not_called_identical() -> None:
    right, wrong = (from_correct(np.full(500, value)) for value in (True, False))
    result = equivalence_test([{"s": right}, {"s": wrong}], [{"s": wrong}, {"s": right}])
    assert result.difference == 0.0
    assert "exact" not in result.note


@pytest.mark.parametrize("margin", [0.0, 1.0, -0.1, math.nan])
def test_a_margin_that_means_nothing_is_refused(margin: float) -> None:
    one = [{"a": from_correct(np.ones(3, bool))}]
    with pytest.raises(DataError, match="margin"):
        equivalence_test(one, one, margin=margin)


def test_one_image_shows_nothing() -> None:
    right, wrong = (from_correct(np.array([value])) for value in (True, False))
    assert not equivalence_test([{"a": right}], [{"a": wrong}]).equivalent


# --- run folders ---


def save(run: Path, site: str, predictions: Predictions) -> Path:
    file = run / "sites" / site / "predictions.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        file, ids=predictions.ids, labels=predictions.labels, probabilities=predictions.probabilities, split="test"
    )
    return file


def test_intervals_go_into_the_summary_and_leave_the_rest_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(14)
    sites = {f"site-{i}": drawn(rng, 60, 3, prefix=f"{i}/") for i in range(2)}
    for site, each in sites.items():
        save(tmp_path, site, each)
    (tmp_path / "summary.json").write_text(json.dumps({"accuracy": 0.5, "intervals": None, "other": [1]}))
    made = add_intervals(tmp_path)
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored == made
    assert stored["accuracy"] == 0.5
    assert stored["other"] == [1]
    for metric in ("accuracy", "balanced_accuracy", "auroc"):
        assert stored["intervals"][metric] == list(interval_of([sites], metric))
        assert stored["intervals"][metric][0] < mean_metric([sites], metric) < stored["intervals"][metric][1]
    assert "120 test images" in stored["intervals_note"]
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []


def test_intervals_say_when_there_is_nothing_to_resample(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        add_intervals(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    assert add_intervals(tmp_path) == {
        "intervals": None,
        "intervals_note": "no site has written predictions of test images",
    }


def test_an_undefined_interval_is_null(tmp_path: Path) -> None:
    save(tmp_path, "a", from_correct(np.ones(20, bool)))
    (tmp_path / "summary.json").write_text("{}")
    made = add_intervals(tmp_path)
    assert made["intervals"]["auroc"] is None
    # Twenty right answers of twenty leave room for wrong ones.
    assert made["intervals"]["accuracy"][0] == pytest.approx(20 / (20 + stats.t.ppf(0.975, 19) ** 2))
    assert made["intervals"]["accuracy"][1] == 1.0


def test_predictions_come_back_as_they_were_written(tmp_path: Path) -> None:
    one = drawn(np.random.default_rng(15), 10, 3)
    save(tmp_path, "b", one)
    save(tmp_path, "a", one)
    found = load_predictions(tmp_path)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["b"].probabilities, one.probabilities)
    np.testing.assert_array_equal(found["b"].ids, one.ids)
    assert load_predictions(tmp_path / "nowhere") == {}


def test_cut_and_foreign_predictions_are_refused(tmp_path: Path) -> None:
    one = drawn(np.random.default_rng(16), 10)
    file = save(tmp_path, "a", one)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="predictions"):
        load_predictions(tmp_path)
    np.savez(file, ids=one.ids, labels=one.labels)
    with pytest.raises(IntegrityError):
        load_predictions(tmp_path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": np.full(10, 7)}, "no column"),
        ({"labels": np.zeros(9, np.int64)}, "one length"),
        ({"ids": np.array(["same"] * 10)}, "twice"),
        ({"probabilities": np.full((10, 2), np.nan, np.float32)}, "between 0 and 1"),
        ({"probabilities": np.ones((10, 1), np.float32), "labels": np.zeros(10, np.int64)}, "two classes"),
    ],
)
def test_predictions_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, np.ndarray], match: str) -> None:
    one = drawn(np.random.default_rng(17), 10)
    fields = {"ids": one.ids, "labels": one.labels, "probabilities": one.probabilities, **change}
    save(tmp_path, "a", Predictions(**fields))
    with pytest.raises(IntegrityError, match=match):
        load_predictions(tmp_path)
