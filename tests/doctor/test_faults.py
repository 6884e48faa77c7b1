"""Planted faults: each is found under its id, named by its exact path, and gone once repaired as printed."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from doctor_faults import RandomFault, RandomFixed
from torch.utils.data import DataLoader

from dsrface.doctor import targets
from dsrface.doctor.checks import installation
from dsrface.doctor.proof.prove import prove as prove_stage
from dsrface.doctor.report import Finding
from dsrface.doctor.reporter import Reporter
from dsrface.doctor.survey import loading, survey
from dsrface.doctor.survey.facts import SurveyFacts

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="fork and forkserver are POSIX")


class Found(Reporter):
    """Keeps checks by id instead of sending them; the last one of an id stays."""

    def __init__(self):
        self.checks = {}
        self.facts = None

    def __call__(self, event, **values):
        if event == "check":
            self.checks[values["id"]] = Finding.from_dict(values)
        elif event == "facts":
            self.facts = SurveyFacts.from_dict(values)


def examine(name, *, methods=("spawn",), spec=None):
    """Return the checks of a survey made in this process, by id."""
    return surveyed(spec or f"doctor_faults:{name}", methods=methods)[0]


def surveyed(spec, *, methods=("fork",)):
    """Return the checks of a survey made in this process, by id, and what it learned."""
    found = Found()
    request = {
        "target": {"spec": spec, "args": None},
        "methods": list(methods),
        "num_workers": 2,
        "memory_bytes": 8 << 30,
        "batch_size": 4,
        "allow_cuda": False,
        "load_s": 1.0,
        "measure_s": 0.02,
    }
    threads = torch.get_num_threads()
    survey.survey(request, found)
    torch.set_num_threads(threads)
    return found.checks, found.facts


def prove(name, method, *, module="doctor_faults", facts=None):
    """Return the checks of real workers, by id."""
    found = Found()
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "target": {"spec": f"{module}:{name}", "args": None},
            "method": method,
            "num_workers": 2,
            "item_s": 0.002,
            "load_s": 0.6,
            "folder": folder,
            "survey": facts.for_proof() if facts is not None else {},
        }
        prove_stage(request, found)
    torch.set_num_threads(threads)
    return found.checks


STATIC = [
    ("ds.unpicklable", "Lambda", "spawn", "fail", "dataset.transform.transforms[1]", "module level"),
    ("ds.unpicklable", "Lambda", "fork", "warn", "dataset.transform.transforms[1]", "module level"),
    ("ds.unpicklable", "Lock", "spawn", "fail", "dataset.cache['lock']", "__setstate__"),
    ("ds.non_leaf", "NonLeaf", "forkserver", "fail", "dataset.mean", "detach"),
    ("ds.temp_tensor", "Temporary", "spawn", "fail", "dataset.mean", "numpy"),
    ("ds.temp_tensor", "Generator", "spawn", "fail", "dataset.generator is a torch.Generator", "manual_seed"),
    ("ds.rng", "Generator", "fork", "warn", "dataset.generator", "manual_seed"),
    ("ds.open_handles", "Handle", "fork", "warn", "dataset.handle", "os.getpid()"),
    ("ds.cuda_member", "Network", "fork", "fail", "dataset.dsr_model", "two ways out"),
    (
        "ds.cuda_member",
        "Network",
        "spawn",
        "fail" if os.name == "nt" else "warn",
        "dataset.dsr_model",
        "two ways out",
    ),
    ("ds.rng", "Random", "fork", "warn", "dataset.random", "initial_seed"),
    ("ds.pickle_size", "Size", "spawn", "warn", "dataset.names", "torch tensors"),
    ("ds.refcount_growth", "Growth", "fork", "warn", "dataset.pairs", "arrays"),
    ("ds.output", "Batch", "fork", "fail", "batch['note']", "plain containers"),
    ("ds.output", "Grad", "fork", "fail", "batch", "no_grad"),
]


@pytest.mark.parametrize(("id", "name", "method", "status", "path", "advice"), STATIC)
def test_fault_is_found_by_path_and_gone_when_fixed(id, name, method, status, path, advice, monkeypatch):
    monkeypatch.setenv("DSRFACE_DOCTOR_META_AS_CUDA", "1")
    if name == "Batch":
        monkeypatch.setattr(loading, "default_collate", lambda items: {"note": [x["note"] for x in items]})
        path = "batch['note'][0]"
    check = examine(f"{name}Fault", methods=[method])[id]
    assert check.status == status
    assert path in check.summary + check.where
    assert advice in check.fix
    assert examine(f"{name}Fixed", methods=[method])[id].status == "pass"


def test_cuda_in_use_fails_under_fork_and_is_told_once(monkeypatch):
    monkeypatch.setenv("DSRFACE_DOCTOR_META_AS_CUDA", "1")
    holding = examine("NetworkFault", methods=["fork"])
    assert (holding["ds.cuda_member"].status, holding["mp.cuda_fork"].status) == ("fail", "skip")
    assert "ds.cuda_member" in holding["mp.cuda_fork"].summary
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    only_used = examine("NetworkFixed", methods=["fork"])["mp.cuda_fork"]
    assert only_used.status == "fail"
    assert "training loop" in only_used.fix
    assert examine("NetworkFixed", methods=["spawn"])["mp.cuda_fork"].status == "pass"


@pytest.mark.parametrize(
    ("methods", "pickled", "copied"),
    [(["fork"], "skip", "warn"), (["spawn"], "fail", "skip"), (["fork", "spawn"], "fail", "warn")],
)
@pytest.mark.parametrize(
    ("name", "ids"),
    [("Handle", ("ds.unpicklable", "ds.open_handles")), ("Generator", ("ds.temp_tensor", "ds.rng"))],
)
def test_one_cause_is_told_once_for_each_way_it_fails(name, ids, methods, pickled, copied):
    found = examine(f"{name}Fault", methods=methods)
    assert [found[id].status for id in ids] == [pickled, copied]
    told = {check.id for check in found.values() if check.status in ("warn", "fail")}
    assert told <= set(ids)


def test_unpicklable_members_carry_their_source_line():
    check = examine("LambdaFault")["ds.unpicklable"]
    member = check.data["members"][0]
    file, line = member["source"].rsplit(":", 1)
    from doctor_faults import __file__ as faults

    assert "lambda value: value" in Path(faults).read_text().splitlines()[int(line) - 1]
    assert file.endswith("doctor_faults.py")


def test_a_handle_that_getstate_drops_is_still_one_under_fork():
    found = examine("HiddenHandleFault", methods=["fork"])
    assert found["ds.open_handles"].status == "warn"
    assert "dataset.handle" in found["ds.open_handles"].summary
    assert examine("HiddenHandleFault", methods=["spawn"])["ds.open_handles"].status == "pass"


def test_items_and_batches(monkeypatch):
    check = examine("ItemFault")["ds.items"]
    assert check.status == "fail"
    assert "dataset[63]" in check.where
    assert "broken.png" in check.summary
    assert examine("RaggedFault")["ds.output"].status == "fail"
    monkeypatch.setenv("DSRFACE_DOCTOR_META_AS_CUDA", "1")
    assert "cuda:0" in examine("CudaBatchFault")["ds.output"].summary


def test_threads_before_the_fork():
    assert examine("ThreadFault", methods=["fork"])["mp.threads"].status == "warn"
    assert examine("NetworkFixed", methods=["fork"])["mp.threads"].status == "pass"


def test_builds_that_fail():
    check = examine("raises")["ds.build"]
    assert check.status == "fail"
    assert "no such folder" in check.summary
    assert "doctor_faults.py" in check.where
    assert examine("no_dataset")["ds.build"].status == "fail"
    assert "has no 'nowhere'" in examine("nowhere")["ds.build"].summary
    cuda = examine("wants_cuda")["ds.build"]
    if not torch.cuda.is_available():
        assert cuda.data["needs_cuda"]
        assert "--allow-cuda" in cuda.fix


SCRIPT = """
import torch
from torch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        return torch.tensor(index)

{guard}loader = DataLoader(Data())
{guard}for batch in loader:
{guard}    pass
"""


def test_main_guard_of_a_script(tmp_path):
    bad, good = tmp_path / "train_without_guard.py", tmp_path / "train_with_guard.py"
    bad.write_text(SCRIPT.format(guard=""))
    good.write_text(
        SCRIPT.replace("{guard}loader", 'if __name__ == "__main__":\n    loader').format(guard="    ")
    )
    check = examine("", spec=f"{bad}:Data")["mp.main_guard"]
    assert check.status == "fail"
    assert "train_without_guard.py:12" in check.where
    assert examine("", spec=f"{good}:Data")["mp.main_guard"].status == "pass"


def test_a_script_that_hides_a_module_is_refused(tmp_path):
    script = tmp_path / "json.py"
    script.write_text("class Data: pass\n")
    check = examine("", spec=f"{script}:Data")["ds.build"]
    assert check.data["usage"]
    assert "Rename" in check.fix
    assert str(tmp_path) not in sys.path


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("name", ["Lambda", "NonLeaf", "Temporary", "Generator", "Lock"])
def test_the_printed_fix_makes_real_workers_work(name):
    assert prove(f"{name}Fault", "forkserver")["worker.forkserver"].status == "fail"
    fixed = prove(f"{name}Fixed", "forkserver")
    assert fixed["worker.forkserver"].status == "pass"
    assert fixed["worker.consistency"].status == "pass"


@POSIX
def test_workers_that_deliver_other_data():
    found = prove("PidFault", "fork")
    assert found["worker.fork"].status == "pass"
    assert found["worker.consistency"].status == "fail"
    assert set(found["worker.consistency"].data["differing"]) == {5}
    assert prove("HandleFixed", "fork")["worker.consistency"].status == "pass"


@POSIX
def test_augmentation_is_not_taken_for_a_fault():
    check = prove("RandomFixed", "fork")["worker.consistency"]
    assert (check.status, check.data["differing"]) == ("pass", [])


@POSIX
def test_iterable_shards():
    fault = prove("StreamFault", "fork")["ds.iterable_shard"]
    assert fault.status == "fail"
    assert "get_worker_info" in fault.fix
    assert prove("StreamFixed", "fork")["ds.iterable_shard"].status == "pass"


@POSIX
def test_a_worker_that_dies_is_explained():
    check = prove("KilledFault", "fork")["worker.fork"]
    assert check.status == "fail"
    assert check.data["explained_as"] in ("worker-out-of-memory", "worker-died")


@POSIX
@pytest.mark.parametrize(("kind", "repeats"), [(RandomFault, True), (RandomFixed, False)])
def test_generators_repeat_in_workers_until_seeded_there(kind, repeats):
    loader = DataLoader(kind(), batch_size=4, num_workers=2, multiprocessing_context="fork")
    first, second = list(loader)[:2]
    assert torch.equal(first, second) is repeats


def test_broken_torchvision_is_recognised(monkeypatch):
    pytest.importorskip("torchvision")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    check = installation.torchvision_check(is_imported=True)
    assert check.status == "fail"
    assert "--force-reinstall torch torchvision" in check.fix
    monkeypatch.undo()
    assert installation.torchvision_check(is_imported=True).status == "pass"


def test_a_job_without_torchvision_is_not_blamed_for_it(monkeypatch):
    pytest.importorskip("torchvision")
    monkeypatch.delitem(sys.modules, "torchvision")
    check = installation.torchvision_check(is_imported=True, is_job=True)
    assert (check.status, check.summary) == ("skip", "torchvision is not imported here")
    assert "torchvision" not in sys.modules


def test_what_torchvision_lacks_is_named(monkeypatch):
    pytest.importorskip("torchvision")
    for name in [name for name in sys.modules if name.partition(".")[0] in {"torchvision", "PIL"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "PIL", None)
    check = installation.torchvision_check(is_imported=True)
    assert check.status == "fail"
    assert "pillow" in check.matters
    assert check.fix == "`pip install pillow`."


def test_slow_decoder_and_cuda_poison(monkeypatch):
    from PIL import features

    monkeypatch.setattr(features, "check", lambda name: False)
    assert installation._decoder().status == "warn"
    monkeypatch.setattr(installation, "has_gpu", lambda: True)
    monkeypatch.setenv("DSRFACE_DOCTOR_USER_NVML", "0")
    assert installation._poison("fork").status == "warn"
    assert installation._poison("spawn").status == "pass"
    monkeypatch.setenv("DSRFACE_DOCTOR_USER_NVML", "1")
    assert installation._poison("fork").status == "pass"


def test_a_system_generator_draws_anew_in_every_worker(tmp_path):
    (tmp_path / "system_random.py").write_text(
        "import random\nimport torch\nfrom torch.utils.data import Dataset\n"
        "RNG, SAME = random.SystemRandom(), random.Random(0)\n"
        "class make(Dataset):\n"
        "    def __len__(self): return 4\n"
        "    def __getitem__(self, index): return torch.tensor(RNG.random() + SAME.random())\n"
    )
    check = examine("", spec=f"{tmp_path / 'system_random.py'}:make")["ds.rng"]
    assert check.data["module"] == ["system_random.SAME"]


def test_a_slow_try_is_not_taken_for_slow_threads(monkeypatch):
    took = [1e-5] * 20 + [8e-3] * 13 + [1e-5] + [8e-3] * 6  # one thread, then two beside a busy neighbour
    clock = iter([value for n, seconds in enumerate(took) for value in (n, n + seconds)])
    monkeypatch.setattr(installation.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    assert installation._threads().status == "pass"


def test_thread_canary(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(installation, "_zeros_s", lambda threads: 0.008 if threads > 1 else 0.00001)
    check = installation._threads()
    assert check.status == "warn"
    assert "8.00 ms" in check.summary


def test_targets_take_options_loaders_and_instances():
    target = targets.build({"spec": "doctor_faults:with_options", "args": None})
    assert (target.batch_size, target.collate_fn.__name__) == (7, "as_list")
    assert targets._unpack(DataLoader(RandomFixed(), batch_size=3), "x", "").batch_size == 3
