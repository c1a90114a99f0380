"""Answers worth keeping between runs, by the content of everything they depend on.

A key is the SHA-256 of inputs, data and code: when any of them changes, the answer is another one.
Entries are JSON, with arrays in npz files beside them; nothing here is ever executed on reading,
and what cannot be read counts as not there. The folder is safe to delete at any time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import __version__, data, files
from sepmodel.errors import InputError

_DATA = ("data", "feeds", "routes")
_ENVIRONMENT = "SEPMODEL_CACHE"


@lru_cache(maxsize=1)
def code_version() -> str:
    """SHA-256 of sepmodel's own source."""
    digest = hashlib.sha256(__version__.encode())
    package = Path(__file__).resolve().parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def data_version() -> str:
    """SHA-256 of every data set, feed and route a computation could read, the user's included."""
    digest = hashlib.sha256()
    for root in data.roots():
        for folder in _DATA:
            for path in sorted((root / folder).rglob("*.*")):
                if path.is_file():
                    digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def key(inputs: Any) -> str:
    """SHA-256 of inputs (anything JSON can hold), the data and the code; order does not matter.

    >>> key({"a": 1, "b": [2.0]}) == key({"b": [2.0], "a": 1})
    True
    """
    return hashed({"inputs": inputs, "data": data_version(), "code": code_version()})


def hashed(value: Any) -> str:
    """SHA-256 of anything JSON can hold; the order of tables does not matter.

    >>> hashed({"a": 0.1})[:8]
    '67479ac0'
    """
    text = json.dumps(files.plain(value), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def folder() -> Path | None:
    """Where entries are kept: ``SEPMODEL_CACHE``, else the user's cache folder; "" for nowhere."""
    given = os.environ.get(_ENVIRONMENT)
    if given is not None:
        return Path(given) if given else None
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".cache") / "sepmodel"


class Cache:
    """Entries of a folder by key: a JSON document and named arrays.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     cache = Cache(Path(place))
    ...     cache.put("0" * 64, {"n": 1}, {"x": np.arange(3.0)})
    ...     document, arrays = cache.get("0" * 64)
    >>> document, arrays["x"].tolist()
    ({'n': 1}, [0.0, 1.0, 2.0])
    """

    def __init__(self, place: Path | None) -> None:
        self.place = place

    def get(self, key: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """The entry of a key; None when there is none that can be read whole."""
        if self.place is None:
            return None
        path = self._path(key)
        try:
            entry = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            document, expected = entry["document"], entry["arrays"]
            arrays = {}
            if expected:
                payload = path.with_suffix(".npz").read_bytes()
                if hashlib.sha256(payload).hexdigest() != expected:
                    return None
                with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
                    arrays = {name: stored[name] for name in stored.files}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return document, arrays

    def put(
        self,
        key: str,
        document: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Keep an entry; where that is not possible nothing happens: a cache is no duty."""
        if self.place is None:
            return
        path, payload = self._path(key), b""
        if arrays:
            stream = io.BytesIO()
            named: dict[str, Any] = dict(arrays)
            np.savez(stream, **named)
            payload = stream.getvalue()
        entry = {
            "document": document,
            "arrays": hashlib.sha256(payload).hexdigest() if payload else "",
        }
        try:
            if payload:
                files.write_atomic(path.with_suffix(".npz"), payload)
            files.write_atomic(path.with_suffix(".json"), files.json_text(entry, indent=None))
        except InputError:
            return

    def _path(self, key: str) -> Path:
        assert self.place is not None
        return self.place / key[:2] / key
