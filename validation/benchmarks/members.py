"""Members of a sweep per second of processor time against how many are solved together.

From settings and constants to kept answers, everything a worker does; one process, one thread.
"""

import sys
import time

import numpy as np

import sepmodel
from sepmodel.study import jobs, plan

SWEEPS = (
    ("nd-pr-uncertainty", "mass-flow cascade, 60 stages x 2"),
    ("magnet-circuit-levels", "mass-action circuit, 20 stages x 4, organic loop closed"),
)


def rate(planned: plan.Plan, together: int, members: int) -> tuple[float, list[jobs.Outcome]]:
    """Members a second, and what became of them."""
    started = time.process_time()
    found = []
    for first in range(0, members, together):
        chunk = planned.members[first : min(first + together, members)]
        found += jobs.solve_jobs(planned.task, chunk)
    return members / (time.process_time() - started), found


def main() -> None:
    """Print the table; exit code 1 when answers depend on how many are solved together."""
    sizes = (1, 8, 64, 512) if "--quick" in sys.argv else (1, 2, 8, 32, 64, 128, 512, 2048)
    worst = 0.0
    for name, what in SWEEPS:
        settings = {"sweep.design": "sobol", "sweep.samples": max(sizes), "sweep.tornado": False}
        planned = plan.plan(sepmodel.load(name, settings))
        jobs.solve_jobs(planned.task, planned.members[:2])
        alone = None
        print(f"{name}: {what}")
        for together in sizes:
            members = min(max(together, 64), max(sizes))
            per_second, found = rate(planned, together, members)
            answers = np.array([list(o.answers.values()) for o in found], dtype=float)
            solved = sum(o.status == "solved" for o in found)
            alone = answers if alone is None else alone
            shared = min(len(alone), len(answers))
            difference = float(np.nanmax(np.abs(answers[:shared] - alone[:shared])))
            worst = max(worst, difference)
            closure = max(o.closure for o in found if o.closure is not None)
            print(
                f"  {together:>5} together {per_second:>8.0f} members/s; {solved} of {members} "
                f"solved, closure {closure:.0e}, against alone {difference:.0e}"
            )
    sys.exit(int(worst > 1e-10))


if __name__ == "__main__":
    main()
