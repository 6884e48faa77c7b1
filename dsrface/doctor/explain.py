"""What each check is about: the text of `--explain ID`, and the index of error texts in docs/doctor.md."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dsrface.doctor.report import CHECK_IDS, SEVERITIES
from dsrface.errors import UsageError


@dataclass(frozen=True)
class Explanation:
    """One check in words.

    Args:
        id: The check.
        title: What it looks at.
        why: What goes wrong, and where.
        how: How it is found.
        fix: What to do.
        errors: Texts that people meet and search for.
    """

    id: str
    title: str
    why: str
    how: str
    fix: str
    errors: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the explanation as paragraphs of at most 88 columns."""
        parts = [f"{self.id}: {self.title} (at worst: {SEVERITIES[self.id]})"]
        for label, value in (("why", self.why), ("found by", self.how), ("fix", self.fix)):
            parts.append(textwrap.fill(f"{label}: {value}", 88, subsequent_indent="  "))
        if self.errors:
            parts.append("error texts it explains:\n" + "\n".join(f"  {error}" for error in self.errors))
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the parts."""
        return {**asdict(self), "severity": SEVERITIES[self.id], "errors": list(self.errors)}


def explain(id: str) -> Explanation:
    """Return the explanation of a check.

    Raises:
        UsageError: no such check; near ones are named.
    """
    if id not in EXPLANATIONS:
        near = difflib.get_close_matches(id, CHECK_IDS, n=3, cutoff=0.3)
        raise UsageError(
            f"There is no check {id!r}.",
            id="unknown-check",
            hint=f"Did you mean {', '.join(near or CHECK_IDS)}?",
        )
    return EXPLANATIONS[id]


def error_index() -> list[tuple[str, str]]:
    """Return (error text, check id), sorted by text, for the documentation."""
    pairs = [(error, entry.id) for entry in EXPLANATIONS.values() for error in entry.errors]
    return sorted(pairs, key=lambda pair: (pair[0].lower(), pair[1]))


_ENTRIES = (
    Explanation(
        "env.python",
        "which Python",
        "The default start method and the texts of pickle errors depend on the version.",
        "platform.python_version().",
        "Nothing to do.",
    ),
    Explanation(
        "env.torch",
        "whether torch imports, and how long it takes",
        "Every spawned worker imports torch again: seconds for each, before the first batch.",
        "import torch in a process of its own, timed.",
        "Reinstall torch when it does not import; keep workers persistent when it takes long.",
        ("OSError: libcudart.so: cannot open shared object file",),
    ),
    Explanation(
        "env.torchvision",
        "whether torch and torchvision belong together",
        "A CUDA build of one beside a CPU build of the other cannot register its operators.",
        "The build tags of both, the release torchvision asks for, and an import when in doubt.",
        "pip install --force-reinstall torch torchvision, both from one index.",
        (
            "RuntimeError: operator torchvision::nms does not exist",
            "RuntimeError: Couldn't load custom C++ ops",
            "Detected that PyTorch and torchvision were compiled with different CUDA major versions",
        ),
    ),
    Explanation(
        "env.cpu",
        "effective cores",
        "os.cpu_count, the affinity mask and psutil ignore a container's CPU quota, so defaults start "
        "too many workers, which then wait for each other.",
        "The smallest of cores, affinity, cgroup v1/v2 quota (every ancestor) and SLURM_CPUS_PER_TASK, divided "
        "by LOCAL_WORLD_SIZE; also load and CPU pressure.",
        "No more CPU-bound workers than effective cores, or a larger quota.",
        (
            "This DataLoader will create 8 worker processes in total. Our suggested max number of worker in "
            "current system is 2",
        ),
    ),
    Explanation(
        "env.ram",
        "memory against what the workers need",
        "The kernel kills a worker when memory runs out; torch says only that it exited.",
        "Free memory after cgroup limits, against workers times their measured own memory and the batches "
        "under way. While the doctor runs, its own processes are stopped at 80 %.",
        "Fewer workers, smaller batches, data in arrays or memory maps.",
        (
            "RuntimeError: DataLoader worker (pid 1234) is killed by signal: Killed.",
            "RuntimeError: DataLoader worker (pid(s) 1234) exited unexpectedly",
        ),
    ),
    Explanation(
        "env.shm",
        "shared memory",
        "Workers hand batches over through /dev/shm; Docker gives it 64 MB.",
        "(num_workers x prefetch_factor + 3) x bytes of a batch, against what is free.",
        "docker run --shm-size=8g, or --ipc=host; fewer workers or a smaller prefetch_factor.",
        (
            "RuntimeError: DataLoader worker (pid 1234) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory. Please try to raise your shared memory limit.",
            "RuntimeError: unable to allocate shared memory(shm) for file </torch_1234>: No space left on device (28)",
        ),
    ),
    Explanation(
        "env.fds",
        "open files",
        "Each tensor of each batch under way, and of each batch you keep, is an open file.",
        "The soft limit, against 4 x tensors x workers x prefetch + 256.",
        "ulimit -n 65535; clone batches that you keep.",
        (
            "RuntimeError: Too many open files. Communication with the workers is no longer possible.",
            "RuntimeError: received 0 items of ancdata",
            "OSError: [Errno 24] Too many open files",
        ),
    ),
    Explanation(
        "env.threads",
        "threads inside workers and of torch here",
        "torch gives a worker one thread, but OpenCV and BLAS take all cores in each; and on busy cores even "
        "torch.zeros of a face is a thousand times slower with two threads than with one.",
        "torch.zeros(3, 112, 112) with one and with all threads; thread counts reported by a real worker.",
        "cv2.setNumThreads(0) in worker_init_fn, OMP_NUM_THREADS=1, OMP_WAIT_POLICY=PASSIVE.",
    ),
    Explanation(
        "env.storage",
        "where the data lies",
        "Network and FUSE file systems make items wait; then more workers than cores are right.",
        "The file system's type, and the blocked share of an item's time.",
        "Copy to a local disk, or pack into shards.",
    ),
    Explanation(
        "env.commit",
        "Windows: memory that may be committed",
        "Each spawned worker commits the CUDA libraries again.",
        "Free memory plus page file.",
        "A larger paging file, or fewer workers.",
        (
            "OSError: [WinError 1455] The paging file is too small for this operation to complete. "
            'Error loading "torch\\lib\\shm.dll"',
        ),
    ),
    Explanation(
        "env.decoder",
        "the JPEG decoder",
        "Pillow without libjpeg-turbo decodes several times slower.",
        "PIL.features.",
        "Install Pillow's own wheel; Image.draft() or smaller pictures for large photos.",
    ),
    Explanation(
        "mp.start_method",
        "how workers are started, and who decided",
        "fork copies the process (Linux up to Python 3.13); spawn (Windows, macOS) and forkserver (Linux from "
        "3.14) pickle the data set. The same script works here and fails there.",
        "multiprocessing.get_start_method(allow_none=True), which does not fix the method.",
        "Pass multiprocessing_context= to the DataLoader; do not set it globally.",
        ("RuntimeError: context has already been set",),
    ),
    Explanation(
        "mp.main_guard",
        "scripts that start work when they are imported",
        "A spawned worker imports the script again and would start workers of its own; classes defined in a "
        "notebook cannot be imported at all.",
        "The script's top level (loops over a DataLoader, calls of main() or train()), and members that "
        "belong to __main__.",
        'Put what runs under `if __name__ == "__main__":`; move classes into a module.',
        (
            "RuntimeError: An attempt has been made to start a new process before the current process has "
            "finished its bootstrapping phase.",
            "AttributeError: Can't get attribute 'MyDataset' on <module '__main__' (built-in)>",
        ),
    ),
    Explanation(
        "mp.cuda_poison",
        "queries that initialise CUDA",
        "torch.cuda.is_available() alone can initialise the driver; a worker forked afterwards cannot use CUDA.",
        "PYTORCH_NVML_BASED_CUDA_CHECK, the start method, and whether there is a device.",
        "PYTORCH_NVML_BASED_CUDA_CHECK=1 before torch is imported, or another start method.",
        ("RuntimeError: CUDA error: initialization error",),
    ),
    Explanation(
        "mp.cuda_fork",
        "CUDA in use before workers are forked",
        "A forked process inherits a CUDA state that it cannot use. Calling .cuda() in __getitem__ fails "
        "the same way, and 'use spawn' only moves the trouble.",
        "torch.cuda.is_initialized() after the data set is built, and tensors on a GPU among its members.",
        "Tensors stay on the CPU in the data set; batches are moved in the training loop.",
        (
            "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you "
            "must use the 'spawn' start method",
        ),
    ),
    Explanation(
        "mp.threads",
        "threads alive before the fork",
        "A lock that another thread holds at the fork stays locked in the worker for ever.",
        "Threads of the process before and after the data set is built.",
        "Start threads at first use in the worker, or use forkserver.",
        (
            "DeprecationWarning: This process is multi-threaded, use of fork() may lead to deadlocks in the child.",
        ),
    ),
    Explanation(
        "ds.build",
        "whether the data set can be built",
        "Nothing else can be said without it.",
        "Calling what --dataset names, in a process without CUDA (see --allow-cuda).",
        "Call it in a Python prompt; --dataset-args passes arguments.",
        ("RuntimeError: No CUDA GPUs are available", "AssertionError: Torch not compiled with CUDA enabled"),
    ),
    Explanation(
        "ds.items",
        "whether items load",
        "One bad picture ends an epoch, hours into a run.",
        "The first, the last and thirty items between, in this order, without workers.",
        "Repair or leave out the sample that is named.",
        ("RuntimeError: Caught ValueError in DataLoader worker process 0.",),
    ),
    Explanation(
        "ds.unpicklable",
        "members that cannot be sent to a worker",
        "spawn and forkserver pickle the data set, its collate_fn and worker_init_fn. One lambda, lock, open "
        "file or module among thousands of members ends the start, and the error names a type, not a place.",
        "A pickler in pure Python with torch's own rules that notes every fault with its path and goes on.",
        "By kind: module-level functions for lambdas; locks and handles made at first use in the worker.",
        (
            "AttributeError: Can't pickle local object 'make.<locals>.<lambda>'",
            "AttributeError: Can't get local object 'make.<locals>.<lambda>'",
            "_pickle.PicklingError: Can't pickle <function <lambda>>: attribute lookup <lambda> failed",
            "TypeError: cannot pickle '_thread.lock' object",
            "TypeError: cannot pickle '_thread.RLock' object",
            "TypeError: cannot pickle '_thread._local' object",
            "TypeError: cannot pickle '_queue.SimpleQueue' object",
            "TypeError: cannot pickle '_io.BufferedReader' object",
            "TypeError: cannot pickle '_io.TextIOWrapper' object",
            "TypeError: cannot pickle 'generator' object",
            "TypeError: cannot pickle 'module' object",
            "TypeError: cannot pickle 'sqlite3.Connection' object",
            "TypeError: cannot pickle 'Environment' object",
            "TypeError: cannot pickle 'weakref.ReferenceType' object",
            "TypeError: h5py objects cannot be pickled",
            "RuntimeError: Serialization of parametrized modules is only supported through state_dict()",
            "RuntimeError: Tried to serialize object which does not have a __getstate__ method defined!",
            "RuntimeError: A SemLock created in a fork context is being shared with a process in a spawn context",
            "Got pickle error when attempting to start a worker Process",
        ),
    ),
    Explanation(
        "ds.non_leaf",
        "tensors with a gradient history",
        "torch refuses to send them to another process; pickle.dumps alone accepts them, so a plain test lies.",
        "requires_grad and not is_leaf, for every tensor among the members.",
        "Keep tensor.detach().",
        (
            "RuntimeError: Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd "
            "does not support crossing process boundaries.",
        ),
    ),
    Explanation(
        "ds.temp_tensor",
        "tensors made while pickling",
        "A tensor made in __getstate__ (a CPU copy, the state of a torch.Generator) is sent as a file "
        "descriptor and is gone before the worker opens it. The worker dies, the parent says nothing useful.",
        "A weak reference to each tensor met; those dead after the walk were temporary.",
        "Return numpy arrays from __getstate__ or keep the tensor as an attribute; seeds instead of generators.",
        (
            "RuntimeError: unable to resize file <filename not specified> to the right size: Invalid argument (22)",
        ),
    ),
    Explanation(
        "ds.cuda_member",
        "networks and CUDA tensors in the data set",
        "Under fork the first CUDA call raises. Under spawn the tensor is sent as an IPC handle: every worker "
        "opens a CUDA context of its own and waits for the same GPU; on Windows, WSL2 and Jetson it fails.",
        "The device of every tensor among the members; networks are named even on the CPU.",
        "Run the network once (`dsrface precompute`), or on the batch in the training step (`--live`).",
        (
            "RuntimeError: CUDA error: operation not supported (801)",
            "RuntimeError: Attempted to send CUDA tensor received from another process; this is not currently "
            "supported. Consider cloning before sending.",
            "RuntimeError: Cannot pickle CUDA storage; try pickling a CUDA tensor instead",
            "RuntimeError: pidfd_getfd: Operation not permitted",
        ),
    ),
    Explanation(
        "ds.open_handles",
        "files, archives and databases opened before the workers start",
        "Forked workers share one file position and silently read each other's bytes: wrong data, no error.",
        "Handles among the members, also those that __getstate__ drops, for fork does not ask it.",
        "Keep the path and open at first use in __getitem__, keyed by os.getpid().",
        (
            "OSError: Can't read data (wrong B-tree signature)",
            "zipfile.BadZipFile: Bad magic number for file header",
            "zlib.error: Error -3 while decompressing data",
        ),
    ),
    Explanation(
        "ds.rng",
        "random generators of its own",
        "torch seeds the global generators anew in each worker, but a np.random.Generator, random.Random or "
        "torch.Generator that is a member starts equal in each worker and in every epoch.",
        "Their types among the members.",
        "Seed at first use from torch.initial_seed(), or draw from (seed, epoch, index).",
    ),
    Explanation(
        "ds.pickle_size",
        "bytes that travel to each worker",
        "Above 64 KiB the start of one worker waits for the one before; memory maps travel by value.",
        "Bytes counted while tracing, with the largest members.",
        "One array instead of lists, memory maps opened in __setstate__, persistent workers.",
    ),
    Explanation(
        "ds.refcount_growth",
        "memory that grows while forked workers read",
        "Reading a Python object writes its reference count, so its page is copied into each worker.",
        "Small Python objects among the members, large lists sampled.",
        "Names and labels in numpy or torch arrays.",
    ),
    Explanation(
        "ds.output",
        "what a batch holds",
        "A batch that cannot be pickled hangs the loader for ever; one that requires a gradient fails in "
        "workers only; one on a GPU cannot leave a worker.",
        "The tracer on a collated batch.",
        "Tensors, numbers, texts and plain containers; torch.no_grad() and .detach().",
        (
            "RuntimeError: stack(): functions with out=... arguments don't support automatic differentiation, "
            "but one of the arguments requires grad.",
            "RuntimeError: stack expects each tensor to be equal size",
            "TypeError: default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists",
        ),
    ),
    Explanation(
        "ds.iterable_shard",
        "iterable data sets that every worker reads whole",
        "Without sharding n workers deliver every item n times.",
        "The first items from two real workers, compared.",
        "itertools.islice by get_worker_info().id and .num_workers in __iter__.",
        (
            "UserWarning: Length of IterableDataset was reported to be 4 (when accessing len(dataloader)), but 8 "
            "samples have been fetched.",
        ),
    ),
    Explanation(
        "worker.fork",
        "real workers by fork",
        "Locks, threads, CUDA and files that were there before the fork.",
        "A DataLoader in a process group of its own, with a time limit, a memory limit and stacks when it hangs.",
        "As the finding says.",
        (
            "ERROR: Unexpected segmentation fault encountered in worker.",
            "RuntimeError: DataLoader timed out after 30 seconds",
        ),
    ),
    Explanation(
        "worker.spawn",
        "real workers by spawn",
        "Everything is pickled and imported again.",
        "As worker.fork.",
        "As the finding says.",
        (
            "RuntimeError: DataLoader worker (pid 1234) exited unexpectedly with exit code 1. Details are lost due "
            "to multiprocessing. Rerunning with num_workers=0 may give better error trace.",
        ),
    ),
    Explanation(
        "worker.forkserver",
        "real workers by forkserver",
        "Everything is pickled, as with spawn; a worker's death is noticed seconds later.",
        "As worker.fork.",
        "As the finding says.",
    ),
    Explanation(
        "worker.consistency",
        "whether workers deliver the same data",
        "A shared file position gives wrong bytes without any error.",
        "Items from workers against those of num_workers=0, item by item; items that vary by themselves are "
        "left out.",
        "Files opened per process; randomness drawn from the index.",
    ),
    Explanation(
        "perf.launch",
        "whether the given number of workers is sound",
        "Too many workers fill memory or fight over cores, too few leave the device waiting.",
        "Each cap, and the model's throughput against the best number.",
        "The number that is named.",
    ),
    Explanation(
        "perf.recommend",
        "which settings to use",
        "The best number depends on what an item costs, what waits for it, and what the machine allows.",
        "Processor, waiting and blocked time of an item, a model, and a short interleaved timing.",
        "The flags at the end of the report.",
    ),
)
EXPLANATIONS: Mapping[str, Explanation] = {entry.id: entry for entry in _ENTRIES}
