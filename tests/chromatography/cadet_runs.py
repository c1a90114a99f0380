"""Runs of CADET-Core, to be started with a Python that has it: JSON in, JSON out.

Read from stdin: a list of problems, each with ``unit`` (the keys of the column), ``sections``
[[end, start concentrations, slopes], ...], ``times``, ``scheme`` {"degree", "elements", "shells"},
``tolerance`` [absolute, relative] and ``repeat``. Written: for each the ``outlet`` (T, C), the
``seconds`` of every repetition as CADET-Core times itself, and its version.
"""

import json
import sys
import tempfile
from pathlib import Path

from cadet import Cadet


def model(problem):
    """The problem as CADET-Core's input tree."""
    given = Cadet(install_path=sys.prefix)
    root = given.root.input
    count = problem["unit"]["ncomp"]
    root.model.nunits = 3
    inlet, column, outlet = (root.model[f"unit_00{k}"] for k in range(3))
    inlet.unit_type, inlet.ncomp, inlet.inlet_type = "INLET", count, "PIECEWISE_CUBIC_POLY"
    outlet.unit_type, outlet.ncomp = "OUTLET", count
    for key, value in problem["unit"].items():
        if isinstance(value, dict):
            for name, inner in value.items():
                column[key][name] = inner
        else:
            column[key] = value
    column.npartype = 1
    grid = column.discretization
    grid.spatial_method = "DG"
    grid.polydeg, grid.nelem = problem["scheme"]["degree"], problem["scheme"]["elements"]
    grid.par_polydeg, grid.par_nelem = problem["scheme"].get("shells", 3), 1
    grid.par_disc_type = ["EQUIDISTANT_PAR"]
    grid.use_analytic_jacobian, grid.nbound, grid.npartype = 1, column.nbound, 1
    ends = [0.0]
    for k, (end, start, slope) in enumerate(problem["sections"]):
        part = inlet[f"sec_{k:03d}"]
        part.const_coeff, part.lin_coeff = start, slope
        part.quad_coeff = part.cube_coeff = [0.0] * count
        ends.append(end)
    root.solver.sections.nsec = len(ends) - 1
    root.solver.sections.section_times = ends
    root.solver.sections.section_continuity = [0] * (len(ends) - 2)
    root.model.connections.nswitches = 1
    root.model.connections.switch_000.section = 0
    flow = problem.get("flow", 1.0)
    root.model.connections.switch_000.connections = [0, 1, -1, -1, flow, 1, 2, -1, -1, flow]
    solver = root.model.solver
    solver.gs_type, solver.max_krylov, solver.max_restarts, solver.schur_safety = 1, 0, 10, 1e-8
    time = root.solver.time_integrator
    time.abstol, time.reltol = problem["tolerance"]
    time.algtol, time.init_step_size, time.max_steps = 10 * time.abstol, 1e-6, 1_000_000
    root.solver.nthreads = 1
    root.solver.user_solution_times = problem["times"]
    given.root.input["return"].split_components_data = 0
    given.root.input["return"].unit_001.write_solution_outlet = 1
    return given


def main():
    """Run every problem of stdin."""
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        for number, problem in enumerate(json.load(sys.stdin)):
            seconds = []
            for turn in range(problem.get("repeat", 1)):
                run = model(problem)
                run.filename = str(Path(folder) / f"{number}-{turn}.h5")
                run.save()
                ended = run.run_simulation()
                if ended.return_code != 0:
                    raise SystemExit(ended.error_message)
                run.load_from_file()
                seconds.append(float(run.root.meta.time_sim))
            out = run.root.output.solution.unit_001.solution_outlet
            version = run.root.meta.cadet_version
            answers.append(
                {"outlet": out.tolist(), "seconds": seconds, "version": version.decode()}
            )
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
