"""What to examine: a data set or loader made by a callable that the user names."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsrface.errors import UsageError
from dsrface.runtime.user_callable import named_object

_STARTS = {"main", "train", "run", "fit"}


@dataclass
class Target:
    """What a DataLoader would be made of.

    Args:
        dataset: Map-style or iterable data set.
        collate_fn: Given to the workers; None for torch's own.
        worker_init_fn: Given to the workers; may be None.
        batch_size: As the target states it; None when it does not.
        file: The source file, for looking at its top level; may be empty.
        flags: Of the command that builds this very data set, for the line to launch; may be empty.
    """

    dataset: Any
    collate_fn: Callable[[list[Any]], Any] | None = None
    worker_init_fn: Callable[[int], None] | None = None
    batch_size: int | None = None
    file: str = ""
    flags: str = ""

    @property
    def is_iterable(self) -> bool:
        """Whether workers iterate over the data set instead of indexing it."""
        from torch.utils.data import IterableDataset

        return isinstance(self.dataset, IterableDataset)

    def num_items(self) -> int | None:
        """Return the length, or None where there is none."""
        try:
            return len(self.dataset)
        except (TypeError, NotImplementedError):
            return None


def build(request: Mapping[str, Any]) -> Target:
    """Build the target that a request names; runs foreign code.

    Raises:
        UsageError: the name leads nowhere, or what it leads to is no data set.
    """
    return _from_spec(str(request["spec"]), request.get("args"))


def _from_spec(spec: str, args: Any) -> Target:
    value, file = named_object(spec, flag="--dataset", wanted="a data set")
    return _unpack(_call(value, args), spec, file)


def _call(value: Any, args: Any) -> Any:
    if isinstance(value, type) or not (hasattr(value, "__getitem__") or hasattr(value, "__iter__")):
        if not callable(value):
            raise UsageError(f"{value!r} is neither a data set nor callable.", id="bad-target")
        positional, named = (args, {}) if isinstance(args, list) else ([], args or {})
        _bind(value, positional, named)
        return value(*positional, **named)
    return value


def _bind(value: Callable[..., Any], positional: list[Any], named: dict[str, Any]) -> None:
    """See whether a callable takes these arguments.

    Raises:
        UsageError: arguments are missing, or it does not know them.
    """
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*positional, **named)
    except TypeError as error:
        names = [
            name
            for name, parameter in signature.parameters.items()
            if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        example = json.dumps(dict.fromkeys(names or list(signature.parameters)[:1], "..."))
        raise UsageError(
            f"{getattr(value, '__name__', value)}{signature}: {error}.",
            id="bad-dataset-args",
            hint=f"For example --dataset-args '{example}'.",
        ) from None


def _unpack(value: Any, spec: str, file: str) -> Target:
    from torch.utils.data import DataLoader

    if isinstance(value, DataLoader):
        return Target(value.dataset, value.collate_fn, value.worker_init_fn, value.batch_size, file)
    options: Mapping[str, Any] = {}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping):
        value, options = value
        unknown = set(options) - {"collate_fn", "worker_init_fn", "batch_size", "flags"}
        if unknown:
            raise UsageError(
                f"{spec} returns unknown loader options: {', '.join(sorted(unknown))}.",
                id="bad-target",
                hint="Known are collate_fn, worker_init_fn and batch_size.",
            )
    if not hasattr(value, "__getitem__") and not hasattr(value, "__iter__"):
        raise UsageError(
            f"{spec} returned a {type(value).__name__}, which is no data set.",
            id="bad-target",
            hint="Return a Dataset, a DataLoader, or (dataset, dict(collate_fn=..., batch_size=...)).",
        )
    return Target(
        value,
        options.get("collate_fn"),
        options.get("worker_init_fn"),
        options.get("batch_size"),
        file,
        str(options.get("flags", "")),
    )


def unguarded_lines(file: str) -> list[int]:
    """Return the top-level lines of a script that start work when a worker imports it.

    Recognised are loops over a DataLoader made at top level, backward(), and calls of main(), train(), run()
    or fit(), outside of `if __name__ == "__main__":`.
    """
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    loaders: set[str] = set()
    lines = []
    for node in _run_on_import(tree.body):
        if isinstance(node, ast.Assign) and "DataLoader" in ast.dump(node.value):
            loaders |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.For):
            names = {part.id for part in ast.walk(node.iter) if isinstance(part, ast.Name)}
            if names & (loaders | {"DataLoader"}):
                lines.append(node.lineno)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if name == "backward" or (name in _STARTS and (name in functions or name == "fit")):
                lines.append(node.lineno)
    return lines


def _run_on_import(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that an import runs, those inside loops and other blocks too."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, ast.If) and "__main__" in ast.dump(node.test):
            yield from _run_on_import(node.orelse)
            continue
        yield node
        for part in ("body", "orelse", "finalbody"):
            yield from _run_on_import(getattr(node, part, []))
