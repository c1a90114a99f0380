"""Thousands of circuits that differ in numbers only: flows, concentrations, constants.

One circuit in their midst is solved and differentiated; every member starts from its unknowns
moved along their derivatives by the logarithms of the member's own inputs, so that two or three
Newton steps remain. Members go through the kernel in chunks that fit the processor's cache, never
influence one another, and are tried singly, from averages, from scratch and in small steps, when
that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.errors import ConvergenceError, InputError, Problem
from sepmodel.extraction import circuit, derivatives
from sepmodel.extraction.circuit import CircuitInputs, CircuitResult, Outlet
from sepmodel.extraction.circuit_plan import batch_of, chosen

Array = NDArray[np.float64]

# Members that go through the kernel together: their matrices stay in the processor's cache.
CHUNK = 32
# Chunks that one call of a worker gets through.
GROUP = 16


class Executor(Protocol):
    """Anything with the ``map`` of ``concurrent.futures``."""

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        """Results in the order of the calls."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class BatchResult:
    """What leaves the members of a batch (...), and how well they were solved.

    ``outlets`` as of :class:`circuit.CircuitResult`, ``recycle, supplied`` (..., C); ``closure``
    with its largest relative errors: component (..., C), local and closures (...). Where
    ``converged`` is False everything is NaN; ``fallbacks`` counts the attempts after the first.
    """

    outlets: dict[str, Outlet]
    recycle: Array
    supplied: Array
    closure: dict[str, Array]
    iterations: NDArray[np.int64]
    fallbacks: NDArray[np.int64]
    converged: NDArray[np.bool_]

    @property
    def status(self) -> NDArray[np.str_]:
        """ "solved", "solved after retries" or "unsolved" of each member (...)."""
        retried = np.where(self.fallbacks > 0, "solved after retries", "solved")
        return np.where(self.converged, retried, "unsolved")


def stack(circuits: Sequence[CircuitInputs]) -> CircuitInputs:
    """Circuits of one shape (the same sections, ports and components) as one batch.

    Raises
    ------
    InputError
        where two circuits differ in more than their numbers.
    """
    first = circuits[0]
    for k, other in enumerate(circuits):
        if _shape(other) != _shape(first):
            message = "circuits of one batch differ in their numbers only"
            raise InputError(Problem(message=message, key=f"circuit {k + 1}"))

    def many(values: Iterable[ArrayLike]) -> Array:
        return np.stack([np.asarray(value, dtype=float) for value in values])

    constants = many(_constants(other) for other in circuits)
    return replace(
        first,
        organic_flow=many(c.organic_flow for c in circuits),
        dimer=many(c.dimer for c in circuits),
        organic_conc=many(c.organic_conc for c in circuits),
        inlets=tuple(
            replace(
                inlet,
                flow=many(c.inlets[j].flow for c in circuits),
                conc=many(c.inlets[j].conc for c in circuits),
                acid=many(c.inlets[j].acid for c in circuits),
                sulfate=many(c.inlets[j].sulfate for c in circuits),
            )
            for j, inlet in enumerate(first.inlets)
        ),
        draws=tuple(
            replace(draw, flow=many(c.draws[j].flow for c in circuits))
            for j, draw in enumerate(first.draws)
        ),
        log_k_shift=constants - _constants(first) + np.asarray(first.log_k_shift),
    )


def _constants(inputs: CircuitInputs) -> Array:
    """ln K of the components with the circuit's own shift, (C,)."""
    log_k = np.asarray(getattr(inputs.model, "log_k", np.zeros(1)), dtype=float)
    out: Array = log_k + np.asarray(inputs.log_k_shift) + np.zeros(len(inputs.components))
    return out


def _shape(inputs: CircuitInputs) -> tuple[Any, ...]:
    """What has to be the same in all circuits of a batch."""
    sections = tuple(
        (s.name, s.stages, s.aqueous_to, *(np.asarray(v).tobytes() for v in
         (s.efficiency, s.log_k_shift, s.carry_aq, s.carry_org)))
        for s in inputs.sections
    )  # fmt: skip
    ports = tuple((i.name, i.section, i.stage, i.phase) for i in inputs.inlets)
    draws = tuple((d.name, d.section, d.stage, d.phase) for d in inputs.draws)
    model = type(inputs.model).__name__, inputs.model.unknowns, inputs.charge.tobytes()
    loop = inputs.closed, inputs.reset, tuple(inputs.reflux)
    return inputs.components, sections, ports, draws, model, loop


def solve(
    inputs: CircuitInputs,
    *,
    base: CircuitResult | None = None,
    executor: Executor | None = None,
    failures: str = "record",
) -> BatchResult:
    """All members of a batch, one leading axis, from a circuit in their midst.

    Parameters
    ----------
    inputs: the members (see :func:`stack`), at least one input with a leading axis.
    base: a solved single circuit near all members; that of their medians by default.
    executor: anything with the ``map`` of ``concurrent.futures``; none works through the members
        here. The answers do not depend on it.
    failures: "record" or "quick", as ``circuit.solve``.

    >>> import numpy as np
    >>> from sepmodel.chemistry.cation_exchange import CationExchange
    >>> from sepmodel.extraction.circuit import Inlet, Section
    >>> z = np.array([3.0])
    >>> feed = Inlet(name="feed", section="extraction", stage=2, flow=1e-6, acid=100.0,
    ...              conc=np.array([1e-6]))
    >>> found = solve(CircuitInputs(
    ...     components=("Nd",), model=CationExchange(log_k=np.log([0.02]), charge=z, dimers=z),
    ...     charge=z, sections=(Section(name="extraction", stages=2),),
    ...     organic_flow=np.array([1e-6, 2e-6]), dimer=500.0, organic_conc=np.array([0.0]),
    ...     inlets=(feed,)))
    >>> (found.outlets["raffinate"].moles[:, 0] / 1e-12).round(6).tolist()
    [0.102564, 0.032258]
    """
    batch = batch_of(inputs)
    if len(batch) != 1:
        raise InputError(Problem(message="a batch has one leading axis", value=batch))
    if base is None:
        try:
            base = circuit.solve(middle(inputs))
        except ConvergenceError:
            base = None
    size = batch[0]
    start, moves = None, None
    if base is not None:
        names = derivatives.parameters(base.inputs)
        start, moves = base.u, derivatives.tangent(base, names)
    calls = []
    for first in range(0, size, GROUP * CHUNK):
        here = np.arange(first, min(first + GROUP * CHUNK, size))
        part = chosen(inputs, here)
        guess = None
        if base is not None and start is not None and moves is not None:
            guess = start + np.tensordot(changes(base.inputs, part, names), moves, axes=1)
        calls.append((part, guess, failures))
    found = map(solve_group, calls) if executor is None else executor.map(solve_group, calls)
    return join([piece for group in found for piece in group])


def solve_group(call: tuple[CircuitInputs, Array | None, str]) -> list[BatchResult]:
    """Some members in chunks: (inputs, first guesses (B, N, m) or None, failures); picklable."""
    inputs, guess, failures = call
    (size,) = batch_of(inputs)
    out = []
    for first in range(0, size, CHUNK):
        here = np.arange(first, min(first + CHUNK, size))
        own = None if guess is None else guess[here]
        out.append(summary(circuit.solve(chosen(inputs, here), guess=own, failures=failures)))
    return out


def middle(inputs: CircuitInputs) -> CircuitInputs:
    """The circuit of the medians of all inputs of a batch."""

    def of(value: ArrayLike, tail: int = 0) -> Array:
        array = np.asarray(value, dtype=float)
        return np.median(array, axis=0) if array.ndim > tail else array

    return replace(
        inputs,
        organic_flow=of(inputs.organic_flow),
        dimer=of(inputs.dimer),
        organic_conc=of(inputs.organic_conc, 1),
        inlets=tuple(
            replace(i, flow=of(i.flow), conc=of(i.conc, 1), acid=of(i.acid), sulfate=of(i.sulfate))
            for i in inputs.inlets
        ),
        draws=tuple(replace(d, flow=of(d.flow)) for d in inputs.draws),
        log_k_shift=of(inputs.log_k_shift, 1),
    )


def changes(base: CircuitInputs, inputs: CircuitInputs, names: Sequence[str]) -> Array:
    """How far the members are from the base in each parameter (``derivatives``), (B, P)."""
    (size,) = batch_of(inputs)
    index = {c: i for i, c in enumerate(base.components)}
    ports = {a.name: (a, b) for a, b in zip(base.inlets, inputs.inlets, strict=True)}
    draws = {a.name: (a, b) for a, b in zip(base.draws, inputs.draws, strict=True)}
    levels = _constants(inputs) - _constants(base)
    out = np.zeros((size, len(names)))
    for k, name in enumerate(names):
        kind, _, rest = name.partition(":")
        port, _, component = rest.partition(":")
        if kind == "log_k":
            out[:, k] = levels[..., index[rest]]
            continue
        pair: tuple[Any, ...]
        if kind == "draw":
            pair = (draws[rest][0].flow, draws[rest][1].flow)
        elif kind in ("flow", "acid"):
            pair = (getattr(ports[rest][0], kind), getattr(ports[rest][1], kind))
        elif kind == "conc":
            i = index[component]
            pair = tuple(np.asarray(p.conc)[..., i] for p in ports[port])
        elif kind == "organic_conc":
            pair = tuple(np.asarray(p.organic_conc)[..., index[rest]] for p in (base, inputs))
        else:
            pair = (getattr(base, kind), getattr(inputs, kind))
        ratio = np.asarray(pair[1], dtype=float) / np.asarray(pair[0], dtype=float)
        out[:, k] = np.log(np.maximum(ratio, np.finfo(float).tiny))
    return out


def summary(result: CircuitResult) -> BatchResult:
    """What a batch keeps of its members."""
    return BatchResult(
        outlets=result.outlets,
        recycle=result.recycle,
        supplied=result.supplied,
        closure=result.closure,
        iterations=result.iterations,
        fallbacks=result.fallbacks,
        converged=result.converged,
    )


def join(pieces: Sequence[BatchResult]) -> BatchResult:
    """Pieces of a batch one after another."""

    def whole(values: Iterable[Any]) -> Any:
        return np.concatenate(list(values))

    outlets = {
        name: Outlet(
            phase=outlet.phase,
            flow=whole(p.outlets[name].flow for p in pieces),
            moles=whole(p.outlets[name].moles for p in pieces),
            log_moles=whole(p.outlets[name].log_moles for p in pieces),
            proton=whole(p.outlets[name].proton for p in pieces),
        )
        for name, outlet in pieces[0].outlets.items()
    }
    return BatchResult(
        outlets=outlets,
        recycle=whole(p.recycle for p in pieces),
        supplied=whole(p.supplied for p in pieces),
        closure={key: whole(p.closure[key] for p in pieces) for key in pieces[0].closure},
        iterations=whole(p.iterations for p in pieces),
        fallbacks=whole(p.fallbacks for p in pieces),
        converged=whole(p.converged for p in pieces),
    )
