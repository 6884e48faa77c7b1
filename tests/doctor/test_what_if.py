"""What the model says of other workers, cores, decoded data, smaller images and a faster step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsrface.doctor.sizing.account import what_if_line
from dsrface.doctor.sizing.loader_model import LoaderFacts, Window
from dsrface.doctor.sizing.measure import ItemCost
from dsrface.doctor.sizing.what_if import what_if
from dsrface.runtime.resources import Cores

COST = ItemCost(cpu_s=0.006, wait_s=0.0, blocked_s=0.004, p95_over_p50=1.0, num_items=40)
CORES = Cores(host=2, affinity=2, quota=None, slurm=None, world_size=1, effective=2, reason="the machine")
FACTS = LoaderFacts(
    cost=COST,
    batch_size=10,
    batch_bytes=1000,
    tensors_per_batch=1,
    num_items=10_000,
    method="fork",
    cores=CORES,
    available_bytes=16 << 30,
)
PARTS = {"open and read": 0.004, "decode": 0.002, "Resize": 0.002, "unexplained": 0.002}


def predictions(facts=FACTS, windows=(), parts=PARTS, **more):
    return {each.change: each for each in what_if(facts, windows, parts, **more)}


def test_workers_and_cores_follow_the_model():
    found = predictions()
    assert found["num_workers=0"].items_per_s == pytest.approx(100, rel=0.01)
    assert found["num_workers=2"].items_per_s == pytest.approx(199, rel=0.02)
    assert found["num_workers=8"].items_per_s == pytest.approx(2 / 0.006, rel=0.05)  # two cores are busy
    assert found["4 cores"].items_per_s == pytest.approx(4 / 0.006, rel=0.06)
    assert found["num_workers=0"].step_ms == pytest.approx(100, rel=0.01)
    assert found["num_workers=0"].low < found["num_workers=0"].items_per_s < found["num_workers=0"].high


def test_decoded_data_and_smaller_images_take_out_what_they_save():
    found = predictions(replace(FACTS, consumer_rate=1e6), kept_pixels=0.25)
    assert found["decoded data in memory"].items_per_s == pytest.approx(2 / 0.004, rel=0.06)
    smaller = found["images resized offline"]
    assert found["num_workers=8"].items_per_s < smaller.items_per_s < 2 / 0.003
    assert "images resized offline" not in predictions(kept_pixels=0.9)
    assert "decoded data in memory" not in predictions(parts={"unexplained": 0.01})


def test_a_faster_step_helps_where_the_step_is_what_takes_long():
    slow = replace(FACTS, consumer_rate=20.0)
    found = predictions(slow)
    assert found["a step twice as fast"].items_per_s == pytest.approx(40, rel=0.05)
    assert "a step twice as fast" not in predictions()


def test_measurements_scale_the_model_and_stand_for_themselves():
    found = predictions(windows=[Window(0, (80.0, 81.0)), Window(2, (160.0, 160.0))])
    assert found["num_workers=0"].items_per_s == 80.5
    assert found["num_workers=4"].items_per_s == pytest.approx(0.8 * 2 / 0.006, rel=0.1)
    assert found["num_workers=4"].low < 0.9 * found["num_workers=4"].items_per_s


def test_a_measurement_scales_what_bounds_it():
    slow = replace(FACTS, consumer_rate=50.0)
    found = predictions(slow, windows=[Window(4, (40.0,))])  # bound by the step: nothing is said of loading
    assert found["num_workers=8"].items_per_s == pytest.approx(40)
    assert found["num_workers=0"].items_per_s == pytest.approx(1 / (1 / 100 + 1 / 40), rel=0.02)
    assert found["a step twice as fast"].items_per_s == pytest.approx(80)


def test_the_line_names_changes_and_intervals():
    line = what_if_line([each.to_dict() for each in what_if(FACTS, (), PARTS)])
    assert line.startswith("items/s with 4 cores 6")
    assert "decoded data in memory" in line
    assert "num_workers" not in line
    assert what_if_line([]) == ""
