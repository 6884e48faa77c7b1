"""Closed and open sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrface.errors import DataError
from dsrface.metrics.identification import Enrolment, Search, enrol, open_set_hits, rank_hits, search


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=3, max_size=30), st.integers(0, 9))
def test_enrol__no_photo_is_gallery_and_probe(sizes, seed) -> None:
    persons = np.repeat(np.arange(len(sizes)), sizes)
    if sum(size > 1 for size in sizes) < 2:
        with pytest.raises(DataError):
            enrol(persons, seed=seed)
        return
    found = enrol(persons, seed=seed)
    parts = np.concatenate([found.gallery, found.known, found.unknown])
    assert sorted(parts) == list(range(len(persons)))  # each image has one part to play
    assert len(set(persons[found.gallery])) == len(found.gallery)
    assert set(persons[found.known]) == set(persons[found.gallery])
    assert not set(persons[found.unknown]) & set(persons[found.gallery])
    again = enrol(persons, seed=seed)
    np.testing.assert_array_equal(found.gallery, again.gallery)


def test_enrolment__refuses_the_probes_own_photo() -> None:
    with pytest.raises(ValueError, match="image 3"):
        Enrolment(np.array([1, 3]), np.array([2, 3]), np.array([], int))


def test_enrol__too_few_persons_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        enrol(np.array([0, 0, 1, 2]), seed=0)
    assert caught.value.id == "too-few-persons"


def test_search__ranks_by_hand_and_ties_count_against() -> None:
    known = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.1], [0.1, 0.2, 0.3], [0.3, 0.3, 0.3]])
    found = search(
        known,
        np.array([[0.4, 0.6, 0.1]]),
        known_persons=np.array([10, 20, 10, 30]),
        gallery_persons=np.array([10, 20, 30]),
    )
    assert found.ranks.tolist() == [1, 2, 3, 3]
    assert found.unknown_scores.tolist() == [0.6]
    assert rank_hits(found, rank=1).mean() == 0.25
    assert rank_hits(found, rank=2).mean() == 0.5
    assert rank_hits(found, rank=3).all()


def test_search__constant_scores_earn_nothing_at_rank_one() -> None:
    found = search(
        np.ones((5, 4)), np.ones((2, 4)), known_persons=np.arange(5) % 4, gallery_persons=np.arange(4)
    )
    assert not rank_hits(found, rank=1).any()


def test_search__a_person_twice_in_the_gallery_is_refused() -> None:
    with pytest.raises(ValueError, match="once"):
        search(
            np.ones((1, 2)), np.ones((0, 2)), known_persons=np.array([1]), gallery_persons=np.array([1, 1])
        )


def test_open_set__by_hand() -> None:
    unknown = np.arange(30) / 100  # 0.00 .. 0.29; at 10 % three may pass: the limit is 0.26
    found = Search(np.array([1, 1, 2, 1]), np.array([0.27, 0.26, 0.9, 0.1]), unknown)
    assert open_set_hits(found, fpir=0.1).tolist() == [True, False, False, False]
    assert open_set_hits(found, fpir=0.5).tolist() == [True, True, False, False]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000))
def test_open_set__never_lets_more_unknowns_through_and_never_falls(seed) -> None:
    rng = np.random.default_rng(seed)
    unknown = rng.integers(0, 20, 60) / 20
    found = Search(rng.integers(1, 3, 40), rng.integers(0, 20, 40) / 20, unknown)
    rates = [open_set_hits(found, fpir=fpir).mean() for fpir in (0.05, 0.1, 0.2, 0.5)]
    assert rates == sorted(rates)
    hits = open_set_hits(found, fpir=0.1)
    if hits.any():
        assert np.mean(unknown >= found.known_scores[hits].min()) <= 0.1


def test_open_set__too_few_unknown_probes_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        open_set_hits(Search(np.array([1]), np.array([0.5]), np.arange(29.0)), fpir=0.1)
    assert caught.value.id == "too-few-unknown"
