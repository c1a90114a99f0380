"""Who said what: the shipped numbers by source, one source in full, what a computation rests on.

Each question has one function that returns plain data (for JSON) and one that returns lines of
text no wider than ``width``.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from sepmodel import data
from sepmodel.data import CLASSES, Constant, Source
from sepmodel.errors import InputError, Problem

WIDTH = 80  # columns of a terminal
_LETTERS = {"measured": "m", "reference": "r", "derived": "d", "estimated": "e"}


def all_constants() -> dict[str, Constant]:
    """Every constant of every data set and feed by key, the user's own included."""
    return {c.key: c for set_id in data.set_ids() for c in data.load_set(set_id).values()}


def counts(constants: Iterable[Constant]) -> dict[str, int]:
    """How many constants of each class.

    >>> counts(data.load_set("elements").values())["estimated"]
    0
    """
    classes = [constant.provenance for constant in constants]
    return {name: classes.count(name) for name in CLASSES}


def by_source(constants: Iterable[Constant]) -> dict[str, list[Constant]]:
    """Constants grouped by the key of their source, sources in alphabetical order."""
    grouped: dict[str, list[Constant]] = {}
    for constant in constants:
        grouped.setdefault(constant.source, []).append(constant)
    return dict(sorted(grouped.items()))


def overview() -> list[dict[str, Any]]:
    """Every source: key, citation, how it was read, and how many numbers of each class it gave."""
    members = by_source(all_constants().values())
    return [
        {
            "key": source.key,
            "citation": source.citation,
            "doi": source.doi,
            "read": source.read,
            "numbers": counts(members.get(source.key, [])),
        }
        for source in sorted(data.sources().values(), key=lambda s: s.key)
    ]


def source_document(key: str) -> dict[str, Any]:
    """One source in full: citation, doi, licence, notice, and every number taken from it.

    Raises
    ------
    InputError
        naming the nearest keys when there is no such source.
    """
    source = _source(key)
    numbers = by_source(all_constants().values()).get(key, [])
    return {
        **{name: getattr(source, name) for name in ("key", "citation", "doi", "licence", "notice")},
        "read": source.read,
        "classes": counts(numbers),
        "numbers": [number_document(c) for c in numbers],
    }


def set_document(set_id: str) -> dict[str, Any]:
    """One data set or feed: what it says of itself and every number with its provenance."""
    numbers = data.load_set(set_id)
    return {
        "key": set_id,
        "about": data.set_meta(set_id),
        "classes": counts(numbers.values()),
        "numbers": [number_document(c) for c in numbers.values()],
    }


def number_document(constant: Constant) -> dict[str, Any]:
    """A constant with its provenance as plain data, value and range in its published unit."""
    names = ("key", "value", "unit", "low", "high", "distribution", "basis", "source", "locator")
    return {
        **{name: getattr(constant, name) for name in names},
        "conditions": constant.conditions,
        "class": constant.provenance,
        "secondary": constant.secondary,
        "note": constant.note,
    }


def used_document(used: Mapping[str, Constant]) -> dict[str, Any]:
    """What a computation rests on: numbers per class, the share estimated, the numbers by source.

    ``used`` is the record of a Book or of a result.
    """
    total, classes = len(used), counts(used.values())
    return {
        "count": total,
        "classes": classes,
        "estimated_share": classes["estimated"] / total if total else 0.0,
        "secondary": sum(c.secondary for c in used.values()),
        "sources": [
            {
                "key": key,
                "citation": _source(key).citation,
                "classes": counts(numbers),
                "numbers": [number_document(c) for c in numbers],
            }
            for key, numbers in by_source(used.values()).items()
        ],
    }


def overview_lines(width: int = WIDTH) -> list[str]:
    """The table of all sources that gave at least one number, as text."""
    rows = overview()
    given = [row for row in rows if sum(row["numbers"].values())]
    total = {name: sum(row["numbers"][name] for row in given) for name in CLASSES}
    head = "".join(f"{_LETTERS[name]:>5}" for name in CLASSES)
    said = f"{sum(total.values())} numbers from {len(given)} sources: {_tally(total)}"
    lines = [*_wrap(said, width), "", f"{'source':<24}{head}  what"]
    for row in given:
        cells = "".join(f"{row['numbers'][name] or '':>5}" for name in CLASSES)
        lines.append(_cut(f"{row['key']:<24}{cells}  {row['citation']}", width))
    silent = [row["key"] for row in rows if not sum(row["numbers"].values())]
    lines += ["", "m measured, r reference, d derived, e estimated"]
    lines += _wrap("cited without a number: " + ", ".join(silent), width, "  ") if silent else []
    return lines


def source_lines(key: str, width: int = WIDTH) -> list[str]:
    """One source in full as text: who, under which licence, and every number with its place."""
    found = source_document(key)
    lines = [key]
    lines += _wrap(found["citation"], width, "  ", "  ")
    for name in ("doi", "licence", "read"):
        if found[name]:
            lines += _wrap(f"{name}: {found[name]}", width, "    ", "  ")
    if found["notice"]:
        lines += ["  notice:", *_wrap(found["notice"], width, "    ", "    ")]
    lines += ["", f"{_count(len(found['numbers']), 'number')}: {_tally(found['classes'])}"]
    return lines + _numbers(found["numbers"], width)


def set_lines(set_id: str, width: int = WIDTH) -> list[str]:
    """One data set or feed as text: what it says of itself and every number with its origin."""
    meta, numbers = data.set_meta(set_id), data.load_set(set_id)
    lines = _wrap(f"{set_id}: {meta.get('title', '')}".rstrip(": "), width)
    if meta.get("notes"):
        lines += _wrap(str(meta["notes"]), width, "  ", "  ")
    lines += ["", f"{_count(len(numbers), 'number')}: {_tally(counts(numbers.values()))}"]
    return lines + _numbers([number_document(c) for c in numbers.values()], width, source=True)


def used_lines(used: Mapping[str, Constant], width: int = WIDTH) -> list[str]:
    """What a computation rests on as text, source by source, with the share that is estimated."""
    found = used_document(used)
    lines = _wrap(
        f"{_count(found['count'], 'number')} from {_count(len(found['sources']), 'source')}: "
        f"{_tally(found['classes'])}; {found['estimated_share']:.0%} are estimates",
        width,
    )
    if found["secondary"]:
        lines += _wrap(f"{found['secondary']} were read in a secondary source", width)
    for source in found["sources"]:
        lines += ["", _cut(f"{source['key']}  ({_tally(source['classes'])})", width)]
        lines += _wrap(source["citation"], width, "  ", "  ")
        for number in source["numbers"]:
            lines += _number_line(number, width)
    return lines


def lines(key: str, width: int = WIDTH) -> list[str]:
    """A source by its key, a data set by its id, or a feed by its name, as text.

    Raises
    ------
    InputError
        naming the nearest when there is none of that name.
    """
    kind, where = _find(key)
    if kind == "source":
        return source_lines(where, width)
    if kind == "set":
        return set_lines(where, width)
    return _numbers([document(key)], width, source=True)


def document(key: str) -> dict[str, Any]:
    """What ``lines`` prints, as plain data: a source, a data set, a feed or one number."""
    kind, where = _find(key)
    if kind == "source":
        return source_document(where)
    if kind == "set":
        return set_document(where)
    set_id, name = data.split_key(where)
    return number_document(data.load_set(set_id)[name])


def _find(key: str) -> tuple[str, str]:
    """What a key names: ("source" | "set" | "number", its full key)."""
    ids = data.set_ids()
    if key in data.sources():
        return "source", key
    for set_id in (key, f"feeds/{key}"):
        if set_id in ids:
            return "set", set_id
    set_id, name = data.split_key(key)
    if set_id in ids and name in data.load_set(set_id):
        return "number", key
    raise _unknown(key, [*data.sources(), *ids], "a source, a data set or a feed")


def _source(key: str) -> Source:
    known = data.sources()
    if key not in known:
        raise _unknown(key, list(known), "a key of sources.toml")
    return known[key]


def _unknown(key: str, known: list[str], what: str) -> InputError:
    import difflib

    near = difflib.get_close_matches(key[:50], known, n=3)
    return InputError(
        Problem(
            message="nothing of this name",
            value=key,
            expected=f"one of {', '.join(near)}" if near else what,
        )
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _tally(classes: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in classes.items() if number) or "none"


def _wrap(text: str, width: int, hang: str = "", first: str = "") -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), width, initial_indent=first, subsequent_indent=hang
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


def _value(number: Mapping[str, Any]) -> str:
    text = f"{number['value']:.6g}"
    if number["low"] is not None:
        text += f" [{number['low']:.4g} .. {number['high']:.4g}]"
    return f"{text} {number['unit']}" if number["unit"] not in ("1", "") else text


def _number_line(number: Mapping[str, Any], width: int) -> list[str]:
    """One number: key, value with range and unit, class; two lines where one is too short."""
    value = f"{_value(number)}  {number['class']}"
    room = width - len(value) - 4
    if len(number["key"]) <= room:
        return [f"  {number['key']:<{room}}  {value}"]
    return [_cut(f"  {number['key']}", width), f"{value:>{width}}"]


def _numbers(
    numbers: Iterable[Mapping[str, Any]], width: int, *, source: bool = False
) -> list[str]:
    """Numbers with everything needed to argue about them; what neighbours share is said once."""

    def said(number: Mapping[str, Any]) -> str:
        who = f"{number['source']}: " if source else ""
        second = ", secondary" if number["secondary"] else ""
        return f"{who}{number['locator']} ({number['conditions']}{second}); {number['basis']}"

    found: list[str] = []
    for shared, group in itertools.groupby(numbers, said):
        members = list(group)
        notes = {number["note"] for number in members}
        for number in members:
            found += _number_line(number, width)
            if number["note"] and len(notes) > 1:
                found += _wrap(f"({number['note']})", width, "      ", "      ")
        common = notes.pop() if len(notes) == 1 else ""
        rest = f"{shared}; {common}" if common else shared
        found += _wrap(rest, width, "      ", "      ")
    return found
