"""One shake-out of an aqueous feed with a fresh solvent: acid, soap, mixture or neutral."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.contact import Contact, contact
from sepmodel.chemistry.correlation import Correlation
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Solvent:
    """An organic: formal extractant [mol/m3] and mol counter-ion charge per mol extractant."""

    extractant: float
    saponification: float = 0.0

    @property
    def dimer(self) -> float:
        """Total dimer [mol/m3] of an acidic extractant."""
        return self.extractant / 2

    def units(self, constants: ExchangeSet) -> float:
        """What the exchange counts [mol/m3]: dimers of acids, a neutral extractant as it is."""
        monomers = salting(constants) or correlated(constants)
        return self.extractant if monomers else self.dimer


def correlated(constants: ExchangeSet) -> bool:
    """True for a correlation in pH and dosage."""
    return isinstance(constants.model, Correlation)


def salting(constants: ExchangeSet) -> bool:
    """True for a neutral extractant, which takes the anions along."""
    return isinstance(constants.model, ComplexExchange) and constants.model.salting


def shake(
    constants: ExchangeSet,
    feed: Mapping[str, ArrayLike],
    acid: ArrayLike,
    solvent: Solvent,
    *,
    phase_ratio: ArrayLike = 1.0,
    salt: ArrayLike = 0.0,
    sulfate: ArrayLike = 0.0,
) -> Contact:
    """Shake aqueous feeds with a fresh, possibly saponified solvent.

    ``feed`` [mol/m3] by metal and ``acid`` [mol/m3] broadcast against each other. ``salt`` is
    nitrate of cations a neutral extractant does not take (NH4NO3) [mol/m3 of charge]; its acid is
    extracted where the constants hold H. ``sulfate`` [mol/m3] in all goes with a correlation in
    sulfate, whose ``acid`` is titratable acid. InputError where the soap needs more dimer than
    there is (its stoichiometry is data).

    >>> from sepmodel.chemistry import exchange_set
    >>> from sepmodel.data import Book
    >>> constants = exchange_set.load("extractants/li1987-pc88a-ideal", ("Nd",), Book())
    >>> round(float(shake(constants, {"Nd": 100.0}, 10.0, Solvent(extractant=1000.0)).pH), 2)
    0.99
    """
    names = constants.components
    unknown = [name for name in feed if name not in names]
    if unknown:
        raise InputError(
            Problem(message="no constant loaded for", value=", ".join(unknown), expected=str(names))
        )
    if not correlated(constants) and np.any(np.asarray(sulfate) != 0):
        raise InputError(Problem(message="only correlations know sulfate", key="sulfate"))
    if salting(constants):
        return _shake_neutral(constants, feed, acid, solvent, phase_ratio, salt)
    if np.any(np.asarray(salt) != 0):
        raise InputError(
            Problem(message="an acidic extractant knows no salting-out", key="salt", value=salt)
        )
    columns = np.broadcast_arrays(*[np.asarray(feed.get(n, 0.0), dtype=float) for n in names])
    organic = np.zeros(len(names))
    if correlated(constants):
        if solvent.saponification:
            raise InputError(Problem(message="a correlation knows no soap"))
        return contact(
            constants.model,
            feed_aq=np.stack(columns, axis=-1),
            acid=acid,
            dimer=solvent.extractant,
            phase_ratio=phase_ratio,
            sulfate=sulfate,
        )
    if solvent.saponification:
        if not constants.counter_ion:
            raise InputError(
                Problem(message="a saponified solvent needs a counter-ion in its constants")
            )
        charge = constants.model.charge[-1]
        organic[-1] = solvent.saponification * solvent.extractant / charge
        need = organic[-1] * constants.model.dimers[-1] / solvent.dimer
        if need > 1:
            most = charge / (2 * constants.model.dimers[-1])
            raise InputError(
                Problem(
                    message="saponified beyond the soap's stoichiometry",
                    value=solvent.saponification,
                    expected=f"at most {most:.3g} mol/mol with "
                    f"{constants.model.dimers[-1]:g} dimers per {constants.counter_ion}",
                )
            )
    return contact(
        constants.model,
        feed_aq=np.stack(columns, axis=-1),
        acid=acid,
        dimer=solvent.dimer,
        feed_org=organic,
        phase_ratio=phase_ratio,
        activity=constants.activity,
        components=names,
    )


def _shake_neutral(
    constants: ExchangeSet,
    feed: Mapping[str, ArrayLike],
    acid: ArrayLike,
    solvent: Solvent,
    phase_ratio: ArrayLike,
    salt: ArrayLike,
) -> Contact:
    """A neutral extractant: nitrate of the salt and, where it is not extracted, of the acid."""
    if solvent.saponification:
        raise InputError(Problem(message="a neutral extractant forms no soap"))
    names = constants.components
    given: dict[str, ArrayLike] = dict(feed)
    inert = np.asarray(salt, dtype=float)
    protons = np.asarray(acid, dtype=float)
    if "H" in names:
        given["H"] = protons
    else:
        inert = inert + protons
    columns = np.broadcast_arrays(*[np.asarray(given.get(n, 0.0), dtype=float) for n in names])
    found = contact(
        constants.model,
        feed_aq=np.stack(columns, axis=-1),
        acid=inert,
        dimer=solvent.extractant,
        phase_ratio=phase_ratio,
    )
    left = found.conc_aq[..., names.index("H")] if "H" in names else protons
    return replace(found, proton=np.broadcast_to(left, found.proton.shape))


def metal_loading(constants: ExchangeSet, solvent: Solvent, found: Contact) -> Array:
    """Metal held per mol of extractant; soap and nitric acid do not count."""
    metals = [name not in (constants.counter_ion, "H") for name in constants.components]
    loading: Array = found.conc_org[..., metals].sum(axis=-1) / solvent.extractant
    return loading
