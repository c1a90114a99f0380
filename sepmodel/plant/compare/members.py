"""Members of a comparison: every one a plant, computed with its own constants.

A member takes all constants at once from their distributions. The plant is that of the base: its
cuts, their order and stages, its columns in series stand; every flow, load, volume, reagent and
vessel is set anew for the member's constants, so that the products meet their specifications. What
is reckoned unit by unit is reckoned member by member; extraction circuits of all members are solved
together. Members never influence one another. A member whose plant cannot do what is asked has a
reason and no figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import sampling
from sepmodel.chromatography.affinity import AffinityDesign
from sepmodel.chromatography.affinity_built import BuiltColumns
from sepmodel.data import Book, Constant
from sepmodel.errors import ConvergenceError, InfeasibleError
from sepmodel.plant.circuits import SOAP_DIMERS
from sepmodel.plant.compare.accounting import Account, account, figures
from sepmodel.plant.compare.evaluation import Case, State, feed_liquor, flowsheet
from sepmodel.plant.flowsheet import (
    Context,
    Evaluated,
    Flowsheet,
    Memo,
    WaitingError,
    rare_earths,
)
from sepmodel.plant.inputs import Route
from sepmodel.plant.train_trims import Failure, Running, TrainTrimmer
from sepmodel.processes import helpers
from sepmodel.stream import Stream

Array = NDArray[np.float64]
# By the number of the draw: the constants of a member, and its liquor.
_Read = dict[int, tuple[Book, Stream]]
# Members of a comparison unless the caller says otherwise, and their seed.
MEMBERS = 1000
SEED = 1
# Constants that members take as stated: no figure moves by 1e-5 over their range.
STAND = frozenset({SOAP_DIMERS})
# Members that are evaluated together; and where each is reckoned by itself.
TOGETHER = 512
APART = 32

MEETS, EXTENDED, MISSES = "meets", "meets with more stages", "misses"


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Drawn:
    """Members drawn from the constants: ``keys`` in order and what each took, (n, K) strict SI;
    the number of the ``first`` among all draws."""

    keys: tuple[str, ...]
    values: Array
    first: int = 0

    def part(self, first: int, last: int) -> Drawn:
        """Some draws in a row."""
        return Drawn(keys=self.keys, values=self.values[first:last], first=self.first + first)

    def of(self, member: int) -> dict[str, float]:
        """The constants of one member."""
        return dict(zip(self.keys, self.values[member].tolist(), strict=True))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Outcome:
    """What becomes of a member's plant by one route: its status, its figures or the reason.

    ``closure`` is the largest relative error of any balance over the plant.
    """

    status: str
    figures: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    closure: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Told:
    """All members by one route: statuses and reasons (n,), figures by name, NaN where there are
    none, and the largest closure of any balance."""

    status: tuple[str, ...]
    reasons: tuple[str, ...]
    figures: Mapping[str, Array]
    closure: float

    @property
    def met(self) -> NDArray[np.bool_]:
        """Whose plant meets every specification (n,)."""
        return np.array([s in (MEETS, EXTENDED) for s in self.status], dtype=bool)


def draw(
    constants: Mapping[str, Constant], count: int, seed: int = SEED, book: Book | None = None
) -> Drawn:
    """``count`` members of the constants that have a range, independent of one another.

    In hundreds of dimensions a thousand points of a Sobol' sequence hang together pair by pair.
    What a constant takes depends on its key (and the level it shares), the seed and the number of
    the draw: what else is drawn, and how many draws, changes nothing.
    """
    taken = {key: constants[key] for key in constants if key not in STAND}
    found = sampling.members(taken, count, seed=seed, design="random", book=book)
    keys = tuple(key for key in taken if key in found)
    return Drawn(keys=keys, values=np.array([found[key] for key in keys]).T.reshape(count, -1))


def one_draw(
    constants: Mapping[str, Constant], number: int, seed: int = SEED, book: Book | None = None
) -> dict[str, float]:
    """The constants of one draw, the same as among others."""
    space = sampling.of_constants({k: c for k, c in constants.items() if k not in STAND}, book)
    return space.member(sampling.point(space.inputs, seed, number)[0])


class _Built:
    """The base plant of one route: what stands in all its members."""

    def __init__(self, sheet: Flowsheet) -> None:
        self.sheet = sheet
        self.designs = {n: u.result.design for n, u in sheet.units.items() if u.result.design}
        self.stages = {
            (name, c.name): sum(c.stages[:2])
            for name, u in sheet.units.items()
            for c in u.result.circuits
        }
        self.trimmers: dict[str, TrainTrimmer | BuiltColumns] = {
            name: TrainTrimmer(u.result.design, u.result.circuits)
            for name, u in sheet.units.items()
            if u.result.circuits and u.result.circuits[0].task is not None
        }
        self.trimmers |= {
            name: BuiltColumns(u.result.design)
            for name, u in sheet.units.items()
            if isinstance(u.result.design, AffinityDesign)
        }


@dataclass(eq=False, slots=True)
class _Trims:
    """The built plant as one member's units see it, with the answers found so far."""

    designs: Mapping[str, Any]
    answers: dict[str, Running | AffinityDesign | Failure] = field(default_factory=dict)

    def built(self, unit: str) -> Any:
        """What was designed for a unit when it was built."""
        return self.designs[unit]

    def found(self, unit: str, asks: Any) -> Any:
        """The answer of a unit, or WaitingError until it is there."""
        if unit not in self.answers:
            raise WaitingError(unit, asks)
        answer = self.answers[unit]
        if isinstance(answer, InfeasibleError | ConvergenceError):
            raise answer
        return answer


@dataclass(eq=False, slots=True)
class _Member:
    """One member under way; ``number`` counts the draws from 0."""

    number: int
    book: Book
    liquor: Stream
    context: Context
    trims: _Trims
    done: dict[str, Evaluated] = field(default_factory=dict)
    sheet: Flowsheet | None = None
    account: Account | None = None
    reason: str = ""


def evaluate(
    case: Case,
    book: Book,
    base: State,
    drawn: Drawn,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Told]:
    """Every member by every route that could be designed at the base."""
    built = {name: _Built(sheet) for name, sheet in base.sheets.items()}
    chunks: list[tuple[Route, Drawn]] = []
    count = len(drawn.values)
    largest = min(TOGETHER, math.ceil(count / workers))
    # What gains nothing by company comes last, in small parts: nobody waits long for the others.
    for route in sorted(
        (r for r in case.routes if r.name in built), key=lambda r: not built[r.name].trimmers
    ):
        size = largest if built[route.name].trimmers else min(APART, largest)
        chunks += [
            (route, drawn.part(first, min(first + size, count))) for first in range(0, count, size)
        ]
    total = sum(len(part.values) for _, part in chunks)
    alone = replace(case, memo=Memo()), replace(book, used={})
    read: _Read = {}
    found: dict[str, list[Outcome]] = {name: [] for name in built}
    done = 0

    def tell() -> None:
        if progress:
            progress("computing the plants of all draws", done, total)

    def take(chunk: tuple[Route, Drawn], part: list[Outcome]) -> None:
        nonlocal done
        found[chunk[0].name] += part
        done += len(part)
        tell()

    if workers <= 1 or len(chunks) == 1:
        tell()
        for chunk in chunks:
            take(chunk, outcomes(*alone, built, chunk, read))
    else:
        with helpers(workers, _share, *alone, built) as pool:
            parts = pool.map(_shared, chunks)
            tell()  # while they work, this process is free
            for chunk, part in zip(chunks, parts, strict=True):
                take(chunk, part)
    return {name: _told(own) for name, own in found.items()}


def _told(found: Sequence[Outcome]) -> Told:
    names = dict.fromkeys(name for outcome in found for name in outcome.figures)
    return Told(
        status=tuple(o.status for o in found),
        reasons=tuple(o.reason for o in found),
        figures={name: np.array([o.figures.get(name, np.nan) for o in found]) for name in names},
        closure=max((o.closure for o in found), default=0.0),
    )


# What all chunks of a process work on: it is sent once, and keeps what it has worked out.
_SHARED: list[tuple[Case, Book, Mapping[str, _Built]]] = []
_KNOWN: _Read = {}


def _share(case: Case, book: Book, built: Mapping[str, _Built]) -> None:
    _SHARED[:] = [(case, book, built)]
    _KNOWN.clear()


def _shared(chunk: tuple[Route, Drawn]) -> list[Outcome]:
    return outcomes(*_SHARED[0], chunk, _KNOWN)


def outcomes(
    case: Case, book: Book, built: Mapping[str, _Built], chunk: tuple[Route, Drawn], read: _Read
) -> list[Outcome]:
    """Some members by one route, in the order they were drawn; ``read`` keeps their liquors."""
    route, drawn = chunk
    for i in range(len(drawn.values)):
        if drawn.first + i not in read:
            mine = book.with_values(drawn.of(i))
            read[drawn.first + i] = mine, feed_liquor(case, mine)[1]
    places = range(drawn.first, drawn.first + len(drawn.values))
    books, liquors = [read[k][0] for k in places], [read[k][1] for k in places]
    own = built[route.name]
    return [
        _outcome(own, member) for member in _by_route(case, route, own, books, liquors, drawn.first)
    ]


def standing(case: Case, book: Book, base: State, values: Mapping[str, float]) -> State:
    """The plants that are designed at the base, run at other constants as a member's are.

    What stands and what is found anew is as for members: the figures are those of the member that
    drew ``values``.
    """
    book = book.with_values(values)
    own = replace(book, used={})
    liquor = feed_liquor(case, own)[1]
    state = State(liquor=liquor, feed_used=own.used, failed=dict(base.failed))
    for route in case.routes:
        if route.name not in base.sheets:
            continue
        built = _Built(base.sheets[route.name])
        member = _by_route(case, route, built, [book], [liquor])[0]
        if member.sheet is None or member.account is None:
            state.failed[route.name] = member.reason
        else:
            state.sheets[route.name] = member.sheet
            state.accounts[route.name] = member.account
    return state


def _by_route(
    case: Case,
    route: Route,
    built: _Built,
    books: Sequence[Book],
    liquors: Sequence[Stream],
    first: int = 0,
) -> list[_Member]:
    """Members by one route: each as far as it gets alone, then what they wait for together."""
    members = []
    changed = frozenset(books[0].overrides) if books else frozenset()
    for number, (book, liquor) in enumerate(zip(books, liquors, strict=True), first):
        trims = _Trims(built.designs)
        context = Context(
            products=case.products,
            feed=rare_earths(liquor),
            effluent=case.study.effluent,
            memo=Memo(),
            trims=trims,
        )
        members.append(
            _Member(number=number, book=book, liquor=liquor, context=context, trims=trims)
        )
    going = members
    while going:
        waiting: dict[str, list[tuple[_Member, Any]]] = {}
        for member in going:
            try:
                member.sheet = flowsheet(
                    route,
                    member.liquor,
                    member.context,
                    member.book,
                    built.sheet,
                    changed,
                    member.done,
                )
                member.account = account(member.sheet, route, case.study, member.book)
            except WaitingError as wait:
                waiting.setdefault(wait.unit, []).append((member, wait.asks))
            except (InfeasibleError, ConvergenceError) as error:
                member.reason = str(error)
            except Exception as error:
                # A defect: which plant shows it is lost otherwise.
                error.add_note(f"route {route.name}, draw {member.number}")
                raise
        for unit, asked in waiting.items():
            try:
                answers = built.trimmers[unit].solve([asks for _, asks in asked])
            except Exception as error:
                numbers = [member.number for member, _ in asked]
                error.add_note(f"route {route.name}, {unit}, draws {numbers[0]} to {numbers[-1]}")
                raise
            for (member, _), answer in zip(asked, answers, strict=True):
                member.trims.answers[unit] = answer
        going = [member for asked in waiting.values() for member, _ in asked]
    return members


def _below(reached: float, demanded: float) -> str:
    """What is reached and demanded, with as many digits as tell them apart."""
    digits = next((d for d in range(4, 10) if round(reached, d) < round(demanded, d)), 10)
    return f"{reached:.{digits}f}, demanded {demanded:.4f}"


def _outcome(built: _Built, member: _Member) -> Outcome:
    sheet, booked = member.sheet, member.account
    if sheet is None or booked is None:
        return Outcome(status=MISSES, reason=member.reason)
    closure = max(sheet.closure.values())
    short = [
        f"{product}: {what} {_below(reached, demanded)}"
        for product, entry in booked.products.items()
        for what, (reached, demanded) in entry["missed"].items()
    ]
    if short:
        return Outcome(status=MISSES, reason="; ".join(short), closure=closure)
    longer = any(
        sum(c.stages[:2]) > built.stages[name, c.name]
        for name, unit in sheet.units.items()
        for c in unit.result.circuits
    )
    return Outcome(status=EXTENDED if longer else MEETS, figures=figures(booked), closure=closure)
