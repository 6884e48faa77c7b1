"""Whose a photo is, by a folder level, by the name, by a pattern or by a list; and its given split."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsrface.data.formats.lists import read_file_list, split_folders, split_of_word
from dsrface.errors import DataError, UsageError
from dsrface.runtime.text import count_text


@dataclass(frozen=True)
class Attribution:
    """What a photo's name says.

    Args:
        person: Name of the person as it stands there.
        place: Where the person's folder is; empty without one.
        stem: Name of the photo without suffix, unique within its person's folder.
        conditions: Further named groups of a pattern, e.g. camera and distance.
    """

    person: str
    place: str
    stem: str
    conditions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PersonRule:
    """How persons are known.

    Args:
        text: The rule in words.
        tell: What a file's name says; None when it says nothing.
        why_not: Why a file's name says nothing, in words.
        is_flat: Whether the person is the text before the first underscore.
    """

    text: str
    tell: Callable[[str], Attribution | None]
    why_not: str
    is_flat: bool = False


@dataclass(frozen=True)
class SplitRule:
    """Which split the user has given a photo.

    Args:
        text: The rule in words; empty when splits are not given.
        split: The split of a file; None when it has none.
        num_folders: Leading folders of each name that are splits, not persons.
    """

    text: str
    split: Callable[[str], str | None]
    num_folders: int = 0


def choose_person_rule(persons: str, files: Sequence[str], *, num_skipped: int = 0) -> PersonRule:
    """Return the rule that a user asks for.

    Args:
        persons: `auto`; a folder level, 1 being the uppermost; a regular expression with `(?P<person>...)`,
            looked for in the path; or a list file of an image and a person a line.
        files: Names of all photos.
        num_skipped: Leading folders that are splits.

    Raises:
        UsageError: none of these.
        DataError: the list cannot be read.
    """
    if persons == "auto":
        levels = Counter(file.count("/") for file in files if file.count("/") > num_skipped)
        return _level_rule(min(levels, key=lambda item: (-levels[item], item)) if levels else 0)
    if persons.isdecimal() and int(persons) > 0:
        return _level_rule(int(persons))
    if "(?P<person>" in persons:
        return _pattern_rule(persons)
    if Path(persons).is_file():
        return _list_rule(Path(persons), files)
    raise UsageError(
        f"--persons {persons!r} is no folder level, no pattern with (?P<person>...) and no list file.",
        id="bad-persons",
        hint="E.g. --persons 2, --persons '(?P<person>\\d+)_cam', or --persons identity.txt.",
    )


def without_persons(persons: str, files: Sequence[str], *, num_skipped: int = 0) -> str:
    """Return a line about the automatic rule, where that knows several persons; else an empty text.

    Args:
        persons: What a user asked for instead.
        files: As of `choose_person_rule`.
        num_skipped: As there.
    """
    rule = choose_person_rule("auto", files, num_skipped=num_skipped)
    found = {told.person for file in files if (told := rule.tell(file)) is not None}
    if persons == "auto" or rule.is_flat or len(found) < 2:
        return ""
    return f"Leave out --persons: {rule.text} are known without it."


def choose_split_rule(split_from: str, files: Sequence[str]) -> SplitRule:
    """Return where given splits come from.

    Args:
        split_from: `auto`: the top folders, when they are all called train, val or test; `none`; or a list
            file of an image and a split (0, 1, 2 or train, val, test) a line.
        files: Names of all photos.

    Raises:
        DataError: the list cannot be read, or names something that is no split.
    """
    if split_from == "none":
        return SplitRule("", lambda _: None)
    if split_from != "auto":
        return _split_list(Path(split_from), files)
    folders = split_folders(files)
    if not folders:
        return SplitRule("", lambda _: None)
    text = f"kept, the folders {', '.join(sorted(folders))} (--split-from none divides the persons instead)"
    return SplitRule(text, lambda file: folders[file.partition("/")[0]], num_folders=1)


def _level_rule(level: int) -> PersonRule:
    if level == 0:
        return PersonRule(
            "the name up to the first underscore", _tell_flat, "has no underscore in its name", is_flat=True
        )

    def tell(file: str) -> Attribution | None:
        *folders, name = file.split("/")
        if len(folders) < level:
            return None
        stem = _stem("_".join([*folders[level:], name]))
        return Attribution(folders[level - 1], "/".join(folders[: level - 1]), stem)

    why_not = f"is in no person's folder (persons are the folders of level {level})"
    return PersonRule(f"folders of level {level}", tell, why_not)


def doubt_of_level(found: Sequence[Attribution]) -> str:
    """Return what to try where folders look like poses or sessions of persons above them, or empty."""
    names, places = {item.person for item in found}, {item.place for item in found}
    num_folders = len({(item.place, item.person) for item in found})
    if "" in places or len(places) <= len(names) or num_folders < 2 * len(names):
        return ""
    return (
        f"{len(places)} folders hold folders of the same {count_text(len(names), 'name')}, e.g. "
        f"{min(names)!r}: if the folders above them are the persons, --persons {min(places).count('/') + 1}"
    )


def _tell_flat(file: str) -> Attribution | None:
    name = file.rpartition("/")[2]
    person, underscore, _ = name.partition("_")
    return Attribution(person, "", _stem(name)) if person and underscore else None


def _pattern_rule(pattern: str) -> PersonRule:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"--persons {pattern!r} is no regular expression: {error}.", id="bad-persons"
        ) from None

    def tell(file: str) -> Attribution | None:
        match = compiled.search(file)
        if match is None or not match["person"]:
            return None
        groups = match.groupdict()
        conditions = tuple((name, groups[name] or "") for name in groups if name != "person")
        return Attribution(match["person"], "", _stem(file.replace("/", "_")), conditions)

    return PersonRule(f"the pattern {pattern}", tell, f"does not fit the pattern {pattern}")


def _list_rule(path: Path, files: Sequence[str]) -> PersonRule:
    table = read_file_list(path, what="person")
    persons = table.of(files)

    def tell(file: str) -> Attribution | None:
        person = persons.get(file)
        return None if person is None else Attribution(person, "", _stem(file.replace("/", "_")))

    return PersonRule(
        f"the list {path.name} of {count_text(len(table), 'image')}",
        tell,
        f"is not in {path.name}, which has {table.example!r}",
    )


def _split_list(path: Path, files: Sequence[str]) -> SplitRule:
    table = read_file_list(path, what="split")
    words, photos = table.of(files), set(files)
    unknown = sorted({word for word in table.values() if split_of_word(word) is None})
    if unknown:
        raise DataError(
            f"{unknown[0]!r} is no split.",
            id="bad-list-file",
            where=path,
            hint="A split is called 0, 1, 2 or train, val, test.",
        )

    def split(name: str) -> str | None:
        word = words.get(name) if name in photos else table.get(name)  # a list may name persons
        return None if word is None else split_of_word(word)

    return SplitRule(f"kept, as {path.name} has it", split)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
