"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sepmodel.errors import InputError, Problem


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a whole file or nothing: a temporary file beside it, then a rename.

    Raises
    ------
    InputError
        when the folder cannot be written or the disk is full; nothing is left behind.
    """
    path = Path(path)
    payload = content.encode("utf-8") if isinstance(content, str) else content
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        temporary = ""
    except OSError as error:
        raise InputError(
            Problem(
                message=f"cannot be written: {error.strerror or error}",
                file=str(path),
                expected="a folder that can be written",
            )
        ) from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
    return path


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it: arrays as lists, NaN and infinity as None, paths as text.

    >>> plain({"x": np.array([1.0, np.nan])})
    {'x': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(member) for member in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    return str(value)


def json_text(document: Any, *, indent: int | None = 1) -> str:
    """``document`` as JSON text without NaN or Infinity, with a final newline."""
    return json.dumps(plain(document), indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
