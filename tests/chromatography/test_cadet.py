"""Live runs of CADET-Core beside the engine, where a Python with CADET-Core can be found.

Set SEPMODEL_CADET_PYTHON to a Python 3.12 or later with the packages cadet-core and cadet-python
(``pip install cadet-core cadet-python``); without it this file is skipped.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import sepmodel
from sepmodel.chromatography import elution
from sepmodel.chromatography.column import Beads, Bed, Section, simulate
from sepmodel.chromatography.isotherms import Langmuir, Linear, ModulatorLangmuir, StericMassAction
from sepmodel.chromatography.transport import Galerkin

HERE = Path(__file__).parent
PROFILES = HERE.parents[1] / "validation" / "cadet-profiles"
PYTHON = os.environ.get("SEPMODEL_CADET_PYTHON") or (
    sys.executable if importlib.util.find_spec("cadet") else ""
)
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="no CADET-Core: set SEPMODEL_CADET_PYTHON to a Python 3.12 that has it"
)
SCHEME = {"degree": 3, "elements": 16, "shells": 5}


def run_cadet(problems):
    done = subprocess.run(
        [PYTHON, str(HERE / "cadet_runs.py")],
        input=json.dumps(problems),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout[done.stdout.index("[{") :])


def binding(law, rate):
    """CADET-Core's keys of an isotherm."""
    if isinstance(law, Linear):
        kd = np.ones_like(law.coefficient) if rate is None else rate
        return "LINEAR", {"lin_ka": (law.coefficient * kd).tolist(), "lin_kd": kd.tolist()}
    if isinstance(law, Langmuir):
        one = np.ones_like(law.constant).tolist()
        keys = {"mcl_ka": law.constant.tolist(), "mcl_kd": one, "mcl_qmax": law.capacity.tolist()}
        return "MULTI_COMPONENT_LANGMUIR", keys
    if isinstance(law, ModulatorLangmuir):
        keys = {"ka": law.constant, "qmax": law.capacity, "beta": law.beta, "gamma": law.gamma}
        keys = {f"mpm_{k}": v.tolist() for k, v in keys.items()}
        return "MOBILE_PHASE_MODULATOR", {
            **keys,
            "mpm_kd": np.ones_like(law.beta).tolist(),
            "mpm_linear_threshold": 1e-8,
        }
    keys = {"ka": law.constant, "nu": law.charge, "sigma": law.shield}
    keys = {f"sma_{k}": v.tolist() for k, v in keys.items()}
    more = {"sma_kd": np.ones_like(law.charge).tolist(), "sma_lambda": law.capacity}
    return "STERIC_MASS_ACTION", {**keys, **more, "sma_refc0": 1.0, "sma_refq": 1.0}


def problem(bed, law, rate, programme, initial, times, tolerance, repeat=1, scheme=SCHEME):
    """What ``cadet_runs`` reads."""
    model, keys = binding(law, rate)
    count, beads = initial.size, bed.beads
    held = law.loading(initial)
    bound = [0 if isinstance(law, ModulatorLangmuir) and i == 0 else 1 for i in range(count)]
    diffusion = {} if beads.diffusion is None else {"par_diffusion": beads.diffusion.tolist()}
    unit = {
        "unit_type": "LUMPED_RATE_MODEL_WITH_PORES"
        if beads.diffusion is None
        else "GENERAL_RATE_MODEL",
        "ncomp": count,
        "col_length": bed.length,
        "velocity": bed.velocity / bed.void,
        "col_porosity": bed.void,
        "col_dispersion": bed.dispersion,
        "par_radius": beads.radius,
        "par_coreradius": 0.0,
        "par_porosity": beads.porosity,
        "par_surfdiffusion": [0.0] * sum(bound),
        "film_diffusion": beads.film.tolist(),
        **diffusion,
        "adsorption_model": model,
        "nbound": bound,
        "adsorption": {"is_kinetic": int(rate is not None), **keys},
        "init_c": initial.tolist(),
        "init_cp": initial.tolist(),
        "init_q": [float(q) for q, b in zip(held, bound, strict=True) if b],
        "init_cs": [float(q) for q, b in zip(held, bound, strict=True) if b],
    }
    sections, end = [], 0.0
    for part in programme:
        end += part.duration
        slope = np.zeros(count) if part.slope is None else part.slope
        sections.append([end, part.conc.tolist(), slope.tolist()])
    return {
        "unit": unit,
        "sections": sections,
        "times": list(map(float, times)),
        "scheme": scheme,
        "tolerance": tolerance,
        "repeat": repeat,
    }


def shipped(name):
    """Bed, isotherm, rate, programme, contents and times of a case of the reference profiles."""
    case = sepmodel.load(PROFILES / f"{name}.toml").inputs
    names = case.components
    programme = [elution._section(part, names) for part in case.section]
    rate = None if case.rate is None else np.array([case.rate[n] for n in names])
    start = np.array([case.initial.get(n, 0.0) for n in names])
    times = np.arange(0.0, sum(p.duration for p in programme), 20.0)
    return elution.bed(case), elution.isotherm(case), rate, programme, start, times


def modulated(law):
    """Load, wash and a gradient of the modulator on a short column."""
    film = np.full(2, 6.9e-6)
    bed = Bed(
        length=0.02,
        velocity=2e-4,
        void=0.4,
        dispersion=6e-8,
        beads=Beads(radius=4.5e-5, porosity=0.7, film=film),
    )
    programme = [
        Section(duration=60.0, conc=np.array([50.0, 1.0])),
        Section(duration=200.0, conc=np.array([50.0, 0.0])),
        Section(duration=600.0, conc=np.array([100.0, 0.0]), slope=np.array([0.5, 0.0])),
    ]
    return bed, law, None, programme, np.array([50.0, 0.0]), np.arange(0.0, 860.0, 2.0)


CASES = {
    "general rate, lagging": lambda: shipped("general-rate-kinetic"),
    "general rate, equilibrium": lambda: shipped("general-rate-equilibrium"),
    "four competing components": lambda: shipped("lumped-langmuir"),
    "modulator Langmuir, load-wash-elute": lambda: modulated(
        ModulatorLangmuir(
            constant=np.array([0.0, 5e4]),
            capacity=np.array([0.0, 10.0]),
            gamma=np.zeros(2),
            beta=np.array([0.0, 2.0]),
        )
    ),
    "steric mass action, load-wash-elute": lambda: modulated(
        StericMassAction(
            constant=np.array([1.0, 1.0]),
            charge=np.array([1.0, 3.0]),
            shield=np.array([0.0, 10.0]),
            capacity=600.0,
        )
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_column_at_equal_resolution(name, record_property):
    bed, law, rate, programme, start, times = CASES[name]()
    (theirs,) = run_cadet([problem(bed, law, rate, programme, start, times, [1e-8, 1e-6])])
    ours = simulate(
        bed,
        law,
        programme,
        scheme=Galerkin(degree=3, elements=16),
        rate=rate,
        initial=start,
        times=times,
        tolerance=1e-7,
        estimate=False,
    )
    other = np.array(theirs["outlet"])
    gap = (np.abs(ours.outlet - other).max(axis=0) / other.max(axis=0)).max()
    record_property("difference", float(gap))
    print(f"{name}: {gap:.1e} of the peak from CADET-Core {theirs['version']}")
    assert gap < 1e-3


def test_time_to_equal_error():
    """Both at most 1e-3 of the peak from CADET-Core's own P5 x 32; ratio of medians in one run."""
    bed, law, rate, programme, start, times = shipped("lumped-langmuir")
    fine = {"degree": 5, "elements": 32, "shells": 3}
    # Of nine grids with three tolerances the fastest that keeps to 1e-3.
    quick = {"degree": 4, "elements": 12, "shells": 3}
    exact, theirs = run_cadet(
        [
            problem(bed, law, rate, programme, start, times, [1e-9, 1e-7], scheme=fine),
            problem(bed, law, rate, programme, start, times, [1e-6, 1e-4], 5, quick),
        ]
    )
    reference = np.array(exact["outlet"])
    peak = reference.max(axis=0)
    seconds = []
    for _ in range(7):
        begin = time.perf_counter()
        ours = simulate(
            bed,
            law,
            programme,
            scheme=Galerkin(degree=3, elements=16),
            times=times,
            tolerance=1e-4,
            floor=0.1,
            estimate=False,
        )
        seconds.append(time.perf_counter() - begin)
    errors = [
        (np.abs(got - reference).max(axis=0) / peak).max()
        for got in (ours.outlet, np.array(theirs["outlet"]))
    ]
    ratio = float(np.median(seconds) / np.median(theirs["seconds"]))
    print(f"errors {errors[0]:.1e}, {errors[1]:.1e}; time over CADET-Core's {ratio:.2f}")
    assert max(errors) < 1e-3
    assert ratio < 0.5
