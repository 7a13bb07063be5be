"""The mathematics of attacks on updates: labels from gradients, members from signals, sites in sums, keys in stems."""

from __future__ import annotations

import numpy as np
import pytest

from simulations.attacks.solvers import labels, members, stems, sums
from simulations.attacks.solvers.layout import recover_layout


def softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    return grown / grown.sum(axis=1, keepdims=True)


def gradient(probabilities: np.ndarray, truth: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    """Of the bias, by definition: the mean of p - y over a batch."""
    classes = probabilities.shape[1]
    targets = (1 - smoothing) * np.eye(classes)[truth] + smoothing / classes
    return (probabilities - targets).mean(axis=0)


@pytest.mark.parametrize("truth", range(4))
def test_one_label_is_the_negative_entry(truth: int) -> None:
    probabilities = softmax(np.random.default_rng(truth).normal(size=(1, 4)))
    assert labels.label_of_one(gradient(probabilities, np.array([truth]))) == truth


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_counts_are_exact_where_the_mean_answer_is_known(smoothing: float) -> None:
    rng = np.random.default_rng(1)
    probabilities, truth = softmax(rng.normal(size=(32, 5))), rng.integers(0, 4, 32)
    found = labels.counts_of(
        gradient(probabilities, truth, smoothing), 32, probabilities=probabilities.mean(axis=0), smoothing=smoothing
    )
    wanted = np.bincount(truth, minlength=5)
    assert found.tolist() == wanted.tolist()
    assert labels.share_told(found, wanted) == labels.classes_told(found, wanted) == 1.0


def test_counts_add_up_whatever_is_asked() -> None:
    assert labels.whole(np.array([-1.0, 0.5, 0.5]), 3).tolist() == [0, 2, 1]
    assert labels.whole(np.array([-1.0, -2.0]), 3).sum() == 3
    even, one = np.array([2, 2, 2, 2]), np.array([8, 0, 0, 0])
    assert (labels.share_told(even, one), labels.classes_told(even, one)) == (0.25, 0.25)


def test_a_taught_attacker_reads_counts_through_what_an_optimiser_made_of_them() -> None:
    rng = np.random.default_rng(2)

    def update(shares: np.ndarray) -> np.ndarray:
        # As AdamW does: no step is longer than the rate, whatever the gradient.
        return -np.tanh(3 * (1 / 4 - shares)) * 1e-3

    shares = rng.dirichlet(np.ones(4), 60)
    taught = labels.Taught(np.stack([update(each) for each in shares]), shares)
    wanted = np.array([20, 9, 3, 0])
    assert labels.share_told(taught.counts(update(wanted / 32), 32), wanted) > 0.9


def test_rmia_counts_what_its_definition_counts() -> None:
    rng = np.random.default_rng(3)
    x, refs, z, z_refs = rng.random(7), rng.random((2, 7)), rng.random(11), rng.random((2, 11))
    found = members.rmia(x, refs, z, z_refs, a=0.3)
    for i in range(7):
        ratio_x = x[i] / (0.65 * refs[:, i].mean() + 0.35)
        above = [ratio_x / (z[j] / (0.65 * z_refs[:, j].mean() + 0.35)) > 1 for j in range(11)]
        assert found[i] == pytest.approx(np.mean(above))


def signals(rng: np.random.Generator, n: int, *, seen: np.ndarray | None, hard: np.ndarray) -> np.ndarray:
    """A model's answers: images differ in how hard they are, and those it saw are easier."""
    eased = 0.0 if seen is None else 1.5 * seen
    return 1 / (1 + np.exp(-(hard + eased + 0.3 * rng.normal(size=n))))


def test_scores_that_know_how_hard_an_image_is_tell_members_better_than_loss() -> None:
    rng = np.random.default_rng(4)
    n = 400
    hard, z_hard, seen = 2 * rng.normal(size=n), 2 * rng.normal(size=n), np.arange(n) < n // 2
    target, z = signals(rng, n, seen=seen, hard=hard), signals(rng, n, seen=None, hard=z_hard)
    refs = np.stack([signals(rng, n, seen=None, hard=hard) for _ in range(3)])
    z_refs = np.stack([signals(rng, n, seen=None, hard=z_hard) for _ in range(3)])
    by_loss = members.auroc(target, seen)
    found = {
        "rmia": members.auroc(members.rmia(target, refs, z, z_refs, a=0.3), seen),
        "bavaria-t": members.auroc(members.bavaria(target, refs, student=True), seen),
        "bavaria-n": members.auroc(members.bavaria(target, refs, student=False), seen),
    }
    assert 0.6 < by_loss < 0.8
    # This many standard deviations apart no score is in doubt.
    assert all(value > by_loss + 0.1 for value in found.values()), found
    known = np.stack([signals(rng, n, seen=seen, hard=hard), *refs])
    assert 0 <= members.tuned_a(known, seen, np.stack([z, *z_refs])) <= 1


def test_bavaria_from_one_reference_is_finite_and_ranks() -> None:
    refs = np.array([[0.2, 0.5, 0.9]])
    found = members.bavaria(np.array([0.9, 0.5, 0.9]), refs, student=True)
    assert np.isfinite(found).all()
    assert found[0] > found[2]


def test_fedmia_finds_the_images_one_site_fits_and_others_do_not() -> None:
    rng = np.random.default_rng(5)
    measures = rng.normal(size=(4, 5, 200))
    seen = np.arange(200) < 100
    measures[:, 2, seen] += 2
    assert members.auroc(members.fedmia(measures, 2), seen) > 0.9
    # What another site holds speaks for it, and so against this one.
    assert members.auroc(members.fedmia(measures, 0), seen) < 0.4


def test_rates_at_few_false_alarms_need_as_many_others() -> None:
    scores, seen = np.arange(300.0), np.arange(300) >= 150
    right = members.caught(scores, seen, false_alarms=0.01)
    assert right.value == right.high == 1.0
    # Clopper and Pearson of 150 of 150: (alpha / 2)^(1 / n).
    assert right.low == pytest.approx(0.025 ** (1 / 150))
    assert np.isnan(members.caught(scores, seen, false_alarms=0.001).value)
    same = members.caught(np.zeros(300), seen, false_alarms=0.01)
    assert (same.value, same.low) == (0.0, 0.0)


def test_a_noise_of_two_to_eight_sites_hides_no_update_of_many_dimensions() -> None:
    rng = np.random.default_rng(6)
    common = rng.normal(size=2000)
    updates = common + rng.normal(size=(60, 2000))
    noise = sums.Noise(updates[:20])
    for sites in (1, 2, 8):
        right = []
        for trial in range(10):
            others = updates[rng.choice(np.arange(20, 58), sites - 1, replace=False)]
            first, second = updates[58], updates[59]
            sent = (first, second)[trial % 2]
            ratio = sums.which_of_two(others.sum(axis=0) + sent, first, second, noise, others=sites - 1)
            right.append((ratio > 0) == bool(trial % 2))
        assert all(right), sites


def test_equal_updates_are_told_apart_by_nothing() -> None:
    rng = np.random.default_rng(7)
    updates = rng.normal(size=(6, 50))
    noise = sums.Noise(updates[:4])
    assert sums.which_of_two(updates.sum(axis=0), updates[5], updates[5], noise, others=3) == 0.0


def test_a_difference_of_rounds_is_near_the_missing_update() -> None:
    rng = np.random.default_rng(8)
    others, own = rng.normal(size=(3, 4000)), rng.normal(size=4000)
    later = 0.8 * others.sum(axis=0) + 0.2 * rng.normal(size=4000)
    found = sums.difference(others.sum(axis=0) + own, later)
    assert sums.cosine(found, own) > 0.9
    assert sums.cosine(others.sum(axis=0) + own, own) < 0.6
    assert sums.cosine(np.zeros(5), np.ones(5)) == 0.0
    assert sums.difference(own, np.zeros(4000)).tolist() == own.tolist()


def test_a_stem_that_travels_gives_the_whole_key_away() -> None:
    rng = np.random.default_rng(9)
    weight, rows = rng.normal(size=(48, 64)), rng.normal(size=(16, 48))
    rho, pi, mask = rng.permutation(64), rng.permutation(16), rng.random(64) < 0.5
    moved = weight[:, rho] * np.where(mask, -1, 1) + 0.1 * rng.normal(size=weight.shape)
    found = stems.match_stem(moved, weight, rows[pi] + 0.1 * rng.normal(size=rows.shape), rows)
    assert found.rho.tolist() == rho.tolist()
    assert found.pi.tolist() == pi.tolist()
    assert found.mask.tolist() == mask.tolist()
    other = stems.match_stem(rng.normal(size=weight.shape), weight, None, None)
    assert (other.rho == rho).mean() < 0.2
    assert other.columns.max() < found.columns.min()
    assert len(other.pi) == 0


def test_what_a_stem_learned_from_smooth_images_shows_the_layout_of_their_pixels() -> None:
    from scipy.ndimage import gaussian_filter  # noqa: PLC0415

    rng = np.random.default_rng(11)
    blocks = gaussian_filter(rng.normal(size=(4000, 12, 12)), (0, 2, 2))[:, 2:10, 2:10].reshape(4000, 64)
    rho = rng.permutation(64)
    learned = rng.normal(size=(192, 4000)) @ blocks[:, rho]
    layout = recover_layout(stems.moments_of(learned, 255), 1, negate=False, rng=rng)
    assert stems.near(layout.place, rho, 8) > 0.9
    drawn = [stems.near(rng.permutation(64), rho, 8) for _ in range(5)]
    assert np.mean(drawn) < 0.4
