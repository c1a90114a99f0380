"""Where the command line writes: folders of results and JSON documents, nothing lost."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sepmodel.errors import InputError, Problem


def folder(out: str | None, otherwise: Path) -> Path:
    """The folder of the results; refuses what is no name of one."""
    if out is None:
        return otherwise
    if not out or "\0" in out:
        raise InputError(
            Problem(message="not a folder name", key="--out", value=out, expected="a folder")
        )
    return Path(out)


def check(json_to: str | None, force: bool) -> None:
    """Refuse a JSON file that would replace something that is not sepmodel's JSON."""
    if json_to is None or json_to == "-":
        return
    if not json_to or "\0" in json_to:
        problem = Problem(message="not a file name", key="--json", value=json_to)
        raise InputError(replace(problem, expected="the name of a file, or - for stdout"))
    parent = next(p for p in Path(json_to).absolute().parents if p.exists())
    try:
        tempfile.TemporaryFile(dir=parent).close()
    except OSError:
        raise InputError(
            Problem(
                message="cannot be written",
                file=json_to,
                key="--json",
                expected="a file in a folder that can be written",
            )
        ) from None
    if not os.path.lexists(json_to) or (force and os.path.isfile(json_to)):
        return
    try:
        if not os.path.isfile(json_to):  # a device could be read for ever
            raise ValueError
        document = json.loads(Path(json_to).read_text(encoding="utf-8"))
        if isinstance(document, dict) and "schema" in document:
            return
    except (OSError, ValueError, RecursionError):
        pass
    raise InputError(
        Problem(
            message="is in the way: not a JSON file that sepmodel wrote",
            file=json_to,
            expected="another file, or --force to replace it",
        )
    )


def deliver(document: Mapping[str, Any], json_to: str | None) -> None:
    """Write a JSON document where it was asked for: a file, stdout, or nowhere."""
    if json_to is None:
        return
    from sepmodel.files import json_text, write_atomic

    if json_to == "-":
        sys.stdout.write(json_text(document))
    else:
        check(json_to, force=False)
        write_atomic(json_to, json_text(document))
