"""Devices, threads, versions, locks."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from dsrface.errors import MachineError, RunError, UsageError
from dsrface.runtime.devices import autocast, check_driver, choose_device, is_out_of_memory
from dsrface.runtime.locks import exclusive
from dsrface.runtime.threads import limit_torch_threads, set_defaults
from dsrface.runtime.versions import gather_versions, require


def pretend_gpus(monkeypatch, count):
    """Make torch see GPUs; return the list of those made the current one."""
    current: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: (7, 5))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    return current


def test_cpu_is_fp32():
    device = choose_device("cpu")
    assert (device.kind, device.torch_name, device.amp) == ("cpu", "cpu", "fp32")
    assert device.reason == "cpu, fp32"


def test_auto_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto").reason == "cpu, fp32 (auto: no CUDA)"
    with pytest.raises(MachineError) as caught:
        choose_device("cuda")
    assert caught.value.id == "no-such-device"


@pytest.mark.parametrize(
    ("platform", "device", "is_there"),
    [("linux", "cuda:1", False), ("linux", "cpu", True), ("darwin", "mps", True), ("linux", "mps", False)],
)
def test_a_gpu_without_a_driver_is_refused_before_torch_is_loaded(monkeypatch, platform, device, is_there):
    monkeypatch.setattr("dsrface.runtime.devices._DRIVER_FILES", ("no_such_driver",))
    monkeypatch.setattr(sys, "platform", platform)
    if is_there:
        check_driver(device)
        return
    with pytest.raises(MachineError) as caught:
        check_driver(device)
    assert caught.value.id == "no-such-device"


def test_auto_takes_the_local_rank(monkeypatch):
    current = pretend_gpus(monkeypatch, 4)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert choose_device("auto").torch_name == choose_device("cuda").torch_name == "cuda:2"
    assert current == ["cuda:2", "cuda:2"]
    assert not torch.backends.cudnn.allow_tf32
    assert choose_device("auto").amp == "fp32"  # Turing has no bf16
    with pytest.raises(MachineError):
        choose_device("cuda", amp="bf16")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: (9, 0))
    assert choose_device("auto").amp == "bf16"
    with pytest.raises(MachineError):
        choose_device("cuda:4")


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    pretend_gpus(monkeypatch, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    for device in ("auto", "cuda"):
        with pytest.raises(MachineError) as caught:
            choose_device(device)
        assert caught.value.id == "too-few-gpus"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(MachineError):
        choose_device("auto")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")  # the launcher shows each process its own
    assert choose_device("auto").torch_name == "cuda:0"


def test_every_wording_of_a_lack_of_memory_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."))
    assert is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("a file called out of memory"))


@pytest.mark.parametrize(("device", "amp"), [("gpu", "auto"), ("cuda:x", "auto"), ("cpu", "int8")])
def test_unknown_names_are_usage_errors(device, amp):
    with pytest.raises(UsageError):
        choose_device(device, amp=amp)


def test_fp16_wants_a_gpu():
    with pytest.raises(MachineError):
        choose_device("cpu", amp="fp16")


def test_autocast_follows_the_device():
    layer, image = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with autocast(choose_device("cpu")):
        assert layer(image).dtype == torch.float32
    with autocast(choose_device("cpu", amp="bf16")):
        assert layer(image).dtype == torch.bfloat16


def test_threads_leave_cores_to_the_workers(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        assert limit_torch_threads(1000) == 1
        assert limit_torch_threads(0) == torch.get_num_threads() >= 1
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert limit_torch_threads(0) == 3
    finally:
        torch.set_num_threads(before)


def test_defaults_do_not_overrule_the_user(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    set_defaults()
    import os

    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert os.environ["KMP_BLOCKTIME"] == "0"


def test_threads_and_versions_import_no_torch():
    code = "import sys, dsrface.runtime.threads, dsrface.runtime.versions, dsrface.runtime.devices"
    code += ", dsrface.runtime.locks"
    code += ", dsrface.config.finetune, dsrface.config.train_dsr, dsrface.events"
    subprocess.run(
        [sys.executable, "-c", code + "; sys.exit('torch' in sys.modules)"], check=True, timeout=60
    )


def test_versions(tmp_path):
    versions = gather_versions(tmp_path)
    assert versions.packages["torch"]
    assert versions.git_commit == ""
    assert versions.to_dict()["python"] == sys.version.split()[0]


def test_lock_is_released_by_an_error_and_can_be_taken_again(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / ".lock", what="cache"):
        raise ZeroDivisionError
    second = exclusive(tmp_path / ".lock", what="cache")
    with exclusive(tmp_path / ".lock", what="cache"), pytest.raises(RunError, match="cache"), second:
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {".lock"}


def test_a_lock_that_another_machine_holds_names_it(tmp_path, monkeypatch):
    with exclusive(tmp_path / ".lock", what="cache"):
        with (
            pytest.raises(RunError, match=rf"cache \(pid {os.getpid()}\)"),
            exclusive(tmp_path / ".lock", what="cache"),
        ):
            pass
        monkeypatch.setattr(platform, "node", lambda: "here")
        (tmp_path / ".lock.pid").write_text("12 node7", encoding="utf-8")
        with (
            pytest.raises(RunError, match=r"cache \(pid 12 on node7\)"),
            exclusive(tmp_path / ".lock", what="cache"),
        ):
            pass


def test_a_missing_extra_is_named_with_the_command_that_adds_it():
    require("torch", extra="faces")
    with pytest.raises(MachineError) as caught:
        require("no_such_package", extra="faces")
    assert caught.value.id == "missing-extra"
    assert '".[faces]"' in caught.value.hint
