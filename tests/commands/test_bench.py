"""`dsrface bench`: the shape of its answer, its arithmetic, and that each bench runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dsrface.commands import bench
from dsrface.commands.bench.finetune import epochs_until_it_pays
from dsrface.commands.bench.loader import simulated_rows
from dsrface.commands.bench.measure import interleave, row
from dsrface.commands.bench.synthetic import make_data, make_split
from dsrface.config.bench import BenchConfig
from dsrface.data.cache.column import Column
from dsrface.data.layout import make_split as split_of_names
from dsrface.data.outputs.verify import verify_cache
from dsrface.events import Progress
from tests.commands.networks import write_dsr


def test_routes_take_turns_and_ratios_are_taken_round_by_round() -> None:
    calls: list[str] = []
    pace = {"a": iter([100.0, 50.0, 10.0]), "b": iter([50.0, 25.0, 5.0])}

    def route(name: str):
        return lambda seconds: (calls.append(name), next(pace[name]))[1]

    rows = interleave(
        "loader", {"a": route("a"), "b": route("b")}, ceiling="a", unit="pairs/s", rounds=3, seconds=0.1
    )
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert (rows[1].median, rows[1].spread, rows[1].ratio_to_ceiling) == (25.0, 45.0, 0.5)
    assert row("loader", "x", "s", [3.0, 1.0, 2.0]).ratio_to_ceiling is None


@pytest.mark.parametrize(
    ("made", "cached", "live", "epochs"),
    [(100, 1000, 90, 1), (50, 100, 50, 2), (10, 100, 50, 10), (100, 50, 50, float("inf"))],
)
def test_when_precompute_pays(made: float, cached: float, live: float, epochs: float) -> None:
    assert epochs_until_it_pays(made_per_s=made, cached_per_s=cached, live_per_s=live) == epochs


def test_names_of_a_made_up_split_are_those_of_a_real_one(tmp_path: Path) -> None:
    made = make_split(tmp_path, 70)
    real = split_of_names("train", tmp_path, list(made.names), low_folders={})
    assert made.names == real.names
    assert made.persons == real.persons
    assert made.labels.tolist() == real.labels.tolist()


def test_made_up_data_is_a_sound_cache(tmp_path: Path) -> None:
    data = make_data(tmp_path, num_images=30, num_png=8)
    assert verify_cache(data.outputs).problems == ()
    assert len(list(data.png_outputs.rglob("*.png"))) == 8
    assert Column(data.outputs).rows_of(data.split) == slice(0, 30)


def test_a_simulated_cache_opens_and_its_memory_stays_flat(tmp_path: Path) -> None:
    rows = {line.name.partition(": ")[2]: line.median for line in simulated_rows(tmp_path, 70_000, 300)}
    # 270 batches of 5 MB pass in between; the pool of blocks may still be filling up.
    assert rows["growth over 300 random batches"] < 100
    assert set(rows) == {
        "time to open",
        "time to the first batch",
        "private memory",
        "growth over 300 random batches",
    }


def check(result: bench.BenchResult, name: str) -> None:
    document = json.loads(json.dumps(result.to_dict()))
    assert set(document) == {"schema_version", "results"}
    assert document["schema_version"] == 1
    for line in document["results"]:
        assert set(line) == {"bench", "name", "unit", "median", "spread", "ratio_to_ceiling"}
        assert line["bench"] == name
        assert np.isfinite(line["median"])
        assert np.isfinite(line["spread"])


def test_bench_precompute(tmp_path: Path) -> None:
    config = BenchConfig(
        what="precompute",
        dsr_images=64,
        rounds=1,
        weights=write_dsr(tmp_path / "dsr.safetensors", tail=0.05),
        backends=("fp32", "bf16"),
        device="cpu",
        folder=tmp_path,
    )
    events = []
    result = bench.run(config, emit=events.append)
    steps = [(event.done, event.total) for event in events if isinstance(event, Progress)]
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]  # the bare loop, then a pipeline for each backend
    check(result, "precompute")
    assert result.rows[0].ratio_to_ceiling == 1.0
    found = {row.name: row.median for row in result.rows}
    assert found["bf16: values within a level of fp32"] > 99.9
    assert abs(found["bf16: PSNR on drawn faces, less fp32's"]) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["loader", "finetune"])
def test_bench_runs(tmp_path: Path, what: str) -> None:
    config = BenchConfig(
        what=what,
        images=256,
        batch_size=32,
        rounds=1,
        seconds=0.05,
        simulated_images=0,
        preset="tiny",
        device="cpu",
        folder=tmp_path,
    )
    check(bench.run(config, emit=lambda _: None), what)
