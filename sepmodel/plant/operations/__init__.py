"""The unit operations a route is made of: plain functions from inlets to outlets and duties.

Each takes the inlet streams by port, the parameters of its table in the route file, the context of
the plant and a book of constants, and returns a ``UnitResult``. Every reagent enters through
``duties`` and is found again, ion by ion, in an outlet: the plant's closure checks it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sepmodel.plant.flowsheet import Operation
from sepmodel.plant.operations.columns import displacement_train, protein_column
from sepmodel.plant.operations.extraction import extraction_train
from sepmodel.plant.operations.liquors import concentrating, conditioning, iron_removal
from sepmodel.plant.operations.product_liquors import by_product, finishing
from sepmodel.plant.operations.spent_liquors import effluent

OPERATIONS: Mapping[str, Operation] = {
    "iron-removal": iron_removal,
    "conditioning": conditioning,
    "concentrating": concentrating,
    "extraction-train": extraction_train,
    "protein-column": protein_column,
    "finishing": finishing,
    "by-product": by_product,
    "displacement-train": displacement_train,
    "effluent": effluent,
}
