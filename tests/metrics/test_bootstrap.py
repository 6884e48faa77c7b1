"""Intervals by person."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dsrface.metrics.bootstrap import (
    Estimate,
    difference,
    draw_persons,
    estimate,
    mean_draws,
    pair_weights,
    verification_draws,
)
from dsrface.metrics.verification import Trials, auc, d_prime, eer


def people(num_persons: int, images: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return all pairs of images in a simulated space: persons differ in how well they match."""
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(num_persons), images)
    first, second = np.triu_indices(len(persons), 1)
    a, b = persons[first], persons[second]
    ease = rng.normal(0, 1, num_persons)
    scores = rng.normal(0, 0.3, len(a)) + np.where(a == b, 1.5 + ease[a], 0.5 * (ease[a] + ease[b]))
    return scores, a == b, a, b


def test_draws__are_seeded_and_as_many_as_there_are_persons() -> None:
    counts = draw_persons(40, num_draws=200, seed=7)
    assert counts.shape == (200, 40)
    assert (counts.sum(axis=1) == 40).all()
    np.testing.assert_array_equal(counts, draw_persons(40, num_draws=200, seed=7))
    assert (counts != draw_persons(40, num_draws=200, seed=8)).any()
    # A person stays out of a draw with probability (1 - 1/n)^n.
    assert np.mean(counts == 0) == pytest.approx((1 - 1 / 40) ** 40, abs=0.02)


def test_draws__are_the_same_in_another_process() -> None:
    # Seeds that came from Python's salted hash() changed with every start.
    code = "from dsrface.metrics.bootstrap import *; print(draw_persons(9, num_draws=3, seed=1).tolist())"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": salt, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert texts == {f"{draw_persons(9, num_draws=3, seed=1).tolist()}\n"}


def test_pair_weights__one_person_counts_once_two_persons_multiply() -> None:
    counts = np.array([[0, 1, 2, 3]], np.uint16)
    first, second = np.array([3, 3, 2, 0, 1]), np.array([3, 2, 1, 0, 0])
    assert pair_weights(first, second, counts).tolist() == [[3, 6, 2, 0, 0]]


def test_verification_draws__equal_really_resampled_persons() -> None:
    scores, is_same, a, b = people(6, 3, seed=0)
    counts = draw_persons(6, num_draws=20, seed=1)
    draws = verification_draws(Trials(scores, is_same), a, b, counts, fars=(0.1,))
    for row, count in enumerate(counts):
        weights = np.where(a == b, count[a], count[a].astype(int) * count[b])
        repeated, same = np.repeat(scores, weights), np.repeat(is_same, weights)
        if same.all():
            assert np.isnan(draws["eer"][row])
            continue
        assert draws["eer"][row] == pytest.approx(eer(repeated, same))
        assert draws["auc"][row] == pytest.approx(auc(repeated, same))
        assert draws["d_prime"][row] == pytest.approx(d_prime(repeated, same))


def test_verification_draws__chunks_change_nothing(monkeypatch) -> None:
    scores, is_same, a, b = people(8, 3, seed=2)
    counts = draw_persons(8, num_draws=50, seed=1)
    whole = verification_draws(Trials(scores, is_same), a, b, counts, fars=(0.1,))
    monkeypatch.setattr("dsrface.metrics.bootstrap._CHUNK_NUMBERS", 7 * len(scores))
    parts = verification_draws(Trials(scores, is_same), a, b, counts, fars=(0.1,))
    assert list(whole) == ["eer", "auc", "d_prime", "tar@0.1"]
    for name, values in whole.items():
        np.testing.assert_allclose(values, parts[name])


def test_mean_draws__weigh_every_image_of_a_person() -> None:
    values, persons = np.array([1.0, 3.0, 10.0]), np.array([0, 0, 1])
    counts = np.array([[1, 1], [2, 0], [0, 2]], np.uint16)
    np.testing.assert_allclose(mean_draws(values, persons, counts), [14 / 3, 2, 10])


@pytest.mark.slow
def test_interval__by_person_covers_the_truth_far_more_often_than_by_pair() -> None:
    truth = np.mean([auc(*people(60, 6, seed)[:2]) for seed in range(1000, 1030)])
    by_person = by_pair = 0
    for seed in range(60):
        scores, is_same, a, b = people(20, 6, seed)
        value, trials = auc(scores, is_same), Trials(scores, is_same)
        counts = draw_persons(20, num_draws=100, seed=seed)
        found = estimate(value, verification_draws(trials, a, b, counts)["auc"], num_persons=20)
        by_person += found.low <= truth <= found.high
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(len(scores), np.full(len(scores), 1 / len(scores)), 100)
        wrong = estimate(value, trials.accepted(weights[:, trials.order]).auc(), num_persons=20)
        by_pair += wrong.low <= truth <= wrong.high
    # Of 60: seen 47 by person (percentile intervals of 20 persons are a little narrow), 23 by pair.
    assert by_person >= 44
    assert by_pair <= by_person - 8


def test_difference__is_paired() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 1, 2000)  # the same hard or easy persons in both figures
    first, second = shared + rng.normal(0.2, 0.01, 2000), shared
    found = difference(0.2, 0.0, first, second, num_persons=2000)
    assert found.low == pytest.approx(0.18, abs=0.01)
    assert not found.covers_zero
    unpaired = difference(0.2, 0.0, first, rng.permutation(second), num_persons=2000)
    assert unpaired.covers_zero


def test_estimate__without_draws_or_with_mostly_undefined_ones_has_no_interval() -> None:
    draws = np.linspace(0, 1, 1001)
    mostly_undefined = np.concatenate([draws, np.full(1002, np.nan)])
    assert estimate(0.5, np.empty(0), num_persons=50) == Estimate(0.5)
    assert estimate(0.5, draws[:99], num_persons=50) == Estimate(0.5)
    assert estimate(0.5, mostly_undefined, num_persons=50) == Estimate(0.5)
    assert estimate(float("nan"), draws, num_persons=50) == Estimate(None)
    assert estimate(0.5, draws, num_persons=10**9).low == pytest.approx(0.025, abs=1e-4)
    assert Estimate(0.5).covers_zero
    assert Estimate(0.5, 0.1, 0.9).covers_zero is False


@pytest.mark.parametrize("num_persons", [10, 14, 30])
def test_interval__reaches_as_far_out_as_students_t_says(num_persons: int) -> None:
    from scipy.stats import norm, t

    draws = np.linspace(0, 1, 100_001)
    z = t.ppf(0.975, num_persons - 1) * (num_persons / (num_persons - 1)) ** 0.5
    found = estimate(0.5, draws, num_persons=num_persons)
    assert found.low == pytest.approx(norm.cdf(-z), abs=1e-4)
    assert found.high == pytest.approx(norm.cdf(z), abs=1e-4)


@pytest.mark.parametrize("num_persons", [2, 3, 9])
def test_interval__few_persons_give_none(num_persons: int) -> None:
    assert estimate(0.5, np.linspace(0, 1, 1001), num_persons=num_persons) == Estimate(0.5)


@pytest.mark.slow
@pytest.mark.parametrize("num_persons", [10, 14])
def test_interval__of_two_equal_methods_neither_is_called_better_more_often_than_promised(
    num_persons: int,
) -> None:
    alarms = dict.fromkeys(("eer", "mean"), 0)
    for seed in range(200):
        rng = np.random.default_rng(10_000 + seed)
        scores, is_same, a, b = people(num_persons, 6, seed)
        counts = draw_persons(num_persons, num_draws=300, seed=seed)
        values, draws = [], []
        for _ in range(2):  # the same persons, seen by two methods that err independently and equally
            ease = rng.normal(0, 0.5, num_persons)
            own = scores + np.where(is_same, ease[a], 0.0) + rng.normal(0, 0.3, len(scores))
            values.append(eer(own, is_same))
            draws.append(verification_draws(Trials(own, is_same), a, b, counts)["eer"])
        alarms["eer"] += not difference(*values, *draws, num_persons=num_persons).covers_zero
        persons = np.repeat(np.arange(num_persons), 6)
        gains = rng.normal(0, 0.3, num_persons)[persons] + rng.normal(0, 0.1, len(persons))
        mean = estimate(gains.mean(), mean_draws(gains, persons, counts), num_persons=num_persons)
        alarms["mean"] += not mean.covers_zero
    # 5 % of 200 is 10; 18 is reached by chance once in 100.
    assert alarms["eer"] <= 18
    assert alarms["mean"] <= 18
