"""Heads against formulas in float64 numpy, gradients against finite differences of the same formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsrface.config.catalogue import HEADS
from dsrface.errors import UsageError
from dsrface.models.heads import AdaFaceHead, build_head, reachable_probability

C, D, B = 7, 16, 9


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def oracle(kind, embeddings, weight, labels, *, scale, margin, mean=20.0, std=100.0, norms=None):
    """What the papers say, angle by angle. `norms` fixed: AdaFace's quality gets no gradient."""
    logits = np.clip(unit(embeddings) @ unit(weight).T, -1, 1)
    norms = np.linalg.norm(embeddings, axis=1) if norms is None else norms
    for row, label in enumerate(labels):
        theta = math.acos(logits[row, label])
        if kind == "arcface":
            inside = theta + margin <= math.pi
            value = math.cos(theta + margin) if inside else math.cos(theta) - margin * math.sin(margin)
        elif kind == "cosface":
            value = math.cos(theta) - margin
        else:
            quality = np.clip((np.clip(norms[row], 1e-3, 100) - mean) / (std + 1e-3) * 0.333, -1, 1)
            angle = np.clip(theta - margin * quality, 1e-3, math.pi - 1e-3)
            value = math.cos(angle) - margin * (1 + quality)
        logits[row, label] = value
    return scale * logits


def example(kind, seed=0, norm=1.0):
    torch.manual_seed(seed)
    head = build_head(kind, num_classes=C, embedding_dim=D, scale=30.0).eval()
    embeddings = norm * torch.randn(B, D)
    labels = torch.randint(0, C, (B,))
    return head, embeddings, labels


@pytest.mark.parametrize("norm", [0.1, 5.0, 60.0])
@pytest.mark.parametrize("kind", HEADS)
def test_logits__equal_the_closed_form(kind, norm):
    head, embeddings, labels = example(kind, norm=norm)
    wanted = oracle(
        kind, embeddings.double().numpy(), head.weight.detach().double().numpy(), labels.tolist(),
        scale=head.scale, margin=head.margin,
    )  # fmt: skip
    np.testing.assert_allclose(head(embeddings, labels).detach().numpy(), wanted, atol=2e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_gradient__is_that_of_the_closed_form(kind):
    head, embeddings, labels = example(kind, norm=3.0)
    embeddings.requires_grad_()
    coefficients = torch.randn(B, C)
    (head(embeddings, labels) * coefficients).sum().backward()
    x, w = embeddings.detach().double().numpy(), head.weight.detach().double().numpy()
    norms = np.linalg.norm(x, axis=1)

    def value(x):
        logits = oracle(kind, x, w, labels.tolist(), scale=head.scale, margin=head.margin, norms=norms)
        return float((logits * coefficients.double().numpy()).sum())

    for row, column in [(0, 0), (3, 5), (8, 15)]:
        step = np.zeros_like(x)
        step[row, column] = 1e-5
        numeric = (value(x + step) - value(x - step)) / 2e-5
        assert float(embeddings.grad[row, column]) == pytest.approx(numeric, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("kind", HEADS)
def test_gradient__is_finite_at_cosine_plus_and_minus_one(kind, sign):
    # mistake 13: sqrt(1 - cos^2) without a clamp has a NaN gradient here
    head = build_head(kind, num_classes=C, embedding_dim=D)
    embeddings = (sign * head.weight.detach()[:3]).clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(head(embeddings, torch.arange(3)), torch.arange(3))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(head.weight.grad).all()


@pytest.mark.parametrize("kind", HEADS)
def test_zero_embedding__is_finite(kind):
    head = build_head(kind, num_classes=C, embedding_dim=D)
    embeddings = torch.zeros(2, D, requires_grad=True)
    head(embeddings, torch.tensor([0, 1])).sum().backward()
    assert torch.isfinite(embeddings.grad).all()


@pytest.mark.parametrize("kind", HEADS)
def test_autocast__changes_nothing(kind):
    head, embeddings, labels = example(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(embeddings, labels)
        cosines = head.cosines(embeddings)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, head(embeddings, labels))
    assert torch.equal(cosines, head.cosines(embeddings))


@pytest.mark.parametrize("kind", HEADS)
def test_margin__lowers_only_the_true_class_and_never_the_cosines(kind):
    # mistake 15: accuracy is measured without the margin
    head, embeddings, labels = example(kind)
    logits, cosines = head(embeddings, labels), head.cosines(embeddings)
    true = torch.nn.functional.one_hot(labels, C).bool()
    assert torch.allclose(logits[~true], head.scale * cosines[~true], atol=1e-5)
    assert (logits[true] < head.scale * cosines[true]).all()


@settings(max_examples=40, deadline=None)
@given(margin=st.floats(0.05, 1.2), seed=st.integers(0, 1000))
def test_arcface__decreases_with_the_angle_all_the_way(margin, seed):
    del seed
    head = build_head("arcface", num_classes=2, embedding_dim=2, scale=1.0, margin=margin)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    theta = torch.linspace(0.0, math.pi, 400)
    embeddings = torch.stack([theta.cos(), theta.sin()], dim=1)
    values = head(embeddings, torch.zeros(400, dtype=torch.long))[:, 0]
    assert (values.diff() < 1e-5).all()


def test_adaface__statistics_follow_the_norms_in_training_only():
    head = build_head("adaface", num_classes=C, embedding_dim=D)
    assert isinstance(head, AdaFaceHead)
    embeddings, labels = torch.randn(64, D) * 2, torch.randint(0, C, (64,))
    head.eval()(embeddings, labels)
    assert float(head.norm_mean) == 20.0
    head.train()(embeddings, labels)
    norms = embeddings.norm(dim=1)
    assert float(head.norm_mean) == pytest.approx(20 + 0.01 * (float(norms.mean()) - 20), rel=1e-5)
    assert float(head.norm_std) == pytest.approx(100 + 0.01 * (float(norms.std()) - 100), rel=1e-5)
    assert {"norm_mean", "norm_std"} <= dict(head.named_buffers()).keys()


def test_adaface__statistics_of_nearly_equal_norms_keep_their_digits():
    head = build_head("adaface", num_classes=C, embedding_dim=D).train()
    embeddings = torch.nn.functional.normalize(torch.randn(512, D), dim=1)
    embeddings *= 20 + 0.005 * torch.randn(512, 1)
    head.norm_std.zero_()
    head(embeddings, torch.randint(0, C, (512,)))
    assert float(head.norm_std) / 0.01 == pytest.approx(
        float(embeddings.double().norm(dim=1).std()), rel=0.01
    )


def _rank(rank, world_size, address, queue):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world_size)
    torch.manual_seed(0)
    head = build_head("adaface", num_classes=C, embedding_dim=D).train()
    embeddings, labels = torch.randn(8, D) * 4, torch.randint(0, C, (8,))
    part = slice(rank * 4, rank * 4 + 4)
    head(embeddings[part], labels[part])
    queue.put((float(head.norm_mean), float(head.norm_std)))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_adaface__two_ranks_have_the_statistics_of_the_whole_batch(tmp_path):
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    address = (tmp_path / "rendezvous").as_uri()
    ranks = [context.Process(target=_rank, args=(rank, 2, address, queue)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    first, second = queue.get(), queue.get()
    torch.manual_seed(0)
    alone = build_head("adaface", num_classes=C, embedding_dim=D).train()
    alone(torch.randn(8, D) * 4, torch.randint(0, C, (8,)))
    assert first == second
    assert first == pytest.approx((float(alone.norm_mean), float(alone.norm_std)), rel=1e-6)


def test_class_means__become_the_weights():
    torch.manual_seed(0)
    head = build_head("arcface", num_classes=3, embedding_dim=D)
    kept = head.weight.detach()[2].clone()
    embeddings, labels = torch.randn(10, D), torch.tensor([0, 1] * 5)
    parts = zip(embeddings.split(4), labels.split(4), strict=True)
    assert head.init_from_class_means(parts) == 2
    x = unit(embeddings.double().numpy())
    wanted = unit(np.stack([x[::2].mean(0), x[1::2].mean(0)]))
    np.testing.assert_allclose(head.weight.detach()[:2].numpy(), wanted, atol=1e-6)
    assert torch.equal(head.weight.detach()[2], kept)


@pytest.mark.parametrize("kind", HEADS)
def test_sampled_head__of_all_classes_is_the_full_head(kind):
    head, embeddings, labels = example(kind)
    classes = torch.arange(C)
    some = head.logits(head.cosines(embeddings, classes), embeddings, labels)
    assert torch.equal(some, head(embeddings, labels))
    assert head.draw_classes(labels) is None


@pytest.mark.parametrize("kind", HEADS)
def test_sampled_head__loss_and_gradients_are_those_of_the_full_one_without_the_other_classes(kind):
    head, embeddings, labels = example(kind)
    classes = torch.tensor(sorted({*labels.tolist(), 0}))
    assert len(classes) < C
    embeddings.requires_grad_()

    def loss_and_gradients(logits, targets):
        head.zero_grad()
        embeddings.grad = None
        loss = torch.nn.functional.cross_entropy(logits, targets)
        loss.backward()
        weight = head.weight.grad.to_dense()
        return loss.detach(), embeddings.grad.clone(), weight.clone()

    full = head(embeddings, labels)
    others = torch.ones(C, dtype=torch.bool)
    others[classes] = False
    wanted = loss_and_gradients(full.masked_fill(others, -torch.inf), labels)
    targets = torch.searchsorted(classes, labels)
    found = loss_and_gradients(head.logits(head.cosines(embeddings, classes), embeddings, targets), targets)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert found[2][others].abs().max() == 0


def test_drawn_classes__hold_the_batch_and_as_many_others_as_asked_all_equally_often():
    head = build_head("arcface", num_classes=50, embedding_dim=2, sample_fraction=0.2)
    labels = torch.tensor([7, 7, 49, 0])
    torch.manual_seed(0)
    counts = torch.zeros(50)
    for _ in range(600):
        classes = head.draw_classes(labels)
        assert len(classes) == 10
        assert (classes.diff() > 0).all()
        assert {7, 49, 0} <= set(classes.tolist())
        counts[classes] += 1
    others = counts[[number for number in range(50) if number not in {7, 49, 0}]] / 600
    assert float(others.mean()) == pytest.approx(7 / 47)
    assert others.min() > 0.09
    assert others.max() < 0.22
    many = build_head("arcface", num_classes=50, embedding_dim=2, sample_fraction=0.01)
    assert many.draw_classes(labels).tolist() == [0, 7, 49]


def test_reachable_probability__of_the_old_temperatures_and_of_a_real_scale():
    # mistake 12: effective scale 2 to 4 with 518 persons
    assert reachable_probability(2.0, 518) == pytest.approx(0.0141, abs=1e-4)
    assert reachable_probability(4.0, 518) == pytest.approx(0.0955, abs=1e-4)
    assert reachable_probability(64.0, 6086) > 0.999
    for scale, classes in [(3.0, 50), (16.0, 518)]:
        logits = np.zeros(classes)
        logits[0] = scale
        assert reachable_probability(scale, classes) == pytest.approx(
            np.exp(logits[0]) / np.exp(logits).sum()
        )


def test_head__logits_reach_the_reachable_probability():
    head = build_head("cosface", num_classes=4, embedding_dim=4, scale=5.0, margin=0.0)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4))
    probability = head(torch.eye(4), torch.arange(4)).softmax(1)[0, 0].detach()
    assert float(probability) == pytest.approx(reachable_probability(5.0, 4), rel=1e-6)


def test_unknown_head__is_refused():
    with pytest.raises(UsageError) as caught:
        build_head("softmax", num_classes=3)
    assert caught.value.id == "unknown-head"
    assert "arcface" in caught.value.hint
