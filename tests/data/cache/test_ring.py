"""The ring on a CUDA device that is not the first; torch.cuda is replaced by what takes notes."""

from __future__ import annotations

import threading

import pytest
import torch

from dsrface.data.cache import ring
from dsrface.data.cache.ring import DEPTH, Ring

NUM_BATCHES = 2 * DEPTH


@pytest.fixture
def notes(monkeypatch):
    """What was asked of torch.cuda, with the name of the thread that asked."""
    found: list[tuple[str, str]] = []

    def note(what):
        found.append((what, threading.current_thread().name))

    class Event:
        def __init__(self, device):
            self.number = sum(what.startswith("record") for what, _ in found)
            note(f"record {self.number} on {device}")

        def synchronize(self):
            note(f"wait for {self.number}")

    class Stream:
        def __init__(self, device):
            self.device = "cuda:1" if device == "cuda" else device  # as the main thread has chosen

        def synchronize(self):
            note(f"wait for {self.device}")

    zeros = torch.zeros

    def unpinned(*args, pin_memory, **kwargs):
        assert pin_memory
        return zeros(*args, **kwargs)

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: note(f"use {device}"))
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(ring, "recorded_event", Event)
    monkeypatch.setattr(torch, "zeros", unpinned)
    return found


def produce(take):
    for number in range(NUM_BATCHES):
        batch = take(2)
        batch.labels.fill_(number)
        yield batch


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_every_slot_waits_for_its_own_device_and_the_epoch_for_all_of_them(notes, device):
    made = Ring(batch_size=2, shape=(4, 4, 3), device=device)
    assert [int(batch.labels[0]) for batch in made.run(produce)] == list(range(NUM_BATCHES))
    assert notes[0] == ("use cuda:1", "dsrface-ring")
    recorded = [what for what, thread in notes if what.startswith("record")]
    assert recorded == [f"record {number} on cuda:1" for number in range(NUM_BATCHES)]
    waited = [what for what, thread in notes if thread == "dsrface-ring" and what.startswith("wait")]
    assert waited == [f"wait for {number}" for number in range(NUM_BATCHES - DEPTH)]
    assert notes[-1] == ("wait for cuda:1", threading.current_thread().name)


def test_leaving_early_waits_too(notes):
    batches = Ring(batch_size=2, shape=(4, 4, 3), device="cuda:1").run(produce)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert notes[-1][0] == "wait for cuda:1"
