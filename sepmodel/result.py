"""What a computation gives back, the same shape for every technology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import files, units
from sepmodel.data import Constant, evidence
from sepmodel.errors import InputError, Problem

SCHEMA = 1
RESERVED_STREAMS = (
    "raffinate",
    "loaded_organic",
    "scrub_liquor",
    "strip_liquor",
    "barren_organic",
)


def amount(value: float, unit: str) -> dict[str, Any]:
    """A strict-SI ``value`` as the quantity of a result, expressed in ``unit``.

    >>> amount(1500.0, "mol/L")
    {'value': 1.5, 'unit': 'mol/L'}
    """
    return {"value": units.to(float(value), unit), "unit": unit}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Outlet:
    """A stream of a result: what it is, where it leaves, how much, how pure.

    ``flow`` and the members of ``conc`` and ``moles`` are quantities made by ``amount``; ``purity``
    and ``recovery`` are fractions by component, ``stage`` is 1-based as in case files.
    """

    phase: str
    flow: Mapping[str, Any]
    section: str = ""
    stage: int | None = None
    moles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    conc: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pH: float | None = None
    purity: Mapping[str, float] = field(default_factory=dict)
    recovery: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The outlet as the JSON object of a result."""
        document: dict[str, Any] = files.plain({n: getattr(self, n) for n in self.__slots__})
        return document


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Profile:
    """Values along axes, in ``unit`` as given: ``values`` has one dimension per axis.

    ``axes`` maps each axis to its labels, in the order of the dimensions:
    ``{"stage": range(1, 46), "component": ("Nd", "Pr")}``. ``bands`` name stretches of the first
    axis by their first and last label (the sections of a cascade: ``{"extraction": (1, 24)}``),
    ``marks`` single labels (``{"feed": 24}``); figures shade and name them. ``units`` are those of
    labels of the last axis that have another one than ``unit``.
    """

    unit: str
    axes: Mapping[str, Sequence[Any]]
    values: NDArray[np.float64]
    bands: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    marks: Mapping[str, Any] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=float)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        shape = tuple(len(labels) for labels in self.axes.values())
        if values.shape != shape:
            raise InputError(
                Problem(
                    message="a profile has one dimension per axis",
                    value=values.shape,
                    expected=str(shape),
                )
            )

    def unit_of(self, label: Any) -> str:
        """The unit of the values at a label of the last axis."""
        return self.units.get(label, self.unit)

    def to_dict(self) -> dict[str, Any]:
        """The profile as the JSON object of a result."""
        document: dict[str, Any] = files.plain(
            {
                "unit": self.unit,
                "axes": list(self.axes),
                "labels": {axis: list(labels) for axis, labels in self.axes.items()},
                "values": self.values,
                "bands": self.bands,
                "marks": self.marks,
                **({"units": self.units} if self.units else {}),
            }
        )
        return document


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned:
    """A named warning: a code that can be searched for, what it means here, and where."""

    code: str
    message: str
    where: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The warning as the JSON object of a result."""
        return {"code": self.code, "message": self.message, "where": self.where}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Result:
    """The answer to one case, with its evidence.

    ``model`` says what was solved (equilibrium, set, activity, level), ``solver`` how well
    (iterations, residual, seconds), ``balance`` how the books close (components, charge, dimer,
    counter_ion, max: relative), ``used`` which constants it rests on, ``quantities`` what else was
    computed (each made by ``amount``). ``status`` is "converged"; what is not, is an error.
    """

    kind: str
    name: str
    model: Mapping[str, Any] = field(default_factory=dict)
    solver: Mapping[str, Any] = field(default_factory=dict)
    streams: Mapping[str, Outlet] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    quantities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    balance: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[Warned] = ()
    used: Mapping[str, Constant] = field(default_factory=dict)
    status: str = "converged"
    inputs_hash: str = ""
    schema: int = SCHEMA
    version: str = ""

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Who said the numbers it rests on: one entry per source and class."""
        return evidence(self.used)

    @property
    def estimated(self) -> dict[str, Any]:
        """How many of its constants are estimates; their share of the sensitivity if computed."""
        count = sum(1 for constant in self.used.values() if constant.provenance == "estimated")
        return {"count": count, "share_of_sensitivity": None}

    def to_dict(self) -> dict[str, Any]:
        """The result as one JSON object, without NaN or Infinity."""
        document: dict[str, Any] = files.plain(
            {
                "schema": self.schema,
                "version": self.version,
                "kind": self.kind,
                "name": self.name,
                "status": self.status,
                "inputs_hash": self.inputs_hash,
                "model": {
                    "equilibrium": None,
                    "set": None,
                    "activity": None,
                    "level": None,
                    **self.model,
                },
                "solver": {"iterations": None, "residual": None, "seconds": None, **self.solver},
                "streams": dict(self.streams),
                "profiles": dict(self.profiles),
                "quantities": dict(self.quantities),
                "balance": {
                    "components": {},
                    "charge": None,
                    "dimer": None,
                    "counter_ion": None,
                    "max": None,
                    **self.balance,
                },
                "warnings": list(self.warnings),
                "sources": self.sources,
                "estimated": self.estimated,
            }
        )
        return document

    def to_json(self, path: str | Path) -> Path:
        """Write the result as one JSON file (whole or not at all)."""
        return files.write_atomic(path, files.json_text(self.to_dict()))

    def to_csv(self, folder: str | Path) -> list[Path]:
        """Write streams and profiles as CSV files with the unit in every column's header."""
        return [
            files.write_atomic(Path(folder) / name, text) for name, text in self.csv_files().items()
        ]

    def parquet(self) -> bytes:
        """All profiles in one long table (profile, unit, one column an axis, value), as Parquet.

        Needs pyarrow, which the extra ``tables`` brings.
        """
        import io

        import pyarrow as pa
        import pyarrow.parquet as pq

        axes = list(dict.fromkeys(axis for p in self.profiles.values() for axis in p.axes))
        columns: dict[str, list[Any]] = {name: [] for name in ("profile", "unit", *axes, "value")}
        for name, profile in self.profiles.items():
            size = profile.values.size
            columns["profile"] += [name] * size
            places = np.indices(profile.values.shape).reshape(profile.values.ndim, size)
            last = [profile.unit_of(label) for label in list(profile.axes.values())[-1]]
            columns["unit"] += [last[i] for i in places[-1]]
            for axis in axes:
                labels = list(profile.axes.get(axis, ()))
                row = list(profile.axes).index(axis) if labels else 0
                columns[axis] += [labels[i] for i in places[row]] if labels else [None] * size
            columns["value"] += profile.values.reshape(-1).tolist()
        # One axis has one kind of label in every profile: numbers, or names.
        table = pa.table(
            {
                name: [v if v is None else float(v) for v in values]
                if all(v is None or isinstance(v, int | float) for v in values)
                else [v if v is None else str(v) for v in values]
                for name, values in columns.items()
            }
        )
        stream = io.BytesIO()
        pq.write_table(table, stream)
        return stream.getvalue()

    def csv_files(self) -> dict[str, str]:
        """File names and contents of ``to_csv``."""
        written = {"streams.csv": _streams_csv(self.streams)} if self.streams else {}
        for name, profile in self.profiles.items():
            written[f"profile_{name}.csv"] = _profile_csv(name, profile)
        return written


def at(document: Any, path: str) -> Any:
    """What stands at a dotted path of a result's dictionary, such as ``streams.raffinate.flow``.

    Raises
    ------
    InputError
        naming the first part that is not there and what is.

    >>> at({"streams": {"raffinate": {"purity": {"Nd": 0.99}}}}, "streams.raffinate.purity.Nd")
    0.99
    """
    current = document
    for part in path.split("."):
        if isinstance(current, Mapping) and part in current:
            current = current[part]
        elif isinstance(current, Sequence) and part.isdigit() and int(part) < len(current):
            current = current[int(part)]
        else:
            there = list(current) if isinstance(current, Mapping) else []
            raise InputError(
                Problem(
                    message=f"the result has no {part!r}",
                    key=path,
                    expected=f"one of {', '.join(map(str, there[:20]))}" if there else "",
                )
            )
    return current


def _streams_csv(streams: Mapping[str, Outlet]) -> str:
    """One row per stream, component and property: value and unit in columns of their own."""
    rows: list[list[Any]] = []
    for name, outlet in streams.items():
        entry = outlet.to_dict()
        where = [name, entry["phase"], entry["section"], entry["stage"]]
        rows.append([*where, "", "flow", entry["flow"]["value"], entry["flow"]["unit"]])
        for key, what in (("moles", "flow"), ("conc", "concentration")):
            rows += [[*where, c, what, q["value"], q["unit"]] for c, q in entry[key].items()]
        if entry["pH"] is not None:
            rows.append([*where, "", "pH", entry["pH"], "1"])
        for what in ("purity", "recovery"):
            rows += [[*where, c, what, v, "1"] for c, v in entry[what].items()]
    header = ["stream", "phase", "section", "stage", "component", "property", "value", "unit"]
    return files.csv_text(header, rows)


def _profile_csv(name: str, profile: Profile) -> str:
    """Rows along all axes but the last, whose labels are the columns."""
    *leading, last = profile.axes
    labels = [str(label) for label in profile.axes[last]]
    if not leading:
        header = [last, f"{name} [{profile.unit}]"]
        pairs = zip(profile.axes[last], files.plain(profile.values), strict=True)
        return files.csv_text(header, [list(pair) for pair in pairs])
    header = [
        *leading,
        *(f"{name} {label} [{profile.unit_of(label)}]" for label in labels),
    ]
    rows = []
    for index in np.ndindex(*profile.values.shape[:-1]):
        where = [profile.axes[axis][i] for axis, i in zip(leading, index, strict=True)]
        rows.append([*where, *files.plain(profile.values[index])])
    return files.csv_text(header, rows)
