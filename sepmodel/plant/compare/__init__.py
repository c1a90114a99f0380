"""One feed, several routes, one boundary: the same liquor to oxide, every burden charged.

Every route is evaluated for one train of equipment; the plant is rate / train of them, so that no
figure per kilogram depends on the rate while the study's ``train`` stays the same. The range of a
figure comes from members: plants computed with constants drawn all together (``members``). A
ranking of two routes is decided when 95 of 100 members agree on it.
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
    constants_csv,
    csv_text,
    draws_csv,
    quantity,
    rows,
    to_dict,
)
from sepmodel.plant.compare.metrics import (
    ALLOCATIONS,
    METRICS,
    MONEY,
    SLATE,
    Metric,
)
from sepmodel.plant.compare.ranges import Driver, Range, Share
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
    "Driver",
    "Metric",
    "Pair",
    "Range",
    "RouteResult",
    "Share",
    "account",
    "breakdown",
    "compare",
    "constants_csv",
    "csv_text",
    "draws_csv",
    "drivers",
    "estimated",
    "figures",
    "quantity",
    "ranking",
    "rows",
    "to_dict",
]
