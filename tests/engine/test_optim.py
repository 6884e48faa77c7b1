"""Schedule, averaging, groups."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dsrface.config.engine import OptimConfig
from dsrface.engine.optim import Ema, LrPlan, build_optimizer, clip_norm, set_lr
from dsrface.engine.task import ParamGroup


@given(
    steps=st.lists(st.integers(0, 300), min_size=1, max_size=3).filter(sum),
    warmup=st.floats(0, 0.9),
    final=st.floats(0, 1),
)
def test_each_phase_reaches_the_maximum_and_stays_within(steps, warmup, final):
    plan = LrPlan(tuple(steps), 0.1, warmup, final)
    rates = [plan.at(step) for step in range(plan.num_steps)]
    assert all(0 <= rate <= 0.1 + 1e-12 for rate in rates)
    first = 0
    for num_steps in steps:
        phase = rates[first : first + num_steps]
        if num_steps:
            assert max(phase) == pytest.approx(0.1)
            if num_steps > 2 * max(1, round(warmup * num_steps)):
                assert phase[-1] == pytest.approx(0.1 * final)
        first += num_steps


def test_rate_is_a_function_of_the_step_alone():
    plan = LrPlan((10, 20), 0.1, 0.1, 0.01)
    module = nn.Linear(2, 2)
    groups = [ParamGroup("a", [module.weight], (0.0, 0.5)), ParamGroup("b", [module.bias], (1.0, 1.0))]
    optimizer = build_optimizer(groups, OptimConfig())
    for step in (25, 3, 29, 0, 10):
        highest = set_lr(optimizer, plan, step)
        assert highest == plan.at(step)
        fractions = [0.0, 1.0] if step < 10 else [0.5, 1.0]
        assert [group["lr"] for group in optimizer.param_groups] == [plan.at(step) * f for f in fractions]


def test_biases_and_norms_are_not_decayed():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm(4))
    optimizer = build_optimizer([ParamGroup("m", list(module.parameters()))], OptimConfig(weight_decay=0.1))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(module[0].weight)] == 0.1
    assert {decays[id(p)] for p in (module[0].bias, module[1].weight, module[1].bias)} == {0.0}
    assert all(group["fused"] for group in optimizer.param_groups)


def test_average_follows_the_formula_with_buffers():
    module = nn.BatchNorm1d(2)
    ema = Ema(module, 0.9)
    expected = module.weight.detach().clone()
    for number in range(1, 60):
        with torch.no_grad():
            module.weight += 0.1
            module.running_mean += 1.0
            module.num_batches_tracked += 1
        ema.update(number)
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(ema.state()["weight"], expected)
    assert 0 < float(ema.state()["running_mean"][0]) < 59
    assert int(ema.state()["num_batches_tracked"]) == 59
    live = module.weight.detach().clone()
    with ema.applied():
        torch.testing.assert_close(module.weight.detach(), expected)
        assert math.isclose(float(module.running_mean[0]), float(ema._live["running_mean"][0]))
    assert torch.equal(module.weight, live)


def test_decay_zero_is_no_average():
    module = nn.Linear(2, 2)
    ema = Ema(module, 0)
    with torch.no_grad():
        module.weight += 1
    ema.update(1)
    before = module.weight.detach().clone()
    with ema.applied():
        assert torch.equal(module.weight, before)


def test_sparse_gradients_of_every_row_move_the_weights_as_dense_ones():
    torch.manual_seed(0)
    dense = nn.Parameter(torch.randn(5, 3))
    rows = nn.Parameter(dense.detach().clone())
    config = OptimConfig(weight_decay=0.1, lr=0.05)
    one, other = (build_optimizer([ParamGroup("w", [param])], config) for param in (dense, rows))
    for _ in range(4):
        gradient = torch.randn(5, 3)
        dense.grad = gradient.clone()
        # each row in two halves, as two micro-batches leave it
        halves = torch.cat([gradient, gradient]) / 2
        rows.grad = torch.sparse_coo_tensor(
            torch.arange(5).repeat(2)[None], halves, (5, 3), check_invariants=True
        )
        assert torch.allclose(clip_norm([dense], 1.0), clip_norm([rows], 1.0))
        one.step()
        other.step()
        torch.testing.assert_close(rows, dense)


def test_sparse_gradients_leave_other_rows_alone_and_survive_a_checkpoint():
    weight = nn.Parameter(torch.ones(4, 2))
    optimizer = build_optimizer([ParamGroup("w", [weight])], OptimConfig(weight_decay=0.1))
    row = torch.tensor([[1]])
    weight.grad = torch.sparse_coo_tensor(row, torch.ones(1, 2), (4, 2), check_invariants=True)
    optimizer.step()
    assert torch.equal(weight.detach()[[0, 2, 3]], torch.ones(3, 2))
    assert (weight.detach()[1] < 1).all()
    again = build_optimizer([ParamGroup("w", [nn.Parameter(weight.detach().clone())])], OptimConfig())
    again.load_state_dict(optimizer.state_dict())
    [state] = again.state.values()
    assert state["exp_avg"][1, 0] != 0
