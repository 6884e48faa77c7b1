"""A Python file as the rules see it: its tree, what its names stand for, its data set classes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.Lambda)
_ITEM_METHODS = ("__getitem__", "__getitems__", "__iter__", "__next__")
# Roots from which a base class called `...Dataset` is one for torch's loader.
_TORCH_ROOTS = ("torch", "torchvision", "torchaudio", "torchtext", "torch_geometric", "monai", "timm")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class DatasetClass:
    """A class of which a DataLoader is made.

    Args:
        node: Its definition.
        is_iterable: Whether workers iterate over it instead of indexing it.
    """

    node: ast.ClassDef
    is_iterable: bool

    def method(self, name: str) -> Function | None:
        """Return a method's definition."""
        return next((part for part in self.methods() if part.name == name), None)

    def methods(self) -> Iterator[Function]:
        """Yield the methods that the class itself defines."""
        yield from (part for part in self.node.body if isinstance(part, _FUNCTIONS))

    def item_methods(self) -> list[Function]:
        """Return the methods that run in a worker for every item, and those of its own that they call."""
        known = {method.name: method for method in self.methods()}
        todo = [known[name] for name in _ITEM_METHODS if name in known]
        reached: list[Function] = []
        while todo:
            method = todo.pop()
            if method in reached or method.name == "__init__":
                continue
            reached.append(method)
            todo += [
                known[node.func.attr]
                for node in ast.walk(method)
                if isinstance(node, ast.Call) and is_self_attribute(node.func) and node.func.attr in known
            ]
        return reached

    def names(self) -> set[str]:
        """Return every identifier that the class mentions."""
        return {
            node.id if isinstance(node, ast.Name) else node.attr
            for node in ast.walk(self.node)
            if isinstance(node, (ast.Name, ast.Attribute))
        } | {method.name for method in self.methods()}


@dataclass(frozen=True)
class Source:
    """One parsed file.

    Args:
        path: As the report names it.
        text: The file's contents.
        tree: Parsed from it.
    """

    path: Path
    text: str
    tree: ast.Module
    _parents: dict[ast.AST, ast.AST] = field(default_factory=dict)

    @classmethod
    def parse(cls, path: Path, text: str) -> Source:
        """Parse a file's text.

        Raises:
            SyntaxError: it is no Python of this version.
            ValueError: it holds null bytes.
        """
        source = cls(path, text, ast.parse(text))
        for parent in ast.walk(source.tree):
            for child in ast.iter_child_nodes(parent):
                source._parents[child] = parent
        return source

    @property
    def is_notebook(self) -> bool:
        """Whether its classes are in cells, so that `__main__` is no file that workers could import."""
        return self.path.suffix == ".ipynb"

    @cached_property
    def imports(self) -> dict[str, str]:
        """Local name -> what it stands for, such as `np` -> `numpy`."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    module = "." * node.level + (node.module or "")
                    found[alias.asname or alias.name] = f"{module}.{alias.name}"
        return found

    @cached_property
    def datasets(self) -> list[DatasetClass]:
        """The classes of this file that a DataLoader could be made of."""
        classes = [node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef)]
        kinds: dict[str, str] = {}
        for _ in range(3):  # a base may be defined below, or be derived itself
            for node in classes:
                for base in node.bases:
                    kind = self._kind(base, kinds)
                    if kind:
                        kinds[node.name] = kind
        return [DatasetClass(node, kinds[node.name] == "iterable") for node in classes if node.name in kinds]

    def name_of(self, node: ast.expr) -> str:
        """Return the dotted name an expression stands for, imports resolved: `numpy.random.rand`, or ""."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        return ".".join([self.imports.get(node.id, node.id), *reversed(parts)])

    def calls(self, root: ast.AST) -> Iterator[tuple[ast.Call, str]]:
        """Yield the calls below a node with the dotted names of what they call."""
        for node in ast.walk(root):
            if isinstance(node, ast.Call):
                yield node, self.name_of(node.func)

    def loaders(self, root: ast.AST | None = None) -> Iterator[ast.Call]:
        """Yield the calls that make a DataLoader."""
        for call, name in self.calls(root or self.tree):
            if name.endswith("DataLoader") and self.imports_torch:
                yield call

    @cached_property
    def imports_torch(self) -> bool:
        """Whether the file uses torch, directly or through a library that is built on it."""
        return any(name.partition(".")[0] in _TORCH_ROOTS for name in self.imports.values())

    def parents(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield what a node stands in, from the inside out."""
        while node in self._parents:
            node = self._parents[node]
            yield node

    def function_around(self, node: ast.AST) -> ast.AST | None:
        """Return the innermost function that a node stands in; None at the top level or in a class body."""
        return next((parent for parent in self.parents(node) if isinstance(parent, _SCOPES)), None)

    def local_functions(self, node: ast.AST) -> set[str]:
        """Return the functions and lambdas that the functions around a node define."""
        names: set[str] = set()
        for scope in self.parents(node):
            if isinstance(scope, _FUNCTIONS):
                for part in ast.walk(scope):
                    if isinstance(part, _FUNCTIONS) and part is not scope and not self._is_method(part):
                        names.add(part.name)
                    elif isinstance(part, ast.Assign) and isinstance(part.value, ast.Lambda):
                        names |= {target.id for target in part.targets if isinstance(target, ast.Name)}
        return names

    def _is_method(self, function: Function) -> bool:
        return isinstance(self._parents[function], ast.ClassDef)

    def _kind(self, base: ast.expr, kinds: dict[str, str]) -> str:
        """Return `map` or `iterable` when a base makes a class a data set, else ""."""
        if isinstance(base, ast.Subscript):  # Dataset[Item]
            base = base.value
        name = self.name_of(base)
        last = name.rpartition(".")[2]
        if last in kinds:
            return kinds[last]
        is_torchs = name.partition(".")[0] in _TORCH_ROOTS
        if is_torchs and last.endswith(("IterableDataset", "IterDataPipe")):
            return "iterable"
        is_named = last.endswith("Dataset") or last in ("ImageFolder", "DatasetFolder", "MapDataPipe")
        # A base of the user's own, imported from elsewhere in the project.
        is_own = last == "VisionDataset" or (self.imports_torch and name.startswith((".", self._package)))
        return "map" if is_named and (is_torchs or is_own) else ""

    @property
    def _package(self) -> str:
        return f"{self.path.parent.name}."


def is_self_attribute(node: ast.AST) -> TypeGuard[ast.Attribute]:
    """Return whether a node is `self.NAME`."""
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return a call's argument by name."""
    return next((part.value for part in call.keywords if part.arg == name), None)


def has_workers(loader: ast.Call) -> bool:
    """Return whether a DataLoader is given workers: any number but a plain 0."""
    number = keyword(loader, "num_workers")
    return number is not None and not (isinstance(number, ast.Constant) and not number.value)


def self_assignments(function: Function) -> Iterator[tuple[str, ast.expr]]:
    """Yield what a method keeps: name of the attribute and the value, of `self.NAME = value`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        else:
            continue
        for target in targets:
            if is_self_attribute(target) and node.value is not None:
                yield target.attr, node.value
