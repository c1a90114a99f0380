"""Case files: where they are, what stands in them, and what a user changes on the way.

This module knows TOML, places and problems; what the keys mean stands in the ``inputs.py`` of the
technology that owns the kind.
"""

from __future__ import annotations

import filecmp
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepmodel import data
from sepmodel.errors import InputError, Problem
from sepmodel.fields import meant

FOLDERS = ("cases", "designs", "fits", "routes", "studies", "sweeps")
_LONGEST_VALUE = 10_000
_DEEPEST = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Located:
    """A case file that was found, and the shipped file it stands in front of, if any."""

    path: Path
    shadows: Path | None = None


def locate(name: str | Path) -> Located:
    """The file of a case: as a path, else in ``./models``, else among the shipped models.

    Raises
    ------
    InputError
        naming the nearest names when there is no such case.
    """
    text = str(name)
    given = Path(text)
    if _is_file(given):
        return Located(path=given)
    found = [path for root in data.roots() for path in _candidates(root, text) if _is_file(path)]
    if found:
        return Located(path=found[0], shadows=found[1] if len(found) > 1 else None)
    if _exists(given):
        raise InputError(
            Problem(message="not a regular file", file=text, expected="a case file (TOML)")
        )
    raise InputError(
        Problem(
            message=f"no such case{meant(text.removesuffix('.toml'), sorted(names()), 3)}",
            value=text,
            expected="the path of a case file, or the name of one in the models folders",
        )
    )


def _candidates(root: Path, text: str) -> Iterator[Path]:
    if ".." in Path(text).parts or Path(text).is_absolute():
        return
    stem = text if text.endswith(".toml") else f"{text}.toml"
    yield root / stem
    for folder in FOLDERS:
        yield root / folder / stem


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def names() -> dict[str, Path]:
    """Every case, route and study of the models folders by name; the user's stand in front."""
    found: dict[str, Path] = {}
    for root in reversed(data.roots()):
        for folder in FOLDERS:
            for path in sorted((root / folder).glob("**/*.toml")):
                found[path.relative_to(root / folder).with_suffix("").as_posix()] = path
    return dict(sorted(found.items()))


def shadowed() -> dict[Path, Path]:
    """The user's model files that stand in front of other shipped ones: theirs -> ours.

    Copies of what is shipped, as in a checkout beside an installation, change nothing.
    """
    own, *shipped = data.roots()
    if not shipped:
        return {}
    pairs = ((path, shipped[0] / path.relative_to(own)) for path in sorted(own.rglob("*.*")))
    return {
        mine: ours
        for mine, ours in pairs
        if mine.is_file()
        and ours.is_file()
        and mine != own / "sources.toml"  # which only adds
        and not alike(mine, ours)
    }


def alike(mine: Path, ours: Path) -> bool:
    """Whether two files say the same; one that cannot be read does not."""
    try:
        return filecmp.cmp(mine, ours, shallow=False)
    except OSError:
        return False


def read(path: Path) -> dict[str, Any]:
    """The tables of a case file; InputError when it is no usable TOML."""
    document = data.read_toml(path)
    if deepest := _too_deep(document):
        raise InputError(
            Problem(
                message="nested too deeply",
                file=str(path),
                key=deepest,
                expected=f"at most {_DEEPEST} levels",
            )
        )
    return document


def _too_deep(document: Any) -> str:
    """Key of the first table or list beyond the deepest allowed level, else empty."""
    stack: list[tuple[Any, str, int]] = [(document, "", 0)]
    while stack:
        value, key, depth = stack.pop()
        if depth > _DEEPEST:
            return key.split(".")[1]
        if isinstance(value, dict):
            stack.extend((member, f"{key}.{name}", depth + 1) for name, member in value.items())
        elif isinstance(value, list):
            stack.extend((member, f"{key}.{i}", depth + 1) for i, member in enumerate(value))
    return ""


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """``path=value`` texts as a dictionary; a value is TOML, or else plain text.

    >>> parse_settings(["stages=3", "inlet.feed.flow=6 L/h", 'name="x"'])
    {'stages': 3, 'inlet.feed.flow': '6 L/h', 'name': 'x'}
    """
    parsed: dict[str, Any] = {}
    wrong = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not (equals and path.strip()):
            wrong.append(
                Problem(message="not a setting", file="--set", value=setting, expected="path=value")
            )
            continue
        parsed[path.strip()] = toml_value(text)
    if wrong:
        raise InputError(wrong)
    return parsed


def toml_value(text: str) -> Any:
    """One TOML value, or the text itself where it is none (so that quotes may be left out)."""
    text = text.strip()
    if len(text) > _LONGEST_VALUE:
        return text
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return document["value"] if set(document) == {"value"} else text


def override(
    document: Mapping[str, Any], settings: Mapping[str, Any], *, file: str = "--set"
) -> dict[str, Any]:
    """A copy of a case's tables with values replaced; the original stays as it is.

    A path names tables by key and members of a list by index or by their ``name`` or ``id``:
    ``section.extraction.stages``.

    Raises
    ------
    InputError
        for every path that leads nowhere.

    >>> override({"inlet": [{"name": "feed", "flow": "1 L/h"}]}, {"inlet.feed.flow": "2 L/h"})
    {'inlet': [{'name': 'feed', 'flow': '2 L/h'}]}
    """
    changed: dict[str, Any] = deepcopy(dict(document))
    wrong = []
    for path, value in settings.items():
        try:
            _set(changed, path.split("."), value)
        except ValueError as error:
            wrong.append(
                Problem(message=str(error), file=file, key=path, expected="a path in the case")
            )
    if wrong:
        raise InputError(wrong)
    return changed


def _set(table: Any, parts: Sequence[str], value: Any) -> None:
    part, *rest = parts
    if not part:
        raise ValueError("an empty part in the path")
    if len(parts) > _DEEPEST:
        raise ValueError("the path is too long")
    if isinstance(table, list):
        place = _place(table, part)
        if rest:
            _set(table[place], rest, value)
        else:
            table[place] = value
    elif isinstance(table, dict):
        if rest:
            _set(table.setdefault(part, {}), rest, value)
        else:
            table[part] = value
    else:
        raise ValueError(f"{part!r} lies inside a single value")


def numbered(document: Any, path: str) -> str:
    """A path with the members of lists by index, as problems name them.

    >>> numbered({"inlet": [{"name": "feed", "flow": "1 L/h"}]}, "inlet.feed.flow")
    'inlet.0.flow'
    """
    parts = []
    for part in path.split("."):
        here: Any = part
        try:
            here = _place(document, part) if isinstance(document, list) else part
            document = document[here]
        except (ValueError, LookupError, TypeError):  # replaced by another setting
            document = None
        parts.append(str(here))
    return ".".join(parts)


def named(document: Any, path: str) -> str:
    """A path with the members of lists by their names, as settings give them.

    >>> named({"inlet": [{"name": "feed", "flow": "1 L/h"}]}, "inlet.0.flow")
    'inlet.feed.flow'
    """
    parts = []
    for part in path.split("."):
        here = part
        try:
            if isinstance(document, list):
                member = document[_place(document, part)]
                name = _name_of(member)
                alone = [_name_of(other) for other in document].count(name) == 1
                document, here = member, name if name and alone else part
            else:
                document = document[part]
        except (ValueError, LookupError, TypeError):  # what is missing, or named already
            document = None
        parts.append(here)
    return ".".join(parts)


def _name_of(member: Any) -> str:
    """A list's member's name, where it can stand in a path."""
    name = member.get("name", member.get("id")) if isinstance(member, dict) else None
    return name if isinstance(name, str) and not {".", " "} & set(name) else ""


def value_at(document: Any, path: str) -> Any:
    """What stands at a path of a case's tables; None where nothing does.

    >>> value_at({"inlet": [{"name": "feed", "flow": "1 L/h"}]}, "inlet.feed.flow")
    '1 L/h'
    """
    for part in path.split("."):
        try:
            document = document[_place(document, part) if isinstance(document, list) else part]
        except (ValueError, LookupError, TypeError):
            return None
    return document


def _place(members: list[Any], part: str) -> int:
    """Index of a list's member given as index, name or id."""
    if part.isdecimal() and len(part) < 10:
        if int(part) < len(members):
            return int(part)
        raise ValueError(f"there are {len(members)} of these, counted from 0; {part} is not one")
    named = [
        i
        for i, member in enumerate(members)
        if isinstance(member, dict) and part in (member.get("name"), member.get("id"))
    ]
    if len(named) != 1:
        known = [m.get("name", m.get("id")) for m in members if isinstance(m, dict)]
        raise ValueError(f"{len(named)} members are called {part!r}; there are {known}")
    return named[0]
