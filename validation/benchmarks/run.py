"""Timings of the extraction kernels and of sweeps: python validation/benchmarks/run.py [--quick].

With --dynamics those of trains in time instead, with --batches those of batches alone. Numerical
libraries read their number of threads once, when they are loaded: it is set here, before.
"""

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    here = Path(__file__).parent
    suites = ("suite.py", "members.py")
    for name in ("dynamics", "batches"):
        if f"--{name}" in sys.argv:
            suites = (f"{name}.py",)
    for suite in suites:
        runpy.run_path(str(here / suite), run_name="__main__")
