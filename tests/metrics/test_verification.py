"""Error rates against scikit-learn, closed forms and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrface.errors import DataError
from dsrface.metrics.verification import (
    Trials,
    auc,
    d_prime,
    d_primes,
    eer,
    far_support,
    lfw_accuracy,
    min_impostors,
    roc,
)


def tar_at_far(scores: np.ndarray, is_same: np.ndarray, *, far: float) -> float:
    return float(Trials(scores, is_same).accepted().tar_at_far(far)[0])


@st.composite
def trials(draw: st.DrawFn, min_impostor: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return scores with many ties, and labels with both kinds."""
    num_genuine, num_impostor = draw(st.integers(1, 30)), draw(st.integers(min_impostor, min_impostor + 60))
    values = st.integers(-12, 12)
    genuine = draw(st.lists(values, min_size=num_genuine, max_size=num_genuine))
    impostor = draw(st.lists(values, min_size=num_impostor, max_size=num_impostor))
    scores = np.array(genuine + impostor, np.float64) / 8
    is_same = np.arange(len(scores)) < num_genuine
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(scores))
    return scores[order], is_same[order]


def normal_trials(num: int = 400, gap: float = 1.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    is_same = np.arange(num) < num // 4
    return rng.normal(0, 1, num) + gap * is_same, is_same


@settings(max_examples=150, deadline=None)
@given(trials())
def test_roc_and_auc__equal_sklearn(case) -> None:
    from sklearn.metrics import roc_auc_score, roc_curve

    scores, is_same = case
    fpr, tpr, thresholds = roc_curve(is_same, scores, drop_intermediate=False)
    ours = roc(scores, is_same)
    np.testing.assert_allclose(ours.far, fpr)
    np.testing.assert_allclose(ours.tar, tpr)
    np.testing.assert_array_equal(ours.thresholds[1:], thresholds[1:])
    assert np.isposinf(ours.thresholds[0])
    assert auc(scores, is_same) == pytest.approx(roc_auc_score(is_same, scores), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(trials())
def test_eer__lies_on_the_roc_polygon_where_rates_are_equal(case) -> None:
    from sklearn.metrics import roc_curve

    scores, is_same = case
    fpr, tpr, _ = roc_curve(is_same, scores, drop_intermediate=False)
    # The oracle walks every edge of the polygon and solves far = 1 - tar on it.
    crossings = []
    for k in range(len(fpr) - 1):
        start, end = fpr[k] - (1 - tpr[k]), fpr[k + 1] - (1 - tpr[k + 1])
        if start <= 0 <= end:
            share = 0.0 if end == start else -start / (end - start)
            crossings.append(fpr[k] + share * (fpr[k + 1] - fpr[k]))
    assert eer(scores, is_same) == pytest.approx(crossings[0], abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(trials(min_impostor=30), st.sampled_from([0.1, 0.2, 0.3, 0.5]))
def test_tar_at_far__is_the_best_point_within_the_limit(case, far) -> None:
    from sklearn.metrics import roc_curve

    scores, is_same = case
    fpr, tpr, _ = roc_curve(is_same, scores, drop_intermediate=False)
    assert tar_at_far(scores, is_same, far=far) == tpr[fpr <= far + 1e-12].max()


@settings(max_examples=60, deadline=None)
@given(trials(min_impostor=60))
def test_tar_at_far__never_falls_when_more_is_permitted(case) -> None:
    rates = [tar_at_far(*case, far=far) for far in (0.05, 0.1, 0.2, 0.4, 0.8)]
    assert rates == sorted(rates)


@settings(max_examples=60, deadline=None)
@given(trials(min_impostor=30))
def test_all__depend_on_the_order_of_scores_alone(case) -> None:
    scores, is_same = case
    bent = np.exp(2 * scores) - 7  # any increasing map
    assert auc(bent, is_same) == auc(scores, is_same)
    assert eer(bent, is_same) == eer(scores, is_same)
    assert tar_at_far(bent, is_same, far=0.1) == tar_at_far(scores, is_same, far=0.1)
    folds = np.arange(len(scores)) % 5
    assert lfw_accuracy(bent, is_same, folds).per_fold == lfw_accuracy(scores, is_same, folds).per_fold


@settings(max_examples=60, deadline=None)
@given(trials())
def test_auc_and_eer__turn_over_with_the_scores(case) -> None:
    scores, is_same = case
    assert auc(1 - scores, is_same) == pytest.approx(1 - auc(scores, is_same), abs=1e-12)
    assert eer(1 - scores, is_same) == pytest.approx(1 - eer(scores, is_same), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(trials(), st.integers(0, 99))
def test_weights__count_like_repeated_pairs(case, seed) -> None:
    scores, is_same = case
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(scores)))
    weights[:, is_same.argmax()] = weights[:, (~is_same).argmax()] = 1  # neither side empty
    found = Trials(scores, is_same)
    accepted = found.accepted(weights[:, found.order])
    for row, weight in enumerate(weights):
        repeated = Trials(np.repeat(scores, weight), np.repeat(is_same, weight))
        plain = repeated.accepted()
        assert accepted.auc()[row] == pytest.approx(plain.auc()[0], abs=1e-12)
        assert accepted.eer()[row] == pytest.approx(plain.eer()[0], abs=1e-12)
        assert accepted.tar_at_far(0.1)[row] == pytest.approx(plain.tar_at_far(0.1)[0], abs=1e-12)
        ours = d_primes(found, weights.astype(float)[:, found.order])[row]
        expected = d_prime(np.repeat(scores, weight), np.repeat(is_same, weight))
        assert ours == pytest.approx(expected, rel=1e-6, abs=1e-6) or max(ours, expected) > 1e5


@settings(max_examples=60, deadline=None)
@given(trials(), st.integers(0, 99))
def test_corners__say_all_that_the_rates_need(case, seed) -> None:
    found = Trials(*case)
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(found))).astype(float)
    whole, corners = found.accepted(weights), found.accepted(weights, at_corners=True)
    assert corners.genuine.shape[1] <= min(2 * found.num_genuine, 2 * found.num_impostor) + 2
    np.testing.assert_allclose(corners.eer(), whole.eer(), atol=1e-12)
    np.testing.assert_array_equal(corners.auc(), whole.auc())
    for far in (0.5, 0.1, 0.01):
        np.testing.assert_array_equal(corners.tar_at_far(far), whole.tar_at_far(far))


def test_weights__an_empty_side_is_nan() -> None:
    scores, is_same = np.array([0.9, 0.2, 0.1]), np.array([True, False, False])
    accepted = Trials(scores, is_same).accepted(np.array([[0.0, 1, 1], [1, 0, 0], [1, 0, 1]]))
    for values in (accepted.eer(), accepted.auc(), accepted.tar_at_far(0.5)):
        assert np.isnan(values[:2]).all()
        assert np.isfinite(values[2])


def test_perfect_constant_and_reversed_scores() -> None:
    is_same = np.arange(100) < 40
    perfect = is_same.astype(float)
    assert (eer(perfect, is_same), auc(perfect, is_same)) == (0.0, 1.0)
    assert tar_at_far(perfect, is_same, far=0.1) == 1.0
    assert np.isposinf(d_prime(perfect, is_same))
    constant = np.full(100, 0.7)
    assert (eer(constant, is_same), auc(constant, is_same), d_prime(constant, is_same)) == (0.5, 0.5, 0.0)
    assert tar_at_far(constant, is_same, far=0.1) == 0.0  # ties are accepted together or not at all
    assert (eer(-perfect, is_same), auc(-perfect, is_same)) == (1.0, 0.0)


def test_d_prime__closed_form() -> None:
    scores, is_same = normal_trials(200_000, gap=2.0)
    assert d_prime(scores, is_same) == pytest.approx(2.0, abs=0.03)
    genuine, impostor = scores[is_same], scores[~is_same]
    expected = (genuine.mean() - impostor.mean()) / np.sqrt((genuine.var() + impostor.var()) / 2)
    assert d_prime(scores, is_same) == pytest.approx(expected)
    assert d_prime(scores * 5 - 3, is_same) == pytest.approx(expected)


def test_eer_and_auc__of_two_normal_distributions() -> None:
    from math import erf

    scores, is_same = normal_trials(400_000, gap=2.0)
    # Equal variances: EER = Phi(-d'/2), AUC = Phi(d'/sqrt 2).
    assert eer(scores, is_same) == pytest.approx((1 - erf(1 / 2**0.5)) / 2, abs=0.003)
    assert auc(scores, is_same) == pytest.approx((1 + erf(1.0)) / 2, abs=0.003)


def test_tar_at_far__permits_exactly_the_share_asked_for() -> None:
    # 100 impostors; 0.29 * 100 is 28.999999999999996 in floating point, and 29 errors are permitted.
    impostor = np.arange(100, dtype=float)
    scores, is_same = np.append(impostor, 70.5), np.append(np.zeros(100, bool), True)
    assert tar_at_far(scores, is_same, far=0.29) == 1.0  # impostors 71..99 are 29
    assert tar_at_far(scores, is_same, far=0.28) == 0.0


def test_tar_at_far__at_most_not_nearest() -> None:
    # One impostor of 30 is above the genuine score; FAR 1/30 = 0.033 is nearest to 0.03 but above it.
    scores = np.concatenate([[5.0], [9.0], np.zeros(99)])
    is_same = np.arange(101) < 1
    assert tar_at_far(scores, is_same, far=0.03) == 1.0
    tied = np.concatenate([[5.0], [5.0] * 4, np.zeros(96)])
    assert tar_at_far(tied, is_same, far=0.03) == 0.0


def test_far_support__rules_of_3_and_30() -> None:
    assert [min_impostors(far) for far in (0.1, 0.01, 1e-3, 1e-4)] == [30, 300, 3000, 30_000]
    assert [far_support(0.01, n) for n in (299, 300, 2999, 3000)] == ["none", "weak", "weak", "good"]


@pytest.mark.parametrize("is_same", [np.ones(4, bool), np.zeros(4, bool)])
def test_one_sided_pairs_are_refused(is_same) -> None:
    with pytest.raises(DataError) as caught:
        eer(np.arange(4.0), is_same)
    assert caught.value.id == "one-sided-pairs"


def test_nan_scores_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        auc(np.array([0.1, np.nan]), np.array([True, False]))
    assert caught.value.id == "scores-not-finite"


def test_lfw_accuracy__threshold_comes_from_the_other_folds() -> None:
    # In fold 1 everything is 10 higher: a threshold taken from that fold itself would be perfect.
    scores = np.array([1.0, 2, 3, 4] * 2 + [11.0, 12, 13, 14])
    is_same = np.array([False, False, True, True] * 3)
    folds = np.repeat([0, 1, 2], 4)
    result = lfw_accuracy(scores, is_same, folds)
    assert result.per_fold == (1.0, 1.0, 0.5)
    assert result.accuracy == pytest.approx(2.5 / 3)
    assert result.std == pytest.approx(np.std([1, 1, 0.5], ddof=1))
    assert result.thresholds[2] == 3.0


def test_lfw_accuracy__agrees_with_a_slow_search() -> None:
    scores, is_same = normal_trials(300)
    folds = np.random.default_rng(1).integers(0, 10, 300)
    result = lfw_accuracy(scores, is_same, folds)
    for fold in range(10):
        train, test = folds != fold, folds == fold
        candidates = np.append(np.unique(scores[train]), np.inf)
        train_best = max(np.mean((scores[train] >= t) == is_same[train]) for t in candidates)
        chosen = result.thresholds[fold]
        assert np.mean((scores[train] >= chosen) == is_same[train]) == pytest.approx(train_best)
        assert result.per_fold[fold] == np.mean((scores[test] >= chosen) == is_same[test])


def test_lfw_accuracy__meaningless_scores_earn_no_more_than_reject_all() -> None:
    # "99.4 % accuracy" was the share of impostors: reject-all must stand beside the figure.
    rng = np.random.default_rng(0)
    is_same = np.arange(1720) % 172 == 0  # 0.58 % genuine
    result = lfw_accuracy(rng.normal(size=1720), is_same, np.arange(1720) // 172)
    assert result.reject_all == pytest.approx(171 / 172)
    assert result.accuracy > 0.98
    assert result.accuracy <= result.reject_all + 1e-9


def test_lfw_accuracy__one_fold_is_refused() -> None:
    scores, is_same = normal_trials(20)
    with pytest.raises(DataError) as caught:
        lfw_accuracy(scores, is_same, np.zeros(20, int))
    assert caught.value.id == "too-few-folds"
