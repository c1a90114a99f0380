"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepmodel.errors import InputError, Problem

try:
    import fcntl
except ImportError:  # not on Windows, where a file in use cannot be removed anyway
    fcntl = None  # type: ignore[assignment]


def write_atomic(path: str | Path, content: str | bytes) -> Path:
    """Write a whole file or nothing: a temporary file beside it, then a rename.

    What a writer of this file left behind that was killed is removed.

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
        _tidy(path)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            _claimed(handle)  # for as long as it is open
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


def _claimed(handle: int) -> bool:
    """Whether this process could lock a file: nobody else writes it, and the system knows locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _tidy(path: Path) -> None:
    """Remove temporary files for ``path`` that nobody writes any more."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????"):
        try:
            with left.open("r+b") as stream:
                idle = _claimed(stream.fileno())
            if idle:
                left.unlink()
        except OSError:
            continue


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


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV text; None is an empty cell.

    >>> csv_text(["stage", "flow [mol/s]"], [[1, 0.5], [2, None]])
    'stage,flow [mol/s]\\n1,0.5\\n2,\\n'
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return stream.getvalue()


MANIFEST = "manifest.json"


def write_folder(
    folder: str | Path,
    contents: Mapping[str, str | bytes],
    about: Mapping[str, Any],
    *,
    force: bool = False,
) -> list[Path]:
    """Write the files of a result into ``folder`` beside a manifest that remembers their hashes.

    What an earlier run wrote there and nobody changed is replaced, or removed when it is no longer
    part of the result. Anything else in the way is refused unless ``force``; other files are left
    alone.

    Raises
    ------
    InputError
        naming every file in the way; nothing has been touched then.
    """
    folder = Path(folder)
    payloads = {n: c.encode("utf-8") if isinstance(c, str) else c for n, c in contents.items()}
    before = require_free(folder, payloads, force=force)
    hashes = {name: _sha256(payload) for name, payload in payloads.items()}
    # Both generations are ours until the last file is in place, so that a run that was cut short
    # can be repeated.
    both = {n: sorted({*before.get(n, []), *([hashes[n]] if n in hashes else [])}) for n in before}
    both.update({name: [value] for name, value in hashes.items() if name not in both})
    fresh = [n for n in [MANIFEST, *payloads] if not _occupied(folder / n)]
    made = not folder.exists()
    try:
        _write_manifest(folder, about, both)
        for name, payload in payloads.items():
            write_atomic(folder / name, payload)
    except InputError:
        for path in [folder / name for name in fresh]:
            if _occupied(path):
                path.unlink()
        if made and folder.is_dir():
            folder.rmdir()
        raise
    for name in set(before) - set(payloads) - {MANIFEST}:
        if _occupied(folder / name) and _ours(folder / name, before):
            (folder / name).unlink()
    _write_manifest(folder, about, {name: [value] for name, value in hashes.items()})
    return [folder / name for name in [*payloads, MANIFEST]]


def require_free(
    folder: str | Path, names: Iterable[str], *, force: bool = False
) -> dict[str, list[str]]:
    """Hashes of what an earlier run wrote into ``folder``, by name.

    Raises
    ------
    InputError
        naming every file there that stands in the way of one of ``names``, unless ``force``.
    """
    folder = Path(folder)
    before = _manifest(folder)
    in_the_way = [
        folder / name
        for name in [*names, MANIFEST]
        if _occupied(folder / name) and not _ours(folder / name, before)
    ]
    if in_the_way and not force:
        raise InputError(
            [
                Problem(
                    message="is in the way: not written by sepmodel, or changed since",
                    file=str(path),
                    expected="another folder (--out), or --force to replace it",
                )
                for path in in_the_way
            ]
        )
    return before


def _write_manifest(
    folder: Path, about: Mapping[str, Any], hashes: Mapping[str, list[str]]
) -> None:
    document = {"schema": 1, "written_by": "sepmodel", **about, "files": hashes}
    write_atomic(folder / MANIFEST, json_text(document))


def _manifest(folder: Path) -> dict[str, list[str]]:
    """Hashes of the files an earlier run wrote; empty when there was none."""
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["written_by"] != "sepmodel" or path.is_symlink():
            return {}
        listed = {str(name): [str(h) for h in hashes] for name, hashes in document["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    inside = {name: h for name, h in listed.items() if Path(name).name == name}
    return {**inside, MANIFEST: [_sha256(path.read_bytes())]}


def _occupied(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _ours(path: Path, before: Mapping[str, list[str]]) -> bool:
    if path.is_symlink() or not path.is_file() or path.name not in before:
        return False
    return _sha256(path.read_bytes()) in before[path.name]


def _sha256(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest()
