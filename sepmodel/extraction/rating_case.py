"""A train as built with what was read and analysed on it: the case file, and its rating."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.extraction import rating, rating_model
from sepmodel.extraction.inputs import CascadeCase, Member, Share, require_stage
from sepmodel.extraction.solve import LEVEL, kernel_inputs, profiles, streams
from sepmodel.fields import Count, Name, Number, Positive, Table, refuse
from sepmodel.result import Profile, Result, Warned, amount
from sepmodel.species import molar_mass, oxide_mass_per_mole

Accuracy = Annotated[float, Number("a relative standard deviation, such as 0.02", above=0, high=1)]
# A fit that chance would make worse less often than this does not describe the train.
_IMPROBABLE = 1e-3


class Assay(Table):
    """A sample of the phase leaving a stage: ``amounts`` of its elements in any one unit.

    ``stage`` counts from 1 inside the section.
    """

    section: Literal["extraction", "scrub"]
    stage: Count
    phase: Literal["aqueous", "organic"]
    amounts: dict[Member, Share] = Field(min_length=2)
    accuracy: Accuracy | None = None


class Reading(Table):
    """A rare-earth flow that was read, in the unit of ``mass_flow``; ``name`` says which.

    "solvent", "scrub", the name of an inlet or a draw, "raffinate" or "loaded_organic".
    """

    name: Name
    value: Positive
    accuracy: Accuracy


class Rate(Table):
    """How measurements are weighted, and what is to be found.

    ``assay`` is the accuracy of samples that name none of their own, and of the feed's analysis;
    ``separation_factor`` that of the factors (0 holds them). ``basis`` is that of all amounts;
    ``efficiencies`` are one a section, one a section and element, or held as the sections say.
    """

    assay: Accuracy
    separation_factor: Annotated[float, Number("a relative accuracy", low=0, high=1)] = 0.0
    basis: Literal["mole", "mass", "oxide-mass"] = "mole"
    efficiencies: Literal["section", "element", "none"] = "section"


class RatingCase(CascadeCase):
    """A cascade as built, and what was measured: its flows are first guesses, its feed analysed."""

    kind: Literal["rating"]  # type: ignore[assignment]
    rate: Rate
    reading: tuple[Reading, ...] = Field(min_length=1)
    assay: tuple[Assay, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _measured_on_the_train(self) -> RatingCase:
        sections: dict[str, int] = {s.name: s.stages for s in self.section}
        seen = set()
        for k, assay in enumerate(self.assay, start=1):
            where = f"assay.{k - 1}"
            require_stage(assay, sections, where)
            self._known(assay.amounts, f"{where}.amounts")
            nothing = [name for name, value in assay.amounts.items() if not value > 0]
            if nothing:
                refuse(
                    f"no {', '.join(nothing)} in the sample",
                    "amounts above 0; leave out what was not found",
                    key=f"{where}.amounts",
                )
            place = (assay.section, assay.stage, assay.phase)
            if place in seen:
                refuse("a sample is repeated", "one sample a stage and phase", str(place), where)
            seen.add(place)
        names = [reading.name for reading in self.reading]
        if len(set(names)) < len(names):
            refuse("a flow is read twice", "one reading a flow", ", ".join(names), "reading")
        return self


def solve_case(case: RatingCase, book: Book) -> Result:
    """The reconciled train: flows, efficiencies, gross errors and the bottleneck.

    Raises
    ------
    InputError, InfeasibleError, ConvergenceError
        as ``rating.rate``.
    """
    first = 1
    sections = []
    for section in case.section:
        sections.append((section.name, first, first + section.stages - 1))
        first += section.stages
    found = rating.rate(
        kernel_inputs(case, book),
        sections,
        [_assay(case, assay) for assay in case.assay],
        [rating_model.Reading(**dict(reading)) for reading in case.reading],
        feed_accuracy=case.rate.assay,
        factor_accuracy=case.rate.separation_factor,
        efficiencies=case.rate.efficiencies,
    )
    if found.freedom < 0:
        raise InputError(
            Problem(
                message="more unknowns than measurements",
                key="assay",
                value=found.measurements,
                expected=f"at least {-found.freedom} more, or fewer efficiencies",
            )
        )
    fed = sum((np.asarray(i.flows) for i in found.inputs.inlets), np.zeros(len(case.components)))
    closures = dict(zip(case.components, found.solved.closure.tolist(), strict=True))
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": "mass-flow",
            "set": case.model.set,
            "level": f"{LEVEL}; reconciled with {found.measurements} measurements",
        },
        solver={"iterations": found.iterations, "residual": float(found.solved.residual)},
        streams=streams(case, found.solved, fed),
        profiles={**profiles(case, found.solved), **_analysed(case)},
        quantities=_quantities(found),
        balance={"components": closures, "max": max(closures.values())},
        warnings=_warnings(found),
        used=book.used,
    )


def _assay(case: RatingCase, assay: Assay) -> rating_model.Assay:
    """A sample in moles, stages counted through the train."""
    amounts = [
        assay.amounts[name] / _unit(case, name) if name in assay.amounts else np.nan
        for name in case.components
    ]
    return rating_model.Assay(
        name=f"{assay.section} {assay.stage} {assay.phase}",
        stage=case.place(assay.section, assay.stage),
        phase=assay.phase,
        amounts=np.array(amounts),
        accuracy=case.rate.assay if assay.accuracy is None else assay.accuracy,
    )


def _unit(case: RatingCase, element: str) -> float:
    """What a mole of an element is on the basis of the amounts."""
    if case.rate.basis == "mass":
        return molar_mass(element)
    return oxide_mass_per_mole(element) if case.rate.basis == "oxide-mass" else 1.0


def _analysed(case: RatingCase) -> dict[str, Profile]:
    """What was analysed, as shares of the elements analysed, on the axes of the profiles."""
    found = {}
    axes: dict[str, Any] = {"stage": range(1, case.stages + 1), "component": case.components}
    for phase, name in (("aqueous", "analysed_aq"), ("organic", "analysed_org")):
        values = np.full((case.stages, len(case.components)), np.nan)
        for given in (a for a in case.assay if a.phase == phase):
            sample = _assay(case, given)
            values[sample.stage - 1] = sample.amounts / np.nansum(sample.amounts)
        found[name] = Profile(unit="1", axes=axes, values=values)
    return found


def _quantities(found: rating.Rating) -> dict[str, Any]:
    """Every reconciled number with its standard error, and how well the whole agrees."""
    tables = {
        "flow": found.flows,
        "feed share": found.feed,
        "efficiency": {" ".join(k).strip(): e for k, e in found.efficiencies.items()},
        "separation factor": found.factors,
    }
    quantities: dict[str, Any] = {}
    for what, table in tables.items():
        for name, estimate in table.items():
            quantities[f"{what} {name}"] = amount(estimate.value, "1")
            if np.isfinite(estimate.error):
                quantities[f"{what} {name}: standard error"] = amount(estimate.error, "1")
            if estimate.read is not None:
                quantities[f"{what} {name}: read"] = amount(estimate.read, "1")
    quantities["chi squared"] = amount(found.chi_squared, "1")
    quantities["degrees of freedom"] = amount(found.freedom, "1")
    quantities["misplaced share of the feed"] = amount(found.misplaced, "1")
    for remedy in found.remedies if found.determined else ():
        quantities[f"misplaced: {remedy.name}"] = amount(remedy.misplaced, "1")
    return quantities


def _warnings(found: rating.Rating) -> list[Warned]:
    """Gross errors, what the data do not tell, a model that does not fit, the bottleneck."""
    from scipy.stats import chi2

    warned = [
        Warned(
            code="gross-error",
            message=f"reads {error.ratio:.3g} times what the other measurements say "
            f"({error.size:.1f} standard errors, {error.limit:.1f} allowed); left out",
            where=error.name,
        )
        for error in found.gross
    ]
    warned += [
        Warned(
            code="not-determined",
            message="these measurements do not tell it; the number shown is one of many",
            where=name,
        )
        for name in found.unknown
    ]
    warned += [
        Warned(
            code="untestable",
            message="nothing else measures the same: a gross error here would not be seen",
            where=name,
        )
        for name in found.untestable
    ]
    chance = float(chi2.sf(found.chi_squared, found.freedom)) if found.freedom > 0 else 1.0
    if chance < _IMPROBABLE:
        warned.append(
            Warned(
                code="poor-fit",
                message=f"chi squared {found.chi_squared:.3g} of {found.freedom} degrees of "
                f"freedom happens by chance in {100 * chance:.1g} % of cases: the accuracies are "
                "too optimistic, or the separation factors do not belong to this train",
            )
        )
    if not found.determined:
        return warned  # a bottleneck would be the arbitrary end of what is not known
    best = found.remedies[0]
    warned.append(
        Warned(
            code="bottleneck",
            message=f"{100 * found.misplaced:.3g} % of the feed leaves with the wrong outlet; "
            f"{best.name}: {100 * best.misplaced:.3g} %",
            where=found.bottleneck,
        )
    )
    return warned
