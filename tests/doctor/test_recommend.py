"""The recommendation as a pure function of synthetic measurements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsrface.doctor.sizing.limits import shm_needed_bytes
from dsrface.doctor.sizing.loader_model import LoaderFacts, Window
from dsrface.doctor.sizing.measure import ItemCost, measure_items, spread_indices
from dsrface.doctor.sizing.recommend import (
    analytic,
    auto_workers,
    candidates,
    caps,
    judge,
    recommend,
)
from dsrface.runtime.resources import Cores

GIB = 1 << 30


def cost(cpu_ms=4.0, blocked_ms=0.0, wait_ms=0.0, uneven=1.2):
    return ItemCost(cpu_ms / 1e3, wait_ms / 1e3, blocked_ms / 1e3, uneven, 100)


def facts(*, cores=4, **changes):
    base = LoaderFacts(
        cost=cost(),
        batch_size=32,
        batch_bytes=32 * 37_632,
        tensors_per_batch=2,
        num_items=100_000,
        method="fork",
        cores=Cores(cores, cores, None, None, 1, cores, f"{cores} cores"),
        available_bytes=64 * GIB,
        shm_free=8 * GIB,
        open_files=65_536,
    )
    return replace(base, **changes)


@pytest.mark.parametrize(("cores", "has_gpu"), [(1, True), (2, False), (4, False), (16, False)])
def test_processor_bound_items_get_one_worker_a_core(cores, has_gpu):
    assert analytic(facts(cores=cores, has_gpu=has_gpu)) == cores


def test_one_core_without_a_gpu_gets_a_worker_only_for_what_waits():
    chosen = recommend(facts(cores=1))
    assert chosen.num_workers == 0
    assert "one core and no GPU" in chosen.reason
    assert recommend(facts(cores=1, cost=cost(0.1, 4.0))).num_workers > 1


def test_blocked_items_get_more_workers_than_cores():
    assert analytic(facts(cores=2, cost=cost(0.1, 4.0))) > 2


def test_in_memory_items_get_none():
    chosen = recommend(facts(cost=cost(0.005)))
    assert chosen.num_workers == 0
    assert chosen.prefetch_factor is None
    assert not chosen.persistent_workers
    assert "costs more" in chosen.reason


def test_a_slow_consumer_needs_fewer_workers_but_not_none():
    slow = facts(cores=16, consumer_rate=200.0)
    assert analytic(slow) == 1
    assert slow.step_s(0) > slow.step_s(1)


def test_a_known_consumer_that_waits_for_nothing_takes_none():
    assert analytic(facts(cost=cost(0.001), consumer_rate=10.0, batch_bytes=1000)) == 0
    reason = recommend(facts(cost=cost(0.001), consumer_rate=10.0, batch_bytes=1000)).reason
    assert "workers would gain 0.0%" in reason


@pytest.mark.parametrize(
    ("name", "changes", "most"),
    [
        ("shared memory", {"shm_free": 64 << 20, "batch_bytes": 5 << 20}, 3),
        ("memory", {"available_bytes": GIB, "worker_bytes": 300 << 20}, 2),
        ("open files", {"open_files": 256 + 48}, 3),
        ("batches", {"num_items": 40}, 2),
        ("data set", {"must_be_zero": "dataset.model lies on cuda:0"}, 0),
        ("unsharded iterable", {"extra_caps": {"unsharded iterable": 1}}, 1),
    ],
)
def test_each_cap_is_named_and_kept(name, changes, most):
    given = facts(cores=8, **changes)
    assert caps(given)[name] == most
    assert recommend(given).num_workers <= most
    assert max(candidates(given)) <= most
    assert candidates(given)[0] == analytic(given)  # timed first, should time run out


def test_too_little_shared_memory_for_two_batches_ahead_still_gives_a_recommendation():
    assert recommend(facts(shm_free=1 << 20, batch_bytes=5 << 20)).num_workers == 0


def windows(rates, spread=0.01):
    return [
        Window(number, (rate * (1 - spread), rate, rate, rate, rate * (1 + spread)))
        if spread < 0.1
        else Window(
            number, (rate * (1 - 2 * spread), rate * (1 - spread), rate, rate * (1 + spread), rate * 2)
        )
        for number, rate in rates.items()
    ]


def test_the_probe_decides_on_a_quiet_machine():
    chosen = recommend(facts(cores=2), windows({0: 243, 1: 215, 2: 403, 4: 410}))
    assert (chosen.num_workers, chosen.confidence, chosen.basis) == (2, "high", "analytic+probe")
    assert (chosen.low, chosen.high) == (2, 4)


def test_a_probe_of_one_round_has_no_spread_to_be_sure_by():
    rates = {0: 243.0, 1: 215.0, 2: 403.0, 4: 410.0}
    once = [Window(number, (rate,)) for number, rate in rates.items()]
    assert recommend(facts(cores=2), once).confidence == "medium"


def test_a_quiet_probe_may_overrule_the_model_with_less_confidence():
    chosen = recommend(facts(cores=2), windows({0: 243, 1: 215, 2: 403, 4: 600}))
    assert (chosen.num_workers, chosen.confidence) == (4, "medium")


def test_a_noisy_probe_does_not():
    chosen = recommend(facts(cores=2), windows({0: 116, 1: 114, 2: 119, 4: 220}, spread=0.4))
    assert (chosen.num_workers, chosen.confidence) == (2, "low")
    assert "busy" in chosen.reason
    assert chosen.low < chosen.high


def test_waiting_for_cores_lowers_confidence():
    chosen = recommend(facts(cost=cost(4.0, wait_ms=4.0)))
    assert chosen.confidence == "low"
    assert "waited 50%" in chosen.reason


def test_measured_tiny_items_need_no_worker():
    assert recommend(facts(cost=cost(0.02)), windows({0: 52_714, 1: 3_380, 2: 3_457})).num_workers == 0


def test_a_timing_against_the_model_is_not_explained_by_the_model():
    known = facts(cores=2, cost=cost(1.0), consumer_rate=1000.0)
    assert analytic(known) > 0
    chosen = recommend(known, windows({0: 500, 1: 480, analytic(known): 490}))
    assert chosen.num_workers == 0
    assert "would gain" not in chosen.reason
    assert f"a timing decided, the model alone says {analytic(known)}" in chosen.reason


def test_windows_of_other_numbers_than_the_models_decide_nothing():
    chosen = recommend(facts(cores=2, cost=cost(65.0)), windows({0: 15}))
    assert chosen.num_workers == 2
    assert chosen.measurements == ()


def test_equal_speed_goes_to_workers_when_nobody_said_what_consumes():
    assert recommend(facts(cores=1, has_gpu=True), windows({0: 240, 1: 230})).num_workers == 1
    known = facts(cores=1, consumer_rate=1e6)
    assert recommend(known, windows({0: 240, 1: 230})).num_workers == 0


def test_settings_beside_the_number():
    assert recommend(facts(cost=cost(uneven=5))).prefetch_factor == 4
    assert recommend(facts(has_gpu=True)).pin_memory
    assert recommend(facts(method="spawn")).persistent_workers
    assert not recommend(facts()).persistent_workers
    assert recommend(facts(num_items=640, startup_s=1.0)).persistent_workers
    assert "num_workers=4" in recommend(facts()).flags()


def test_judging_a_launch():
    assert judge(facts(), 4) == ("pass", [])
    status, reasons = judge(facts(cores=2), 8)
    assert (status, reasons) == ("warn", ["cores: no gain beyond 2 workers"])
    status, reasons = judge(facts(shm_free=64 << 20, batch_bytes=5 << 20), 8)
    assert status == "fail"
    assert "shared memory is enough for 3 workers" in reasons
    assert judge(facts(), 1)[0] == "warn"
    assert judge(facts(must_be_zero="it holds a network"), 2)[0] == "fail"


def test_shared_memory_formula():
    assert shm_needed_bytes(2, prefetch_factor=4, batch_bytes=10) == 110


def test_measuring_splits_sleep_from_work():
    import time

    slept = measure_items(lambda _: time.sleep(0.002), range(1000), budget_s=0.3)
    assert slept.blocked_fraction > 0.8
    busy = measure_items(lambda _: sum(range(50_000)), range(1000), budget_s=0.3)
    assert busy.cpu_s > 10 * busy.blocked_s
    assert measure_items(lambda _: None, [], budget_s=0.1) is None


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 1000])
def test_spread_indices_have_both_ends_and_no_twins(size):
    indices = spread_indices(size, 32)
    assert len(indices) == len(set(indices)) == min(size, 32)
    assert not size or (indices[0], indices[-1]) == (0, size - 1)


def test_auto_workers_measures_and_never_fails():
    import numpy as np

    choice = auto_workers([np.zeros(100)] * 500, batch_size=8)
    assert choice.num_workers == 0
    assert "costs more" in choice.reason

    class Broken:
        def __len__(self):
            return 10

        def __getitem__(self, index):
            raise ValueError(index)

    assert auto_workers(Broken(), batch_size=8).num_workers >= 1


def test_a_noisy_probe_is_believed_where_no_noise_could_feign_it():
    chosen = recommend(facts(cores=2), windows({0: 24_000, 1: 5600, 2: 5100}, spread=0.4))
    assert (chosen.num_workers, chosen.confidence) == (0, "medium")
