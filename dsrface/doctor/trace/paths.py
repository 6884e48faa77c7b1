"""Turn the pickler's stack of objects into the path a user would write, and find its source line."""

from __future__ import annotations

import collections
import functools
import inspect
import linecache
import re
import types
from typing import Any

from dsrface.runtime.user_code import is_users_definition, short_path

_HIDDEN = re.compile(r"\._(?:modules|parameters|buffers)\[(?:'([^']*)'|(\d+))\]")
_lines: dict[tuple[Any, str | None], str] = {}
_TRANSPARENT = ("builtins", "collections", "functools", "types")  # a user fills these, attribute by attribute
_FUNCTION_PARTS = ("func", "args", "keywords", "default_factory", "__func__", "__self__", "__wrapped__")


def render(root: str, stack: list[Any]) -> tuple[str, Any, str]:
    """Return the path of the stack's last object, and the owner and attribute name on the way to it: the last
    of the user's own classes, for a line in a library says little, or else the last of all.

    The pickler also passes through objects that no path can name (a state dict, the tuple of a reducer); they
    are transparent: what comes below is looked for in the last owner first, then in them.
    """
    path, owner, name = root, stack[0], ""
    holder: Any = owner
    via: Any = None
    for obj in stack[1:]:
        step = step_to(owner, obj)
        if step is None and via is not None:
            step = step_to(via, obj)
            if step is not None and isinstance(via, dict) and step.startswith("['"):
                step = f".{step[2:-2]}"  # a key of the state is an attribute of the owner
            elif step is not None and isinstance(via, (tuple, list)):
                step = None
        if step is None:
            if _is_state(owner, obj):
                via = obj
            elif isinstance(obj, type) or not isinstance(obj, (dict, tuple, list)):
                via = None
                owner = obj if not isinstance(obj, type) else owner
            continue
        path += step
        is_attribute = step.startswith(".") and not isinstance(owner, tuple)
        if is_attribute and (is_users_definition(type(owner)) or not is_users_definition(type(holder))):
            holder, name = owner, step[1:]
        owner, via = obj, None
    return _HIDDEN.sub(lambda match: f".{match.group(1) or match.group(2)}", path), holder, name


def down_to_held(stack: list[Any]) -> list[Any]:
    """Return the stack down to the object that the user's own code holds and can replace.

    Whoever keeps a thread pool can drop the pool, not the seven locks inside it. What a library's object was
    given in a public list, e.g. a transform of a Compose, is the user's again.
    """
    last = stack[-1]
    if len(stack) < 2 or (is_definition(last) and is_users_definition(last)):
        return stack
    first = max((i for i, obj in enumerate(stack) if is_users_definition(type(obj))), default=0) + 1
    held, given = 0, False
    for index in range(first, len(stack)):
        obj = stack[index]
        if isinstance(obj, (list, tuple)) and held:
            step = step_to(stack[held], obj) or ""
            given = given or (step.startswith(".") and not step.startswith("._"))
        elif not (is_definition(obj) or type(obj).__module__ in _TRANSPARENT):
            if held and not given and not _is_child(stack[held], obj):
                break
            held, given = index, False
    return stack[: held + 1] if held else stack


def is_definition(obj: Any) -> bool:
    """Return whether an object is a class or a function, and no instance that merely has a name."""
    return isinstance(obj, (type, types.FunctionType, types.MethodType))


def _is_child(owner: Any, obj: Any) -> bool:
    """Return whether a network holds another one."""
    return any(value is obj for value in getattr(owner, "_modules", {}).values())


def locate(owner: Any, name: str, obj: Any) -> str:
    """Return `file:line` of a function, or of the assignment `self.<name> =` in the owner's class, or ""."""
    function = inspect.unwrap(obj) if inspect.isfunction(obj) else getattr(obj, "__func__", None)
    code = getattr(function, "__code__", None)
    if code is not None:
        return f"{short_path(code.co_filename)}:{code.co_firstlineno}"
    if isinstance(obj, type):
        return class_line(obj, None)
    if name.isidentifier():
        for cls in type(owner).__mro__[:-1]:
            line = class_line(cls, name)
            if line:
                return line
    return class_line(type(owner), None) if type(owner).__module__ != "builtins" else ""


def step_to(owner: Any, obj: Any) -> str | None:
    """Return what leads from an owner to an object that it holds, e.g. `.name` or `[0]`, or None."""
    if isinstance(owner, dict):
        for key, value in owner.items():
            if value is obj:
                return f"[{_key(key)}]"
    elif isinstance(owner, (list, tuple, collections.deque)):
        names = getattr(owner, "_fields", None)
        for index, value in enumerate(owner):
            if value is obj:
                return f".{names[index]}" if names else f"[{index}]"
    elif isinstance(owner, (set, frozenset)) and any(value is obj for value in owner):
        return "{...}"
    own = getattr(owner, "__dict__", None)
    if isinstance(own, dict) and not isinstance(owner, type):
        for key, value in own.items():
            if value is obj:
                return f".{key}"
    for attribute in (*slots_of(type(owner)), *_parts(owner)):
        if _quiet_getattr(owner, attribute) is obj:
            return f".{attribute}"
    return None


def _parts(owner: Any) -> tuple[str, ...]:
    is_wrapper = isinstance(owner, (functools.partial, collections.defaultdict)) or inspect.ismethod(owner)
    return _FUNCTION_PARTS if is_wrapper else ()


def slots_of(cls: type) -> list[str]:
    """Return the names of the attributes that a class keeps in slots."""
    names: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else [slot for slot in slots if isinstance(slot, str)]
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _is_state(owner: Any, obj: Any) -> bool:
    return isinstance(obj, (dict, tuple, list)) and obj is not owner


def _quiet_getattr(owner: Any, name: str) -> Any:
    try:
        return getattr(owner, name, None)
    except Exception:  # noqa: BLE001 - a property that raises is not a member
        return None


def _key(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 40 else f"{text[:37]}..."


def class_line(cls: Any, attribute: str | None) -> str:
    """Return `file:line` of a class, or of the assignment of its attribute.

    Each is looked up once: reading its source takes milliseconds, and a tree of modules asks often.
    """
    key = (cls, attribute)
    if key not in _lines:
        _lines[key] = _find_line(cls, attribute)
    return _lines[key]


def _find_line(cls: Any, attribute: str | None) -> str:
    lines, first, file = _source(cls)
    if not file:
        return ""
    if attribute is None:
        return f"{short_path(file)}:{first}"
    assignment = re.compile(
        rf"\b(?:self|cls|{cls.__name__})\.{re.escape(attribute)}\s*(?::[^=]+)?=[^=]|^\s*{re.escape(attribute)}\s*[:=]"
    )
    for offset, line in enumerate(lines):
        if assignment.search(line):
            return f"{short_path(file)}:{first + offset}"
    return ""


def _source(cls: Any) -> tuple[list[str], int, str]:
    """Return the lines of a class, the number of the first, and the file; "" where there is none."""
    try:
        lines, first = inspect.getsourcelines(cls)
        return lines, first, inspect.getsourcefile(cls) or ""
    except (OSError, TypeError):
        pass
    for value in vars(cls).values():  # a class of a notebook has no file, its methods name their cell
        file = getattr(getattr(value, "__code__", None), "co_filename", "")
        lines = linecache.getlines(file) if file else []
        for number, line in enumerate(lines, 1):
            if re.match(rf"class\s+{re.escape(cls.__name__)}\b", line):
                return inspect.getblock(lines[number - 1 :]), number, file
    return [], 0, ""
