"""Thresholds against sklearn, against counting, and against persons they were not chosen on."""

import numpy as np
import pytest

from dsrface.metrics.bootstrap import draw_persons
from dsrface.metrics.thresholds import StoredThresholds, apply_thresholds, choose_thresholds


def people(num_persons, *, seed, images=4, dim=16, spread=0.7):
    """Return scores, flags and persons of all pairs of drawn embeddings."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_persons), images)
    centres = rng.normal(size=(num_persons, dim))
    rows = centres[labels] + spread * rng.normal(size=(len(labels), dim))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first, second = np.triu_indices(len(labels), 1)
    scores = np.sum(rows[first] * rows[second], axis=1)
    return scores, labels[first] == labels[second], labels[first], labels[second]


def test_choose__is_the_lowest_threshold_that_keeps_the_rate():
    scores, is_same, first, second = people(30, seed=0)
    counts = draw_persons(30, num_draws=200, seed=0)
    found = choose_thresholds(scores, is_same, first, second, fars=(0.1, 0.01, 0.001), counts=counts)
    assert [item.far for item in found] == [0.1, 0.01, 0.001]
    for item in found:
        threshold = item.score.value
        impostors = scores[~is_same]
        assert (impostors >= threshold).mean() <= item.far
        lower = scores[scores < threshold].max()
        assert (impostors >= lower).mean() > item.far
        assert item.tar == pytest.approx((scores[is_same] >= threshold).mean())
        assert item.score.low <= threshold <= item.score.high
        assert (item.num_persons, item.num_impostor) == (30, len(impostors))


def test_choose__equals_sklearn():
    from sklearn.metrics import roc_curve

    scores, is_same, first, second = people(20, seed=1)
    [found] = choose_thresholds(
        scores, is_same, first, second, fars=(0.01,), counts=draw_persons(20, num_draws=0, seed=0)
    )
    far, tar, thresholds = roc_curve(is_same, scores, drop_intermediate=False)
    last = np.flatnonzero(far <= 0.01)[-1]
    assert found.score.value == thresholds[last]
    assert found.tar == tar[last]
    assert found.score.low is None


def test_choose__leaves_out_what_the_pairs_cannot_support():
    scores, is_same, first, second = people(12, seed=2, images=2)  # 264 impostor pairs
    counts = draw_persons(12, num_draws=100, seed=0)
    found = choose_thresholds(scores, is_same, first, second, fars=(0.1, 0.01), counts=counts)
    assert [item.far for item in found] == [0.1]
    scores, is_same, first, second = people(9, seed=2, images=20)  # many pairs, few persons
    counts = draw_persons(9, num_draws=100, seed=0)
    assert choose_thresholds(scores, is_same, first, second, fars=(0.1,), counts=counts) == ()


def test_choose__supports_rates_by_photos_not_by_directions():
    scores, is_same, first, second = people(12, seed=2, images=2)  # 264 impostor pairs, each both ways
    twice = [np.concatenate(parts) for parts in ((scores, scores), (is_same, is_same))]
    ends = np.concatenate([first, second]), np.concatenate([second, first])
    counts = draw_persons(12, num_draws=100, seed=0)
    found = choose_thresholds(*twice, *ends, fars=(0.1, 0.01), counts=counts, trials_per_pair=2)
    assert found == choose_thresholds(scores, is_same, first, second, fars=(0.1, 0.01), counts=counts)
    assert [(item.far, item.num_impostor) for item in found] == [(0.1, 264)]


def test_choose__rejects_all_when_the_highest_scores_are_impostors():
    scores, is_same, first, second = people(12, seed=3)
    scores[~is_same] = 2.0  # all equal: accepting one accepts all
    [found] = choose_thresholds(
        scores, is_same, first, second, fars=(0.1,), counts=draw_persons(12, num_draws=0, seed=0)
    )
    assert found.score.value > 2.0
    assert found.tar == 0.0


def test_apply__counts_both_rates_with_intervals_by_person():
    scores, is_same, first, second = people(15, seed=4)
    counts = draw_persons(15, num_draws=300, seed=0)
    found, all_accepted = apply_thresholds((0.4, -1), scores, is_same, first, second, counts=counts)
    assert found.far.value == pytest.approx((scores[~is_same] >= 0.4).mean())
    assert found.tar.value == pytest.approx((scores[is_same] >= 0.4).mean())
    assert found.far.low <= found.far.value <= found.far.high
    assert found.tar.low <= found.tar.value <= found.tar.high
    assert (all_accepted.far.value, all_accepted.tar.low) == (1, 1)


def test_val_threshold__holds_on_other_persons_on_average():
    rates = []
    for seed in range(20):
        val, test = people(40, seed=seed), people(40, seed=100 + seed)
        [chosen] = choose_thresholds(*val, fars=(0.01,), counts=draw_persons(40, num_draws=0, seed=0))
        none = draw_persons(40, num_draws=0, seed=0)
        [applied] = apply_thresholds([chosen.score.value], *test, counts=none)
        rates.append(applied.far.value)
    assert np.mean(rates) == pytest.approx(0.01, rel=0.25)


def test_stored__comes_back_from_its_text():
    scores, is_same, first, second = people(30, seed=0)
    counts = draw_persons(30, num_draws=200, seed=0)
    chosen = choose_thresholds(scores, is_same, first, second, fars=(0.1, 0.01), counts=counts)
    stored = StoredThresholds({"vlr_size": 16, "images": "DSR", "degradation": None}, chosen)
    assert StoredThresholds.from_json(stored.to_json()) == stored
    assert stored.at(0.01) == chosen[1]
    assert stored.at(0.001) is None
