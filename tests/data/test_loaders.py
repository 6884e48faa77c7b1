from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import Dataset

from dsrface.config.engine import LoaderConfig
from dsrface.data.augment import Geometry
from dsrface.data.datasets import PairDataset, Sample
from dsrface.data.decode import read_image, write_png
from dsrface.data.degrade import Degradation
from dsrface.data.layout import FaceSplit, open_data
from dsrface.data.loaders import _wait_in_steps, make_loader
from dsrface.data.samplers import BatchSampler, EpochOrder, PersonSampler
from dsrface.errors import ImageError, WorkerError

AVAILABLE = multiprocessing.get_all_start_methods()


@pytest.fixture(scope="module")
def split(flat_dir: Path) -> FaceSplit:
    return open_data(flat_dir).split("train")


def augmented(split: FaceSplit) -> PairDataset:
    return PairDataset(
        split, inputs=split.low_dir(16), augment=Geometry(), seed=5, degradation=Degradation("realistic", 16)
    )


def epoch_digest(dataset: Dataset[Sample], sampler: BatchSampler, workers: int, method: str) -> str:
    total = hashlib.sha256()
    settings = LoaderConfig.model_validate({"start_method": method})
    with make_loader(dataset, sampler, num_workers=workers, settings=settings) as loader:
        for epoch in (0, 1):  # persistent workers must hear of the second epoch
            for batch in loader.epoch(epoch):
                assert batch.epoch == epoch
                for tensor in (batch.inputs, batch.high, batch.labels, batch.indices):
                    total.update(tensor.numpy().tobytes())
    return total.hexdigest()


@pytest.mark.slow
def test_batches_are_the_same_for_any_workers_and_start_method(split: FaceSplit) -> None:
    sampler = BatchSampler(EpochOrder(len(split), seed=1), batch_size=16, drop_last=False)
    digests = {(0, "auto"): epoch_digest(augmented(split), sampler, 0, "auto")}
    for method in AVAILABLE:  # a spawned worker imports torch, which takes seconds
        for workers in {"fork": (1, 2), "spawn": (2,), "forkserver": (1,)}[method]:
            digests[workers, method] = epoch_digest(augmented(split), sampler, workers, method)
    assert len(set(digests.values())) == 1, digests
    assert {method for _, method in digests} == {"auto", *AVAILABLE}


def test_two_forked_workers_give_the_batches_of_none(split: FaceSplit) -> None:
    sampler = BatchSampler(EpochOrder(len(split), seed=1), batch_size=16)
    method = "fork" if "fork" in AVAILABLE else "spawn"
    assert epoch_digest(augmented(split), sampler, 2, method) == epoch_digest(
        augmented(split), sampler, 0, "auto"
    )


def test_an_epoch_can_begin_in_its_middle(split: FaceSplit) -> None:
    sampler = PersonSampler(split.labels, persons_per_batch=4, images_per_person=2, seed=0)
    with make_loader(augmented(split), sampler, num_workers=0) as loader:
        whole = list(loader.epoch(3))
        rest = list(loader.epoch(3, start_batch=2))
    assert len(rest) == len(whole) - 2
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(rest, whole[2:], strict=True))


def test_epochs_differ_and_the_twin_moves_with_the_input(split: FaceSplit) -> None:
    dataset = augmented(split)
    first, second = dataset[0, 3], dataset[1, 3]
    assert not torch.equal(first.high, second.high)
    assert first.inputs.shape == (16, 16, 3)
    assert first.high.shape == (112, 112, 3)
    reduced = torch.nn.functional.interpolate(
        first.high.permute(2, 0, 1)[None].float(), size=16, mode="bicubic", antialias=True
    )[0].permute(1, 2, 0)
    assert (reduced - first.inputs.float()).abs().mean() < 25  # the same face in the same place


def test_without_a_known_degradation_both_twins_are_mirrored_and_nothing_else(split: FaceSplit) -> None:
    geometry = Geometry(flip=0.5)
    dataset = PairDataset(split, inputs=split.low_dir(16), augment=geometry, seed=5)
    mirrored = 0
    for index in range(12):
        sample = dataset[2, index]
        high, low = (
            read_image(folder / split.names[index]) for folder in (split.high_dir, split.low_dir(16))
        )
        if geometry.flips(seed=5, epoch=2, index=index):
            high, low = high[:, ::-1], low[:, ::-1]
            mirrored += 1
        assert (sample.high.numpy() == high).all()
        assert (sample.inputs.numpy() == low).all()
    assert 0 < mirrored < 12


@pytest.mark.slow
def test_a_dataset_pickles_under_spawn_and_holds_only_plain_values(split: FaceSplit) -> None:
    for dataset in (augmented(split), PairDataset(split, inputs=split.low_dir(16))):
        again = pickle.loads(pickle.dumps(dataset))
        assert torch.equal(again[0, 1].inputs, dataset[0, 1].inputs)
        for name, value in vars(dataset).items():
            assert not isinstance(value, list | dict | set | torch.nn.Module), name
    sampler = BatchSampler(EpochOrder(8, seed=0), batch_size=8)
    settings = LoaderConfig(start_method="spawn")
    with make_loader(augmented(split), sampler, num_workers=1, settings=settings) as loader:
        assert len(next(iter(loader.epoch(0)))) == 8


def test_a_dataset_does_not_grow_with_the_names_in_python_objects(split: FaceSplit) -> None:
    assert all(type(value) is not list for value in vars(split).values())
    assert len(pickle.dumps(PairDataset(split, inputs=split.low_dir(16)))) < 60 * len(split) + 6000


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_keeps_its_error_through_a_worker(flat_dir: Path, tmp_path: Path, workers: int) -> None:
    shutil.copytree(flat_dir, tmp_path / "data")
    split = open_data(tmp_path / "data").split("train")
    victim = split.high_dir / split.names[3]
    victim.write_bytes(victim.read_bytes()[:2000])
    sampler = BatchSampler(EpochOrder(len(split), 0, shuffle=False), batch_size=8)
    with (
        make_loader(PairDataset(split, inputs=split.low_dir(16)), sampler, num_workers=workers) as loader,
        pytest.raises(ImageError) as caught,
    ):
        list(loader.epoch(0))
    assert caught.value.id in {"truncated", "damaged-image"}
    assert caught.value.where == str(victim)
    assert "Traceback" not in caught.value.message


class _Suicide(PairDataset):
    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        if key == (0, 5):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
def test_a_killed_worker_is_a_worker_error_and_none_is_left(split: FaceSplit) -> None:
    sampler = BatchSampler(EpochOrder(len(split), 0, shuffle=False), batch_size=4)
    before = set(psutil.Process().children(recursive=True))
    with (
        make_loader(_Suicide(split, inputs=split.low_dir(16)), sampler, num_workers=2) as loader,
        pytest.raises(WorkerError),
    ):
        list(loader.epoch(0))
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [
        child for child in left if child.is_running() and "resource_tracker" not in " ".join(child.cmdline())
    ]


class _Exits(PairDataset):
    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        os._exit(3)


def test_a_death_that_no_signal_tells_of_is_seen_before_the_timeout(
    split: FaceSplit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._set_SIGCHLD_handler", lambda: None)
    sampler = BatchSampler(EpochOrder(len(split), 0), batch_size=4)
    dataset = _Exits(split, inputs=split.low_dir(16))
    started = time.monotonic()
    settings = LoaderConfig(timeout_s=100)
    with (
        make_loader(dataset, sampler, num_workers=1, settings=settings) as loader,
        pytest.raises(WorkerError),
    ):
        list(loader.epoch(0))
    assert time.monotonic() - started < 50


def test_a_stop_of_the_job_takes_one_step_of_the_timeout() -> None:
    waits: list[float] = []

    class Batches:
        def _try_get_data(self, timeout: float) -> tuple[bool, object]:
            waits.append(timeout)  # however long it really took
            return len(waits) == 3, "batch"

    batches = Batches()
    _wait_in_steps(batches)
    _wait_in_steps(batches)  # as in a second epoch
    assert batches._try_get_data(4.5) == (True, "batch")
    assert batches._try_get_data(0.5) == (False, "batch")
    assert waits == [1, 1, 1, 0.5]


def test_wrong_sizes_are_named(split: FaceSplit) -> None:
    swapped = dataclasses.replace(split, root=split.root)
    dataset = PairDataset(swapped, inputs=split.high_dir)
    dataset.high_dir = split.low_dir(16)
    with pytest.raises(ImageError, match="16x16, not 112x112"):
        dataset[0]


def test_one_low_image_of_another_size_is_named(flat_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(flat_dir, tmp_path / "data")
    split = open_data(tmp_path / "data").split("train")
    victim = split.low_dir(16) / split.names[1]
    write_png(victim, read_image(split.high_dir / split.names[1])[:20, :20])
    dataset = PairDataset(split, inputs=split.low_dir(16))
    assert dataset[0].inputs.shape == (16, 16, 3)
    with pytest.raises(ImageError, match="20x20, not 16x16") as caught:
        dataset[1]
    assert caught.value.where == str(victim)
