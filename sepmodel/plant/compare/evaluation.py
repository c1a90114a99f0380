"""A study evaluated at one set of constants, reusing what a change cannot touch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

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


def evaluate_study(case: Case, book: Book, base: State | None, changed: frozenset[str]) -> State:
    """Evaluate every route at the constants of ``book``; reuse what ``changed`` cannot touch."""
    own = replace(book, used={})
    if base is not None and not changed & base.feed_used.keys():
        state = State(liquor=base.liquor, feed_used=base.feed_used)
    else:
        stream = feed_liquor(case, own)[1]
        state = State(liquor=stream, feed_used=own.used)
    context = Context(
        products=case.products,
        feed=rare_earths(state.liquor),
        effluent=case.study.effluent,
        memo=case.memo,
    )
    for route in case.routes:
        name = route.name
        former = base.sheets.get(name) if base else None
        if base is not None and name in base.failed:
            continue
        sheet = former
        fed_anew = bool(changed & base.feed_used.keys()) if base else True
        if former is None or fed_anew or changed & former.used.keys():
            try:
                sheet = flowsheet(route, state.liquor, context, book, former, changed)
            except (InfeasibleError, ConvergenceError) as error:
                state.failed[name] = str(error)
                continue
            except InputError as error:
                raise error.inside(f"route {name}") from error
        elif base and not changed & base.accounts[name].used.keys():
            state.sheets[name], state.accounts[name] = former, base.accounts[name]
            continue
        assert sheet is not None
        state.sheets[name] = sheet
        state.accounts[name] = account(sheet, route, case.study, book)
    return state


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
