"""Ranks: errors end all of them, and a rank that fails alone never waits for the others."""

from __future__ import annotations

import multiprocessing
import os

import pytest
import torch
import torch.distributed as dist

from dsrface.engine.distributed import Ranks, process_group
from dsrface.errors import DataError, DsrfaceError, MachineError
from dsrface.runtime.devices import Device

LIBUV = os.name != "nt"  # torch is built without it there
CUDA = Device("cuda", "cuda:0", "fp32", "test")


@pytest.fixture
def calls(monkeypatch):
    """What was asked of torch.distributed, in a job of two."""
    found: list[str] = []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(dist, "init_process_group", lambda backend, timeout: found.append(backend))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: found.append("destroy"))
    return found


def test_nccl_is_only_left_in_order_at_a_clean_end(calls):
    with process_group(CUDA):
        pass
    assert calls == ["nccl", "destroy"]
    with pytest.raises(DataError), process_group(CUDA):
        raise DataError("one rank alone")
    assert calls == ["nccl", "destroy", "nccl"]  # NCCL would wait for the other ranks


def test_gloo_is_always_left_in_order(calls):
    with pytest.raises(DataError), process_group(Device("cpu", "cpu", "fp32", "test")):
        raise DataError("one rank alone")
    assert calls == ["gloo", "destroy"]


@pytest.mark.parametrize(
    ("error", "id"),
    [
        (dist.DistBackendError("NCCL error: remote process exited"), "rank-lost"),
        (RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"), "rank-lost"),
        (
            dist.DistBackendError("invalid usage\nLast error:\nDuplicate GPU detected : rank 1 and rank 0"),
            "too-few-gpus",
        ),
    ],
)
def test_what_became_of_the_job_is_told(calls, error, id):
    with pytest.raises(MachineError) as caught, process_group(CUDA):
        raise error
    assert caught.value.id == id


def test_a_rank_that_hangs_is_not_called_dead(calls):
    error = RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:129] Timed out waiting 1800000ms for send")
    with (
        pytest.raises(MachineError, match="waited 0:30:00 for another rank, which hangs") as caught,
        process_group(CUDA),
    ):
        raise error
    assert caught.value.id == "rank-lost"


@pytest.mark.parametrize("text", ["NCCL: invalid usage", "NCCL: Cuda failure 2 'out of memory'", "shapes"])
def test_other_errors_are_no_lost_rank(calls, text):
    with pytest.raises(RuntimeError, match=text), process_group(CUDA):
        raise RuntimeError(text)


def test_one_process_needs_no_group():
    with process_group(CUDA) as ranks, pytest.raises(DataError), ranks.fail_together():
        raise DataError("alone")
    assert ranks == Ranks(0, 1)


def test_an_error_of_one_rank_ends_the_block_in_all():
    context = multiprocessing.get_context("spawn")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, use_libuv=LIBUV)
    queue = context.Queue()
    ranks = [context.Process(target=_fail_in_rank_1, args=(rank, store.port, queue)) for rank in range(2)]
    for process in ranks:
        process.start()
    ended = sorted(queue.get(timeout=120) for _ in ranks)
    for process in ranks:
        process.join(timeout=60)
    assert ended == [(0, "other-rank-failed", 7), (1, "data", 7)]


def _fail_in_rank_1(rank: int, port: int, queue: multiprocessing.Queue) -> None:
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, use_libuv=LIBUV)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    ranks = Ranks(rank, 2)
    most = ranks.max(3 + 4 * rank)
    try:
        with ranks.fail_together():
            pass  # nobody fails
        with ranks.fail_together():
            if rank == 1:
                raise DataError("only here")
    except DsrfaceError as error:
        queue.put((rank, error.id, most))
    dist.destroy_process_group()
