"""A design as the case file of its circuit, which `sepmodel run` solves like any other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def mass_flow_document(
    name: str,
    *,
    components: Sequence[str],
    factors: Mapping[str, float],
    feed: Mapping[str, float],
    feed_phase: str,
    stages: tuple[int, int],
    solvent: float,
    scrub: float,
    basis: str,
    efficiency: float = 1.0,
    draws: Sequence[Mapping[str, Any]] = (),
    title: str = "",
) -> dict[str, Any]:
    """Tables of a cascade case; flows per mole of feed, ``factors`` relative extractabilities."""
    sections = [
        {"name": section, "stages": count, "efficiency": efficiency}
        for section, count in zip(("extraction", "scrub"), stages, strict=True)
        if count
    ]
    return {
        "schema": 1,
        "kind": "cascade",
        "name": name,
        "title": title,
        "components": list(components),
        "purity_basis": basis,
        "model": {"equilibrium": "mass-flow"},
        "section": sections,
        "inlet": [
            {
                "name": "feed",
                "phase": feed_phase,
                "section": "extraction",
                "composition": {c: feed[c] for c in components},
            }
        ],
        **({"draw": [dict(draw) for draw in draws]} if draws else {}),
        "mass_flow": {
            "solvent": solvent,
            "scrub": scrub,
            "separation_factors": {c: factors[c] for c in components},
        },
    }


def toml_text(document: Mapping[str, Any]) -> str:
    """Tables of a case file as TOML.

    >>> print(toml_text({"schema": 1, "model": {"set": "a/b"}, "inlet": [{"flow": 0.5}]}), end="")
    schema = 1
    <BLANKLINE>
    [model]
    set = "a/b"
    <BLANKLINE>
    [[inlet]]
    flow = 0.5
    """
    lines = [f"{_key(k)} = {_value(v)}" for k, v in document.items() if not _is_table(v)]
    for key, value in document.items():
        if not _is_table(value):
            continue
        members = value if isinstance(value, list) else [value]
        head = f"[[{key}]]" if isinstance(value, list) else f"[{key}]"
        for member in members:
            lines += ["", head, *(f"{_key(k)} = {_value(v)}" for k, v in member.items())]
    return "\n".join(lines) + "\n"


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    )


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
        return f"{{ {inside} }}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
