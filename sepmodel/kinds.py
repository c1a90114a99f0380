"""Kinds of case files: their schema, and a starter of each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sepmodel import data, sweep_tables
from sepmodel.errors import InputError, Problem
from sepmodel.fields import meant
from sepmodel.run import KINDS, SHAPES, Kind


def kind(name: str) -> Kind:
    """A kind of case by name; InputError with the known ones otherwise."""
    if name not in KINDS:
        raise InputError(
            Problem(
                message=f"no such kind of case{meant(name, KINDS)}",
                value=name,
                expected=f"one of {', '.join(KINDS)}",
            )
        )
    return KINDS[name]()


def next_step(name: str, path: Path) -> str:
    """What to do with a starter that was written.

    >>> next_step("cascade", Path("mine.toml"))
    'sepmodel run mine.toml'
    """
    if name == "route":
        return f"name {path.stem} in the routes of a study in this folder"
    return f"sepmodel {kind(name).command} {path}"


def schema(name: str) -> dict[str, Any]:
    """JSON schema of a kind of case file; ``anyOf`` where its models differ in shape."""
    from pydantic.json_schema import models_json_schema

    first = kind(name).model
    others = [shape().model for (owner, _), shape in SHAPES.items() if owner == name]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    if kind(name).command == "sweep":
        return {**head, **first.model_json_schema(by_alias=True)}
    models = list(dict.fromkeys([first, *others]))
    carried = sweep_tables.CARRIED
    found, definitions = models_json_schema(
        [(m, "validation") for m in (*models, *carried.values())], by_alias=True
    )
    tables = {key: found[m, "validation"] for key, m in carried.items()}
    known = definitions["$defs"]
    places = [found[m, "validation"]["$ref"].rpartition("/")[2] for m in models]
    for place in places:
        known[place]["properties"] |= tables
    if not others:
        return {**head, **known.pop(places[0]), **definitions}
    return {**head, "anyOf": [found[m, "validation"] for m in models], **definitions}


def write_starter(name: str, case_name: str) -> Path:
    """Write the commented starter case of a kind to ``<case_name>.toml`` in the current folder.

    Raises
    ------
    InputError
        when the kind is unknown, the name cannot be used, or the file exists.
    """
    kind(name)
    template = data.models_dir() / "starters" / f"{name}.toml"
    path = Path(f"{case_name}.toml")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,63}", case_name):
        raise InputError(
            Problem(message="not a usable name", value=case_name, expected="letters, digits, - + _")
        )
    if not template.is_file():
        raise InputError(Problem(message="there is no starter for this kind", value=name))
    text = template.read_text(encoding="utf-8")
    text = re.sub(r'(?m)^name = ".*?"', f'name = "{case_name}"', text, count=1)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        raise InputError(
            Problem(message="exists already", file=str(path), expected="another name")
        ) from None
    except OSError as error:
        raise InputError(
            Problem(message=f"cannot be written: {error.strerror}", file=str(path))
        ) from None
    return path
