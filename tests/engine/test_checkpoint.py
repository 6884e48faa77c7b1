"""Checkpoints: complete or absent, damage named, pointers right."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
import torch

from dsrface.engine.checkpoint import clean_leftovers, find_last, load_trainer_state, save_checkpoint
from dsrface.errors import MachineError, RunError


def save(run, step, *, is_best=False, keep=2, save_model=lambda path: path.write_bytes(b"weights" * 100)):
    state = {"step": step, "tensor": torch.arange(step + 1), "best": {"score": float("-inf")}}
    return save_checkpoint(
        run,
        step=step,
        save_model=save_model,
        trainer_state=state,
        metrics={"x": 1.0},
        is_best=is_best,
        keep=keep,
    )


def test_round_trip_and_pruning(tmp_path):
    for step in (1, 2, 3, 10, 1_000_000):
        save(tmp_path, step, is_best=step == 2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_000002", "step_000010", "step_1000000"]
    assert find_last(tmp_path).name == "step_1000000"
    assert load_trainer_state(find_last(tmp_path))["step"] == 1_000_000
    assert json.loads((tmp_path / "best.json").read_text())["checkpoint"] == "checkpoints/step_000002"


def test_saving_a_step_again_replaces_it(tmp_path):
    save(tmp_path, 5)
    save(tmp_path, 5, save_model=lambda path: path.write_bytes(b"other"))
    assert (find_last(tmp_path) / "model.safetensors").read_bytes() == b"other"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000005"]


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.pt"])
@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "remove"])
def test_damage_is_named(tmp_path, name, damage):
    path = save(tmp_path, 5) / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "grow":
        path.write_bytes(content + b"\0")
    else:
        path.unlink()
    with pytest.raises(RunError) as caught:
        load_trainer_state(find_last(tmp_path))
    assert caught.value.id == "checkpoint-damaged"
    assert name in caught.value.where
    assert "step_000005" in caught.value.hint


def test_damaged_manifest_is_named(tmp_path):
    (save(tmp_path, 5) / "checkpoint.json").write_text("{")
    with pytest.raises(RunError, match=r"checkpoint\.json"):
        load_trainer_state(find_last(tmp_path))


def test_falls_back_to_the_newest_left(tmp_path):
    save(tmp_path, 5)
    shutil.rmtree(save(tmp_path, 6))
    assert find_last(tmp_path).name == "step_000005"
    shutil.rmtree(tmp_path / "checkpoints" / "step_000005")
    assert find_last(tmp_path) is None


def test_a_failing_writer_leaves_the_old_checkpoint(tmp_path):
    save(tmp_path, 5)

    def full(path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MachineError) as caught:
        save(tmp_path, 6, save_model=full)
    assert caught.value.id == "disk-full"
    assert find_last(tmp_path).name == "step_000005"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000005"]


def test_a_disk_that_fills_up_in_the_trainers_state(small_disk):
    """torch's own zip writer would raise a RuntimeError that says nothing of the disk."""
    mount = small_disk("256k")
    save(mount, 5)
    with pytest.raises(MachineError) as caught:
        save(mount, 100_000)  # its state holds as many numbers
    assert caught.value.id == "disk-full"
    assert [path.name for path in (mount / "checkpoints").iterdir()] == ["step_000005"]
    assert load_trainer_state(find_last(mount))["step"] == 5


def test_leftovers_of_a_kill_are_swept(tmp_path):
    save(tmp_path, 5)
    (tmp_path / "checkpoints" / ".tmp-step_000006-123").mkdir()
    clean_leftovers(tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000005"]


def test_no_pickled_code_is_run(tmp_path):
    """A trainer.pt that would run code is refused, even with a manifest that fits it."""
    import pickle

    from dsrface.runtime.files import read_json, sha256_file, write_json

    checkpoint = save(tmp_path, 5)
    path = checkpoint / "trainer.pt"

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save(Evil(), path)
    manifest = read_json(checkpoint / "checkpoint.json")
    manifest["files"]["trainer.pt"] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    write_json(checkpoint / "checkpoint.json", manifest)
    with pytest.raises((RunError, pickle.UnpicklingError)):
        load_trainer_state(checkpoint)
    assert not (tmp_path / "ran").exists()
