"""What to examine: a data set or loader made by a callable that the user names."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dsrface.doctor import fastai_loader
from dsrface.errors import UsageError
from dsrface.runtime.user_callable import named_object


@dataclass
class Target:
    """What a DataLoader would be made of, or one that was given.

    Args:
        dataset: Map-style or iterable data set.
        collate_fn: Given to the workers; None for torch's own.
        worker_init_fn: Given to the workers; may be None.
        batch_size: As the target states it; None when it does not.
        file: The source file, for looking at its top level; may be empty.
        flags: Of the command that builds this very data set, for the line to launch; may be empty.
        loader: The DataLoader that was given; its sampler and options count.
        note: How the target was got out of what the callable returned; may be empty.
        is_running: Its script runs in this process already; otherwise it was built to be examined.
        is_copy: This process was forked from the one that runs the script.
    """

    dataset: Any
    collate_fn: Callable[[list[Any]], Any] | None = None
    worker_init_fn: Callable[[int], None] | None = None
    batch_size: int | None = None
    file: str = ""
    flags: str = ""
    loader: Any = None
    note: str = ""
    is_running: bool = False
    is_copy: bool = False

    @property
    def roots(self) -> dict[str, Any]:
        """What travels to workers and works there on items, by name."""
        return {"dataset": self.dataset, "collate_fn": self.collate_fn}

    @property
    def is_iterable(self) -> bool:
        """Whether workers iterate over the data set instead of indexing it."""
        from torch.utils.data import IterableDataset

        return isinstance(self.dataset, IterableDataset)

    @property
    def is_batched(self) -> bool:
        """Whether the loader collates items; with batch_size=None it hands over what the data set returns."""
        return self.loader is None or self.loader.batch_sampler is not None

    @property
    def dropped(self) -> int:
        """The most items that each worker of a stream leaves out for `drop_last`."""
        is_dropping = self.is_iterable and self.is_batched and getattr(self.loader, "drop_last", False)
        return (self.batch_size or 1) - 1 if is_dropping else 0

    @property
    def batch_sampler(self) -> Any:
        """The loader's batch sampler, or None."""
        return None if self.loader is None or self.is_iterable else self.loader.batch_sampler

    @property
    def has_own_batches(self) -> bool:
        """Whether batches come from a class of the user's, so that they cannot be cut otherwise."""
        from torch.utils.data import BatchSampler

        return self.batch_sampler is not None and type(self.batch_sampler) is not BatchSampler

    @property
    def sampler(self) -> Any:
        """The sampler that yields the keys, where it is not all of them in order or shuffled; else None."""
        from torch.utils.data import RandomSampler, SequentialSampler

        if self.loader is None or self.is_iterable:
            return None
        sampler = self.loader.sampler
        is_whole = isinstance(sampler, (RandomSampler, SequentialSampler))
        return None if self.is_batched and is_whole else sampler

    @property
    def persistent_workers(self) -> bool:
        """Whether the loader that was given keeps its workers."""
        return bool(getattr(self.loader, "persistent_workers", False))

    def load(self, key: Any) -> Any:
        """Load one item as a loader does, by `__getitems__` where the data set has it."""
        if self.is_batched and getattr(self.dataset, "__getitems__", None):
            return self.dataset.__getitems__([key])[0]
        return self.dataset[key]

    def num_items(self) -> int | None:
        """Return the length, or None where there is none."""
        try:
            return len(self.dataset)
        except (TypeError, NotImplementedError):
            return None

    def num_keys(self) -> int | None:
        """Return how many items an epoch loads: the sampler's number, else the data set's."""
        with contextlib.suppress(TypeError, NotImplementedError):
            if self.sampler is not None:
                return len(self.sampler)
        return self.num_items()

    def batch_items(self) -> int | None:
        """Return the items of a batch; None where nothing says."""
        if not self.has_own_batches:
            return self.batch_size
        first = self.own_batches(1)
        return len(first[0]) if first and isinstance(first[0], (list, tuple)) else self.batch_size

    def own_batches(self, count: int) -> list[Any]:
        """Return the first batches of the loader's own batch sampler."""
        return list(itertools.islice(iter(self.batch_sampler), count))

    def first_keys(self, count: int) -> list[Any]:
        """Return up to `count` keys that the loader asks for, in its own order where it has one."""
        if self.has_own_batches:
            batches = self.own_batches(count)
            return [
                key for batch in batches for key in (batch if isinstance(batch, (list, tuple)) else [batch])
            ][:count]
        if self.sampler is not None:
            return list(itertools.islice(iter(self.sampler), count))
        return list(range(min(count, self.num_items() or 0)))


def build(request: Mapping[str, Any]) -> Target:
    """Build the target that a request names; runs foreign code.

    Raises:
        UsageError: the name leads nowhere, or what it leads to is not a Dataset.
    """
    return _from_spec(str(request["spec"]), request.get("args"))


def _from_spec(spec: str, args: Any) -> Target:
    spec, _, key = spec.partition("[")
    value, file = named_object(spec, flag="--dataset", wanted="a data set")
    made = _call(value, args)
    return _unpack(_part(made, key.rstrip("]").strip("'\""), spec) if key else made, spec, file)


def _part(value: Any, key: str, spec: str) -> Any:
    """Return one of several loaders.

    Raises:
        UsageError: there is none under this key.
    """
    for found in (key, int(key) if key.isdigit() else key):
        with contextlib.suppress(LookupError, TypeError):
            return value[found]
    known = ", ".join(map(repr, value)) if isinstance(value, Mapping) else f"0 to {len(value) - 1}"
    raise UsageError(f"{spec}: there is no {key!r}.", id="bad-target", hint=f"There are: {known}.")


def _call(value: Any, args: Any) -> Any:
    known = ("__getitem__", "__iter__", "train_dataloader", "get_train_dataloader")
    if isinstance(value, type) or not any(hasattr(value, name) for name in known):
        if not callable(value):
            raise UsageError(
                f"{value!r} is neither a data set nor callable.",
                id="bad-target",
                hint="Name a Dataset, a DataLoader, or what returns one.",
            )
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


def from_object(value: Any) -> Target:
    """Return the target that an object is: a loader, a data set, a data module, a trainer, a pair of both.

    Raises:
        UsageError: it is none of these.
    """
    main = sys.modules.get("__main__")
    target = _unpack(value, type(value).__name__, str(getattr(main, "__file__", "") or ""))
    target.is_running = True
    return target


def _unpack(value: Any, spec: str, file: str) -> Target:
    from torch.utils.data import DataLoader

    value, note = _choose(value, spec)
    if isinstance(value, DataLoader):
        return from_loader(value, file=file, note=note)
    options: Mapping[str, Any] = {}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping):
        value, options = value
        unknown = set(options) - {"collate_fn", "worker_init_fn", "batch_size", "flags"}
        if unknown:
            raise UsageError(
                f"{spec} returns unknown loader options: {', '.join(sorted(unknown))}.",
                id="bad-target",
                hint="Known are collate_fn, worker_init_fn and batch_size; or return the DataLoader itself.",
            )
    if not hasattr(value, "__getitem__") and not hasattr(value, "__iter__"):
        raise UsageError(
            f"{spec} gives an object of type {type(value).__name__}, which is not a Dataset.",
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
        note=note,
    )


def from_loader(loader: Any, *, file: str = "", note: str = "") -> Target:
    """Return the target that a DataLoader is: its data set, its sampler and its options."""
    return Target(
        loader.dataset,
        loader.collate_fn,
        loader.worker_init_fn,
        loader.batch_size or getattr(loader.batch_sampler, "batch_size", None),
        file,
        loader=loader,
        note=note,
    )


def _choose(value: Any, spec: str) -> tuple[Any, str]:
    """Take the training loader out of a data module, or one loader out of several.

    Raises:
        UsageError: a data module without one.
    """
    from torch.utils.data import DataLoader, Dataset

    value = fastai_loader.training_loader(value)
    if fastai_loader.is_fastai(value):
        return fastai_loader.as_torch(value), "items and batches of a fastai loader"
    if callable(getattr(value, "get_train_dataloader", None)):
        return value.get_train_dataloader(), f"{type(value).__name__}.get_train_dataloader()"
    if not isinstance(value, DataLoader) and callable(getattr(value, "train_dataloader", None)):
        kind = type(value).__name__
        for name, args in (("prepare_data", ()), ("setup", ("fit",))):
            if callable(getattr(value, name, None)):
                getattr(value, name)(*args)
        chosen, note = _choose(value.train_dataloader(), spec)
        return chosen, f"{kind}.train_dataloader() after setup('fit'); {note}".rstrip("; ")
    is_loader = hasattr(value, "__iter__") and not hasattr(value, "__getitem__")
    if is_loader and not isinstance(value, (DataLoader, Dataset)):
        inner = [(k, v) for k, v in getattr(value, "__dict__", {}).items() if isinstance(v, DataLoader)]
        if len(inner) == 1:  # timm's PrefetchLoader, for example
            return inner[0][1], f"the {inner[0][0]} of a {type(value).__name__}"
    named: dict[Any, Any] = {}
    if isinstance(value, Mapping):
        is_split = all(isinstance(key, str) for key in value)
        kinds = (DataLoader, Dataset) if is_split else (DataLoader,)
        named = {
            key: part
            for key, part in value.items()
            if isinstance(part, kinds)
            or (is_split and hasattr(part, "__getitem__") and hasattr(part, "features"))
        }
        if is_split and value and not named:
            raise UsageError(
                f"{spec} returned a dict with the keys {', '.join(map(repr, value))}, which is not a "
                "Dataset.",
                id="bad-target",
                hint="Return a Dataset or a DataLoader, or a dict of them.",
            )
    elif isinstance(value, (list, tuple)):
        named = {index: part for index, part in enumerate(value) if isinstance(part, DataLoader)}
    if not named or len(named) < len(value):
        return value, ""
    first = "train" if "train" in named else next(iter(named))
    others = ", ".join(f"{spec}[{key}]" for key in named if key != first)
    rest = f"; for the others: --dataset {others}" if others else ""
    return named[first], f"{first!r} of {len(named)}{rest}"
