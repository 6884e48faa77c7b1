"""Read from code: attributes that items read and other methods set, handles of classes, and `__del__`."""

from __future__ import annotations

import ast
import dis
import functools
import gc
import inspect
import re
import textwrap
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from dsrface.doctor.trace.kinds import CONTRACTS, handle_kind
from dsrface.doctor.trace.members import Member
from dsrface.doctor.trace.paths import class_line, locate
from dsrface.doctor.trace.pickling import trace
from dsrface.runtime.user_code import is_ordinary, is_users_definition, is_users_module

_READERS = ("__getitem__", "__getitems__", "__iter__", "__next__", "__call__", "forward")
_MAKERS = ("__init__", "__new__", "__setstate__", "__post_init__", "setup", *_READERS)
_DESTROYS = {"rmtree", "unlink", "remove", "rmdir", "removedirs", "cleanup", "truncate", "rename", "replace"}
_DEVICE = re.compile(r"cuda|device|accelerator")
_IN_PLACE = re.compile(
    r"append|extend|insert|update|setdefault|add|discard|remove|pop|popitem|clear|sort|reverse|fill|[a-z].*_"
)
_MOST_OBJECTS = 2000
_WALK_S = 1.0  # for what module variables hold
_CACHED = " (its cache)"
_CACHE = type(functools.lru_cache(lambda: None))


def epoch_setters(roots: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return what the main program would call or set between epochs, as paths such as `dataset.set_epoch`.

    These are methods called set_epoch, and members that a public method changes and that loading an item
    reads; those named for an epoch come first. Each with the names by which the main program changes it.
    """
    methods: dict[str, set[str]] = {}
    attributes: dict[str, set[str]] = {}
    numbers: set[str] = set()
    for path, owner in _objects(roots):
        if callable(getattr(type(owner), "set_epoch", None)):
            methods[f"{path}.set_epoch"] = {"set_epoch"}
        elif is_users_definition(type(owner)):
            read, called = _reached(type(owner), _READERS)
            _, made = _reached(type(owner), _MAKERS)
            called_before = {name for name in called | made if "epoch" not in name}
            set_later = _changed_by(type(owner), without=called_before)
            values = _values(owner)
            attributes |= {
                f"{path}.{name}": {name, *set_later.get(name, ())}
                for name, value in values.items()
                if name in read
                and _stays_in_workers(value)
                and (name in set_later or name in ("epoch", "_epoch"))
            }
            numbers |= {f"{path}.{name}" for name, value in values.items() if _is_number(value)}
    order = sorted(attributes, key=lambda path: ("epoch" not in path, path not in numbers))
    return {**methods, **{path: attributes[path] for path in order}}


def numbers_read(roots: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the numbers that loading an item reads, of members and modules, by path; each with its name."""
    found: dict[str, Any] = {}
    for path, owner in _objects(roots):
        if is_users_definition(type(owner)):
            read, _ = _reached(type(owner), _READERS)
            values = _values(owner)
            found |= {f"{path}.{name}": value for name, value in values.items() if name in read}
    for function in code_of_items(roots):
        found |= dict(_variables(function))
    return {path: {path.rpartition(".")[2]} for path, value in found.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return issubclass(type(value), (int, float))


def _stays_in_workers(value: Any) -> bool:
    """Return whether each worker has a copy of its own of a value that is there."""
    if value is None or not is_ordinary(value) or handle_kind(value):
        return False
    return not (type(value).__module__.startswith("multiprocessing") or getattr(value, "is_shared", bool)())


def read_by_items(roots: Mapping[str, Any]) -> set[str]:
    """Return the names of the attributes that loading an item reads, as far as the user's code shows it."""
    found = {name for cls in _users_classes(roots) for name in _reached(cls, _READERS)[0]}
    return found.union(*map(attributes_of, code_of_items(roots)))


def keyed_by_process(handles: list[Member], roots: Mapping[str, Any]) -> list[Member]:
    """Return the connections that each process makes for itself: items ask for its id.

    Files are none of them: whether workers share their position is seen, not read.
    """
    is_keyed = "getpid" in read_by_items(roots)
    return [member for member in handles if is_keyed and member.kind in CONTRACTS]


def held_by_code(roots: Mapping[str, Any]) -> list[Member]:
    """Return the handles that loading an item uses from a class or from a module, and no fork may carry.

    They are no members of the data set: the pickler passes them by, and a forked worker inherits them.
    """
    held: dict[str, tuple[Any, str]] = {}  # by path: the value, and where it is set or used
    for path, owner in _objects(roots):
        cls = type(owner)
        if is_users_definition(cls):
            read, _ = _reached(cls, _READERS)
            for name, value in _class_values(cls).items():
                if name in read and name not in vars(owner):
                    held[f"{path}.{name}"] = value, class_line(cls, name)
    for function in code_of_items(roots):
        for path, value in _variables(function):
            held.setdefault(path, (value, locate(function, "", function)))
    plain = (type, FunctionType, ModuleType)
    values = {
        path: value
        for path, (value, _) in held.items()
        if is_ordinary(value) and not isinstance(value, plain)
    }
    found = [member for member in trace(values, deadline_s=_WALK_S).handles if member.kind in CONTRACTS]
    for member in found:
        path = max((path for path in values if member.path.startswith(path)), key=len)
        member.source, member.is_hidden = member.source or held[path][1], True
        member.path = path if path.endswith(_CACHED) else member.path
    return found


def _users_classes(roots: Mapping[str, Any]) -> list[type]:
    """Return the user's classes among the data set and what it holds."""
    return [type(owner) for _, owner in _objects(roots) if is_users_definition(type(owner))]


def code_of_items(roots: Mapping[str, Any]) -> list[FunctionType]:
    """Return the user's functions that loading an item runs: methods, and functions and methods that these
    name, in other modules of the user's too.
    """
    todo = [root for root in roots.values() if type(root) is FunctionType]
    for cls in _users_classes(roots):
        todo += filter(None, (_function(cls, name) for name in _reached(cls, _READERS)[1]))
    found: dict[CodeType, FunctionType] = {}
    while todo and len(found) < _MOST_OBJECTS:
        function = todo.pop()
        if function.__code__ in found or not is_users_definition(function):
            continue
        found[function.__code__] = function
        for _, value in _variables(function):
            if type(value) is FunctionType:
                todo.append(value)
            elif is_ordinary(value) and is_users_definition(type(value)):
                todo += filter(None, (_function(type(value), name) for name in attributes_of(function)))
    return list(found.values())


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield path and value of the module variables that a function names; of one whose results are kept
    (`lru_cache`), the results too.
    """
    for name in _globals_of(function):
        value: Any = function.__globals__.get(name)
        if issubclass(type(value), ModuleType) and is_users_module(value):
            names = attributes_of(function) & vars(value).keys()
            found = [(f"{value.__name__}.{part}", vars(value)[part]) for part in names]
        else:
            found = [(f"{function.__module__}.{name}", value)]
        for path, variable in found:
            yield path, inspect.unwrap(variable) if type(variable) is _CACHE else variable
            if type(variable) is _CACHE:
                yield f"{path}{_CACHED}", _results_of(variable)


def mentions_device(roots: Mapping[str, Any]) -> bool:
    """Return whether the user's classes name a device, to which they may move what they hold."""
    return any(_DEVICE.search(_text_of(cls)) for cls in _users_classes(roots))


def _text_of(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return ""


def finalizers(roots: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the paths of members whose class has `__del__`, and of those among them that remove files."""
    found, removing = [], []
    for path, owner in _objects(roots):
        method = getattr(type(owner), "__del__", None)
        if isinstance(method, FunctionType) and is_users_definition(type(owner)):
            place = f"{path}.__del__ ({locate(owner, '__del__', method)})"
            found.append(place)
            names = _reached(type(owner), ("__del__",))[0] | set(method.__code__.co_names)
            if names & _DESTROYS and "getpid" not in names:  # who asks for it acts in one process only
                removing.append(place)
    return found, removing


def _objects(roots: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the roots and the objects that they hold as attributes or in short lists."""
    queue = deque((name, root) for name, root in roots.items() if root is not None)
    seen: set[int] = set()
    while queue and len(seen) < _MOST_OBJECTS:
        path, owner = queue.popleft()
        if id(owner) in seen or not is_ordinary(owner):
            continue
        seen.add(id(owner))
        if hasattr(owner, "__dict__") and not isinstance(owner, (type, FunctionType)):
            yield path, owner
            queue.extend((f"{path}.{name}", value) for name, value in list(vars(owner).items()))
        elif isinstance(owner, (list, tuple)) and len(owner) < 100:
            queue.extend((f"{path}[{number}]", value) for number, value in enumerate(owner))


def _reached(cls: type, names: tuple[str, ...]) -> tuple[set[str], set[str]]:
    """Return the attributes that methods load, followed through the class's own methods; and these."""
    todo, done = list(names), set()
    found: set[str] = set()
    while todo:
        name = todo.pop()
        function = _function(cls, name)
        if name in done or function is None:
            continue
        done.add(name)
        for instruction in dis.get_instructions(function.__code__):
            if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
                found.add(str(instruction.argval))
                todo.append(str(instruction.argval))
    return found, done


def _function(cls: type, name: str) -> FunctionType | None:
    """Return the function behind a method or a property of a class; None for anything else."""
    method = getattr(cls, name, None)
    method = method.fget if isinstance(method, property) else method
    method = getattr(method, "__func__", method)
    return method if isinstance(method, FunctionType) else None


def _globals_of(function: FunctionType) -> set[str]:
    """Return the names of the module's variables that a function reads."""
    instructions = dis.get_instructions(function.__code__)
    return {str(i.argval) for i in instructions if i.opname == "LOAD_GLOBAL"}


def _results_of(cached: Any) -> list[Any]:
    """Return what a function with `lru_cache` keeps."""
    parts = gc.get_referents(cached)
    return [*parts, *(value for part in parts if type(part) is dict for value in part.values())]


def attributes_of(function: FunctionType) -> set[str]:
    """Return the names of the attributes that a function reads, of whatever."""
    instructions = dis.get_instructions(function.__code__)
    return {str(i.argval) for i in instructions if i.opname in ("LOAD_ATTR", "LOAD_METHOD")}


def _values(owner: Any) -> dict[str, Any]:
    """Return what an object holds, and what it has of its class."""
    return {**_class_values(type(owner)), **vars(owner)}


def _class_values(cls: type) -> dict[str, Any]:
    """Return what a class and its bases of the user's hold, those of the class last."""
    bases = [base for base in reversed(cls.__mro__) if is_users_definition(base)]
    return {name: value for base in bases for name, value in vars(base).items()}


def _changed_by(cls: type, *, without: set[str]) -> dict[str, set[str]]:
    """Return the attributes that a class's public methods store or change in place, each with these methods;
    some methods left out.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for base in cls.__mro__[:-1]:
        public = {
            name: value.fset if isinstance(value, property) else value
            for name, value in vars(base).items()
            if name not in without
            and not name.startswith("_")
            and isinstance(value, (FunctionType, property))
        }
        for name, function in public.items():
            code = getattr(function, "__code__", None)
            if code is not None:
                for instruction in dis.get_instructions(code):
                    if instruction.opname == "STORE_ATTR":
                        found[str(instruction.argval)].add(name)
        if public and is_users_definition(base):
            for method in _methods_of(base):
                if method.name in public:
                    for name in _changed_in_place(method):
                        found[name].add(method.name)
    return found


def _methods_of(cls: type) -> list[ast.FunctionDef]:
    """Return the functions in a class's source; none where it cannot be had."""
    try:
        tree = ast.parse(textwrap.dedent(_text_of(cls)))
    except SyntaxError:  # the file was edited since
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _changed_in_place(method: ast.FunctionDef) -> Iterator[str]:
    """Yield x where a method has `self.x[i] = 1`, `self.x.fill_(1)` or `random.shuffle(self.x)`."""
    for node in ast.walk(method):
        changed: list[ast.expr] = []
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = [node.value]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if _IN_PLACE.fullmatch(node.func.attr):
                changed = [node.func.value]
            elif node.func.attr == "shuffle":
                changed = node.args[:1]
        while changed and isinstance(changed[0], ast.Subscript):
            changed = [changed[0].value]
        yield from (value.attr for value in changed if isinstance(value, ast.Attribute))
