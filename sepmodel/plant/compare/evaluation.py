"""A study evaluated at one set of constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from sepmodel import feed as feeds
from sepmodel.data import Book, Constant
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError
from sepmodel.plant import economics
from sepmodel.plant.compare.accounting import Account, account
from sepmodel.plant.flowsheet import (
    Context,
    Evaluated,
    Flowsheet,
    Link,
    Memo,
    Unit,
    evaluate,
    liquor,
    rare_earths,
)
from sepmodel.plant.inputs import Route, Study
from sepmodel.plant.operations import OPERATIONS
from sepmodel.processes import shared_out
from sepmodel.products import Product
from sepmodel.stream import Stream

# Relative shortfall of a specification that is taken for rounding.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Case:
    """Everything an evaluation of a study needs beside the constants."""

    study: Study
    routes: tuple[Route, ...]
    products: tuple[Product, ...]
    memo: Memo = field(default_factory=Memo)


@dataclass(eq=False, slots=True)
class State:
    """One evaluation of a study: liquor, flowsheets and accounts by route, and what failed."""

    liquor: Stream
    feed_used: Mapping[str, Constant]
    sheets: dict[str, Flowsheet] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def feed_liquor(case: Case, book: Book) -> tuple[feeds.Feed, Stream]:
    """The feed and its liquor for one train, while the plant runs."""
    feed = feeds.read(case.study.feed, book)
    running = economics.running_rate(case.study.train_size, book)
    stream = feed.liquor(feeds.Rate(value=running, per="TREO"))
    kept = {n: float(m) for n, m in zip(stream.names, stream.moles, strict=True) if n != "H"}
    # Bisulfate is sulfate and free acid; free acid is what electroneutrality leaves.
    bisulfate = kept.pop("HSO4", 0.0)
    if bisulfate:
        kept["SO4"] = kept.get("SO4", 0.0) + bisulfate
    return feed, liquor(kept, stream.flow)


def evaluate_study(case: Case, book: Book, workers: int = 1) -> State:
    """Evaluate every route at the constants of ``book``; so many processes share the routes."""
    own = replace(book, used={})
    state = State(liquor=feed_liquor(case, own)[1], feed_used=own.used)
    evaluated = partial(_evaluated, case, book, state.liquor)
    found = shared_out(evaluated, case.routes, workers)
    for route, answer in zip(case.routes, found, strict=True):
        if isinstance(answer, str):
            state.failed[route.name] = answer
        else:
            state.sheets[route.name], state.accounts[route.name] = answer
    return state


def _evaluated(
    case: Case, book: Book, entering: Stream, route: Route
) -> tuple[Flowsheet, Account] | str:
    """One route: its flowsheet and account, or why there are none."""
    context = Context(
        products=case.products,
        feed=rare_earths(entering),
        effluent=case.study.effluent,
        memo=case.memo,
    )
    try:
        sheet = flowsheet(route, entering, context, book)
    except (InfeasibleError, ConvergenceError) as error:
        return str(error)
    except InputError as error:
        raise error.inside(f"route {route.name}") from error
    return sheet, account(sheet, route, case.study, book)


def flowsheet(
    route: Route,
    entering: Stream,
    context: Context,
    book: Book,
    former: Flowsheet | None = None,
    changed: frozenset[str] = frozenset(),
    done: dict[str, Evaluated] | None = None,
) -> Flowsheet:
    """A route evaluated as ``plant.flowsheet.evaluate`` does."""
    return evaluate(
        [Unit(id=u.id, operate=OPERATIONS[u.type], parameters=u) for u in route.unit],
        [Link(source=_end(k.source), target=_end(k.target)) for k in route.link],
        entering,
        context,
        book,
        base=former,
        changed=changed,
        done=done,
    )


def _end(text: str) -> tuple[str, str]:
    unit, _, port = text.partition(".")
    return unit, port


def ranged(base: State) -> dict[str, Constant]:
    """The constants with a range that anything in the comparison read."""
    used: dict[str, Constant] = dict(base.feed_used)
    for name, sheet in base.sheets.items():
        used.update(sheet.used)
        used.update(base.accounts[name].used)
    return {
        key: constant
        for key, constant in sorted(used.items())
        if constant.si_range[0] < constant.si_range[1]
    }


def misses(sheet: Flowsheet, of: Mapping[str, float]) -> bool:
    """Whether figures miss the purity or the recovery of a product."""
    return any(
        of[f"{product.name}/{what}"] < demanded * (1 - ROUNDING)
        for product in sheet.context.products
        for what, demanded in (("purity", product.purity), ("recovery", product.recovery))
    )
