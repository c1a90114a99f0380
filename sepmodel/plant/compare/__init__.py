"""One feed, several routes, one boundary: the same liquor to oxide, every burden charged.

Every route is evaluated for one train of equipment; the plant is rate / train of them, so that no
figure per kilogram depends on the rate while the study's ``train`` stays the same. The range of a
figure comes from the ranges of the constants it rests on: each is moved to its low and its high end
alone, the plant is designed anew, and the swings are combined by the root of the sum of their
squares, upwards and downwards apart, on the logarithm of the figure. A ranking of two routes is
decided when the range of their ratio, under common constants, does not contain one.
"""

from __future__ import annotations

from sepmodel.plant.compare.accounting import (
    LINES,
    PLANT,
    Account,
    Contribution,
    account,
    breakdown,
    figures,
)
from sepmodel.plant.compare.document import (
    BOUNDARY,
    RANGES,
    UNIT_OF_COMPARISON,
    csv_text,
    quantity,
    rows,
    to_dict,
)
from sepmodel.plant.compare.metrics import ALLOCATIONS, METRICS, MONEY, SLATE, Metric
from sepmodel.plant.compare.ranges import Range, Swing
from sepmodel.plant.compare.results import (
    Comparison,
    Pair,
    RouteResult,
    compare,
    drivers,
    estimated,
    ranking,
)

__all__ = [
    "ALLOCATIONS",
    "BOUNDARY",
    "LINES",
    "METRICS",
    "MONEY",
    "PLANT",
    "RANGES",
    "SLATE",
    "UNIT_OF_COMPARISON",
    "Account",
    "Comparison",
    "Contribution",
    "Metric",
    "Pair",
    "Range",
    "RouteResult",
    "Swing",
    "account",
    "breakdown",
    "compare",
    "csv_text",
    "drivers",
    "estimated",
    "figures",
    "quantity",
    "ranking",
    "rows",
    "to_dict",
]
