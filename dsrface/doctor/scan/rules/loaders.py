"""Rules about how a DataLoader is made and launched."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from dsrface.doctor.main_guard import run_on_import
from dsrface.doctor.scan.rule import Hit, Rule
from dsrface.doctor.scan.rules.members import described, held_function
from dsrface.doctor.scan.source import Function, Source, has_workers, keyword

_SEEDS = {"numpy.random.seed", "random.seed", "torch.manual_seed"}
_FROM_BASE = ("initial_seed", "get_worker_info", "base_seed", "generator", "time", "urandom", "randint")
_METHOD_CALLS = ("set_start_method", "get_context")
_PLATFORM = ("platform", "name", "system", "fork", "get_all_start_methods")


def _main_guard(source: Source) -> Iterator[Hit]:
    if source.is_notebook:
        return  # workers do not import it
    loaders: set[str] = set()
    for node in run_on_import(source.tree.body):
        if isinstance(node, ast.Assign) and any(has_workers(call) for call in source.loaders(node.value)):
            loaders |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.For):
            used = {part.id for part in ast.walk(node.iter) if isinstance(part, ast.Name)}
            if used & loaders or any(has_workers(call) for call in source.loaders(node.iter)):
                yield node, "the loop over a DataLoader with workers runs when the file is imported"


def _worker_seeds(source: Source) -> Iterator[Hit]:
    functions = {node.name: node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef)}
    seen: set[str] = set()
    for loader in source.loaders():
        given = keyword(loader, "worker_init_fn")
        if isinstance(given, ast.Name) and given.id in functions and given.id not in seen:
            seen.add(given.id)
            yield from _seeded_alike(source, functions[given.id])


def _seeded_alike(source: Source, function: Function) -> Iterator[Hit]:
    text = ast.dump(function)
    if any(name in text for name in _FROM_BASE):
        return
    for call, name in source.calls(function):
        if name in _SEEDS:
            worker = function.args.args[0].arg if function.args.args else ""
            knows = {
                part.id for argument in call.args for part in ast.walk(argument) if isinstance(part, ast.Name)
            }
            same = "in every epoch" if worker in knows else "in every worker and every epoch"
            yield call, f"{function.name}() seeds workers with the same number {same}"


def _local_functions(source: Source) -> Iterator[Hit]:
    for call in source.loaders():
        local = source.local_functions(call)
        for name in ("collate_fn", "worker_init_fn"):
            value = keyword(call, name)
            held = held_function(value, local) if value is not None else None
            if held is not None and has_workers(call):
                yield held, f"{name} is {described(held)}"


def _fork_only(source: Source) -> Iterator[Hit]:
    if "DataLoader" not in source.text:
        return
    for call, name in source.calls(source.tree):
        is_set = name.rpartition(".")[2] in _METHOD_CALLS and any(_is_fork(value) for value in call.args[:1])
        context = keyword(call, "multiprocessing_context")
        if (is_set or (context is not None and _is_fork(context))) and not _asks_platform(source, call):
            yield call, 'asks for the start method "fork"'


def _is_fork(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value == "fork"


def _asks_platform(source: Source, node: ast.AST) -> bool:
    """Return whether a condition around a node asks what the platform has."""
    tests = [parent.test for parent in source.parents(node) if isinstance(parent, (ast.If, ast.IfExp))]
    return any(
        getattr(part, "attr", getattr(part, "id", "")) in _PLATFORM
        for test in tests
        for part in ast.walk(test)
    )


MAIN_GUARD = Rule(
    "scan.main-guard",
    "warning",
    "a loop over a DataLoader with workers stands outside of a main guard",
    "Where workers are spawned (Windows, macOS) or come from a fork server (Linux from Python 3.14 on) each "
    "imports the script again, and would start workers of its own.",
    'Put it under `if __name__ == "__main__":`.',
    "for batch in DataLoader(data, num_workers=4): ...",
    _main_guard,
)
WORKER_SEED = Rule(
    "scan.worker-seed",
    "warning",
    "worker_init_fn seeds workers with the same number again",
    "The loader gives each worker of each epoch a seed of its own (NumPy's too, from torch 1.9 on). A "
    "constant undoes that in all workers, the worker's id alone repeats it every epoch.",
    "Leave the seeding to the loader, or seed from torch.initial_seed() % 2**32.",
    "def seed_worker(worker_id):\n    np.random.seed(42 + worker_id)",
    _worker_seeds,
)
LOCAL_FUNCTION = Rule(
    "scan.local-function",
    "warning",
    "a DataLoader with workers is given a lambda or a local function",
    "It cannot be pickled, so workers do not start on Windows, on macOS, and on Linux from Python 3.14 on.",
    "Use a function at the top of a module, a class with __call__, or functools.partial of one.",
    "DataLoader(data, num_workers=4, collate_fn=lambda items: items)",
    _local_functions,
)
FORK_ONLY = Rule(
    "scan.fork-only",
    "warning",
    "the start method fork is asked for by name",
    "Windows has none; with live threads, or CUDA in use, forked workers can hang or fail.",
    "Leave the start method to the platform, or use forkserver where there is one.",
    'multiprocessing.set_start_method("fork")',
    _fork_only,
)
