"""How a case of the zoo says what it is: `@fault(...)` or `@healthy(...)` above the callable that builds it."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ALL = ("fork", "spawn", "forkserver")
FORK = ("fork",)
SENT = ("spawn", "forkserver")  # the data set is pickled and every module imported once more

Build = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Case:
    """One data set and what the doctor should say about it under some start methods.

    Args:
        name: Name of the callable.
        file: The file it stands in; its stem is the kind of the case.
        about: First line of the callable's docstring.
        methods: Start methods this expectation is for.
        ids: For a fault, the checks that may name it (shell patterns); empty for a healthy data set.
        where: For a fault, a regular expression that the finding has to match: the member, variable or item.
        fix: For a fault, a regular expression that its advice has to match.
        most_workers: Largest number that may be recommended; None for any.
        least_workers: Smallest number that may be recommended.
        persistent: Whether `persistent_workers=True` may be recommended.
        is_silent: The data would be wrong without any error.
        plain: What a plain DataLoader may show, see `plain.py`.
        needs: Modules without which the case is skipped.
        environment: Variables set for the examination.
        allowed: Checks that may warn about a healthy data set, for a reason written at the case.
    """

    name: str
    file: Path
    about: str
    methods: tuple[str, ...]
    ids: tuple[str, ...] = ()
    where: str = ""
    fix: str = ""
    most_workers: int | None = None
    least_workers: int = 0
    persistent: bool = True
    is_silent: bool = False
    plain: tuple[str, ...] = ("equal",)
    needs: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    allowed: tuple[str, ...] = ()

    @property
    def is_fault(self) -> bool:
        """Whether the doctor has something to find."""
        return bool(self.ids)

    @property
    def kind(self) -> str:
        """The group of the case."""
        return self.file.stem

    @property
    def target(self) -> str:
        """The case as `dsrface doctor --dataset` takes it."""
        return f"{self.file}:{self.name}"

    def absent(self) -> list[str]:
        """Return the modules that the case needs and that are not installed."""
        return [module for module in self.needs if importlib.util.find_spec(module) is None]


CASES: list[Case] = []


def fault(*ids: str, plain: str, methods: tuple[str, ...] = ALL, **values: Any) -> Callable[[Build], Build]:
    """Declare that the doctor has to name a fault by one of these checks; `plain` is words separated by spaces."""
    return _declare(ids=ids, plain=plain, methods=methods, **values)


def healthy(
    *, plain: str = "equal", methods: tuple[str, ...] = ALL, **values: Any
) -> Callable[[Build], Build]:
    """Declare that the doctor has to stay silent."""
    return _declare(plain=plain, methods=methods, **values)


def _declare(plain: str, **values: Any) -> Callable[[Build], Build]:
    def keep(build: Build) -> Build:
        about = (build.__doc__ or "").strip().partition("\n")[0]
        file = Path(build.__code__.co_filename).resolve()  # type: ignore[attr-defined]
        CASES.append(Case(build.__name__, file, about, plain=tuple(plain.split()), **values))
        return build

    return keep
