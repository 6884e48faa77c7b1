"""The guard against an embedding that is the same for everybody."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from dsrface.engine.collapse import CollapseGuard, effective_rank
from dsrface.errors import TrainingError

HEALTHY = {"impostor_mean": 0.1, "effective_rank": 30.0, "d_prime": 2.0}
CONSTANT = {"impostor_mean": 1.0, "effective_rank": 1.0, "d_prime": 0.0}


def test_effective_rank_counts_directions():
    assert effective_rank(torch.eye(8)) == pytest.approx(8)
    assert effective_rank(torch.ones(8, 5) / math.sqrt(5)) == pytest.approx(1)
    assert effective_rank(normalize(torch.randn(500, 16), dim=1)) > 12


def test_a_healthy_embedding_that_becomes_constant_stops_the_run():
    guard = CollapseGuard()
    guard.check(HEALTHY, step=0, is_last=False)
    with pytest.raises(TrainingError, match="collapsed at step 10") as caught:
        guard.check(CONSTANT, step=10, is_last=False)
    assert caught.value.id == "collapse"


def test_a_start_from_scratch_has_until_the_end():
    guard = CollapseGuard()
    guard.check(CONSTANT, step=0, is_last=False)
    guard.check(CONSTANT, step=10, is_last=False)
    with pytest.raises(TrainingError):
        guard.check(CONSTANT, step=20, is_last=True)


def test_narrow_but_telling_persons_apart_is_no_collapse():
    CollapseGuard().check({**CONSTANT, "impostor_mean": 0.97, "d_prime": 1.5}, step=5, is_last=True)


def test_nan_is_no_health():
    with pytest.raises(TrainingError):
        CollapseGuard().check(dict.fromkeys(HEALTHY, math.nan), step=1, is_last=True)


def test_cosine_to_its_own_target_would_not_have_noticed():
    """The criterion of the users' code scores a constant embedding 1.0; verification scores it 0.5."""
    from dsrface.engine.validation_pairs import compare, verification_metrics

    constant = normalize(torch.ones(6, 4), dim=1)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    assert float((constant * constant).sum(dim=1).mean()) == pytest.approx(1.0)
    metrics = verification_metrics(*compare(constant, constant, labels))
    assert metrics["auc"] == pytest.approx(0.5)
    assert metrics["eer"] == pytest.approx(0.5)


def test_a_probe_never_meets_its_own_photo():
    from dsrface.engine.validation_pairs import compare

    embeddings = torch.eye(4)
    scores, is_same = compare(embeddings, embeddings, torch.tensor([0, 0, 1, 1]))
    assert len(scores) == 12
    assert scores.max() == 0  # the ones of the diagonal are left out
    assert is_same.sum() == 4
