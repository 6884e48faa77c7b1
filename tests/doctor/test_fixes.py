"""Every fix that is printed, applied: the check that printed it passes."""

from __future__ import annotations

import sys

import pytest
import test_faults
import test_judgment
from test_faults import POSIX, examine, prove

from dsrface.doctor.checks.registry import all_checks

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="seen through /proc")

SURVEYED = [
    ("Counter", "ds.state", "follow from its index"),
    ("Mean", "ds.state", "follow from its index"),
    ("Rolling", "ds.state", "follow from its index"),
    ("Default", "ds.state", "bound it"),
    ("Function", "ds.state", "follow from its index"),
    ("Filled", "ds.state", "shared tensors"),
    ("InPlace", "ds.state", "clone()"),
    ("Targets", "ds.state", "change a copy"),
    ("Mapped", "ds.state", "array.copy()"),
    ("WorkList", "ds.state", "by a sampler"),
    ("Growth", "ds.state", "bound it"),
    ("Cache", "ds.state", "bound it"),
    ("Files", "ds.state", "TemporaryFile"),
    ("OneFile", "ds.state", "main process"),
    ("SharedFile", "ds.state", "os.replace()"),
    ("Buffer", "ds.output", "copy"),
    ("None", "ds.output", "return a sample"),
    ("Unsendable", "ds.output", "Leave out item['read'] (function)"),
    ("NoLength", "ds.items", "derive it from IterableDataset"),
    ("Sample", "ds.items", "leave out"),
    ("Stop", "ds.items", "with a default"),
    ("Timeout", "ds.items", "several times what a batch takes"),
    ("Memmap", "ds.pickle_size", "__setstate__"),
    ("Removing", "ds.finalizer", "getpid()"),
    pytest.param("ThreadsLeft", "ds.state", "join", marks=LINUX),
    pytest.param("SharedMemory", "ds.state", "unlink", marks=LINUX),
    pytest.param("Descriptors", "env.fds", "with open", marks=LINUX),
    pytest.param("Thread", "mp.threads", "first use", marks=POSIX),
]
PROVED = [
    ("OwnState", "ds.rng", "torch.initial_seed()"),
    ("Clock", "ds.rng", "generator"),
    ("Sqlite", "ds.open_handles", "os.getpid()"),
    ("Loop", "ds.open_handles", "event loop at first use"),
    ("Previous", "ds.rng", "from its index alone"),
    ("Rest", "ds.iterable_shard", "every n-th item"),
    ("Cycle", "ds.rng", "from its index alone"),
    ("Pipe", "ds.open_handles", "os.getpid()"),
    ("Pool", "worker.fork", "in the item"),
    ("SpentStream", "ds.iterable_shard", "new iterator"),
    ("LossyStream", "ds.iterable_shard", "get_worker_info"),
    ("Length", "ds.iterable_shard", "__len__"),
    ("Orders", "ds.iterable_shard", "same seed"),
    ("Dropped", "ds.iterable_shard", "drop_last=False"),
    ("Closure", "ds.rng", "torch.initial_seed()"),
    ("Pid", "worker.consistency", "index alone"),
    ("Quantized", "worker.fork", "int_repr()"),
    ("Attributes", "worker.consistency", "entry of its own"),
    ("Init", "ds.rng", "torch.initial_seed()"),
    ("Interrupt", "worker.fork", "RuntimeError instead"),
    ("Exit", "worker.fork", "raise an error instead"),
    ("ForkUnsafe", "worker.fork", "first use in the worker"),
    ("Inherited", "worker.fork", "first use in the worker"),
    ("InWorker", "worker.consistency", "index alone"),
    ("Shards", "worker.fork", "as many workers as there are shards"),
    ("Spent", "worker.fork", "by the index alone"),
]
SPAWNED = [
    ("Keys", "worker.spawn", "the value itself"),
    ("Sentinel", "worker.consistency", "None or an Enum"),
    ("Hash", "worker.consistency", "no hash()"),
]
OPENED = [
    ("File", "os.getpid()"),
    ("Descriptor", "os.getpid()"),
    ("Zip", "open the archive"),
    ("Tar", "open the archive"),
    ("Npz", "open the archive"),
    ("Socket", "Connect at first use"),
]
UNSENDABLE = [
    ("File", "keyed by os.getpid()", None),
    ("Zip", "open the archive", None),
    ("Tar", "open the archive", None),
    ("Npz", "open the archive", None),
    ("H5", "open the HDF5 file", "h5py"),
    ("Lmdb", "open the environment", "lmdb"),
    ("Duckdb", "connect at first use", "duckdb"),
]
# Faults of the machine, of torch itself, or of the call: there is no data set to mend.
NOT_OF_A_DATA_SET = ("env.", "perf.", "mp.start_method", "mp.cuda_poison", "ds.build", "ds.threads")
ELSEWHERE = {
    "mp.main_guard": test_faults.test_main_guard_of_a_script,
    "mp.cuda_fork": test_faults.test_cuda_in_use_fails_under_fork_and_is_told_once,
    "ds.epoch": test_judgment.HEALTHY,
    "worker.spawn": test_faults.test_the_printed_fix_makes_real_workers_work,
    "worker.forkserver": test_faults.test_the_printed_fix_makes_real_workers_work,
}


def look(name, method):
    return examine("", spec=f"doctor_fixes:{name}", methods=[method])


@pytest.mark.parametrize(("name", "id", "advice"), SURVEYED)
def test_a_fix_makes_its_check_pass(name, id, advice):
    method = "spawn" if name in ("Memmap", "Removing") else "fork"
    fault = look(f"{name}Fault", method)[id]
    assert fault.status in ("warn", "fail")
    assert advice in fault.fix
    fixed = look(f"{name}Fixed", method).get(id)  # env.fds has its word only where items leave something
    assert fixed is None or fixed.status == "pass"


@POSIX
@pytest.mark.filterwarnings("ignore:Length of IterableDataset")
@pytest.mark.parametrize(("name", "id", "advice"), PROVED)
def test_a_fix_makes_real_workers_pass(name, id, advice):
    see_the_fix_work(name, id, advice, "fork")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "id", "advice"), SPAWNED)
def test_a_fix_makes_spawned_workers_pass(name, id, advice):
    see_the_fix_work(name, id, advice, "spawn")


@POSIX
@pytest.mark.parametrize(("name", "advice"), OPENED)
def test_a_handle_opened_as_the_fix_says_is_no_longer_shared(name, advice):
    see_the_fix_work(name, "ds.open_handles", advice, "fork")


@pytest.mark.parametrize(("name", "advice", "library"), UNSENDABLE)
def test_a_handle_opened_as_the_fix_says_can_be_sent(name, advice, library):
    if library:
        pytest.importorskip(library)
    fault, fixed = (look(f"{name}{version}", "spawn")["ds.unpicklable"] for version in ("Fault", "Fixed"))
    assert (fault.status, fixed.status) == ("fail", "pass")
    assert advice in fault.fix


def see_the_fix_work(name, id, advice, method):
    found = {}
    for version in ("Fault", "Fixed"):
        spec = f"{name}{version}"
        checks, facts = test_faults.surveyed(f"doctor_fixes:{spec}", methods=(method,))
        found[version] = {**checks, **prove(spec, method, module="doctor_fixes", facts=facts)}
    assert found["Fault"][id].status in ("warn", "fail")
    assert advice in found["Fault"][id].fix
    assert found["Fixed"][id].status == "pass"
    assert found["Fixed"][f"worker.{method}"].status == "pass"


@POSIX
def test_forkserver_is_a_way_out_for_what_must_not_be_forked():
    _, facts = test_faults.surveyed("doctor_fixes:Forkserver", methods=("forkserver",))
    assert (
        prove("Forkserver", "forkserver", module="doctor_fixes", facts=facts)["worker.forkserver"].status
        == "pass"
    )


@pytest.mark.slow
def test_what_a_fresh_process_lacks_is_there_with_the_printed_fixes():
    _, facts = test_faults.surveyed("doctor_fixes:fresh")
    proved = prove("fresh", "spawn", module="doctor_fixes", facts=facts)
    assert proved["worker.spawn"].status == "pass"
    assert proved["worker.consistency"].status == "pass"


def test_every_fix_is_applied_somewhere():
    applied = {id for id, *_ in test_faults.STATIC} | set(ELSEWHERE)
    applied |= {getattr(row, "values", row)[1] for row in (*SURVEYED, *PROVED, *SPAWNED)}
    of_a_data_set = {id for id in all_checks() if not id.startswith(NOT_OF_A_DATA_SET)}
    assert of_a_data_set - applied == set()
