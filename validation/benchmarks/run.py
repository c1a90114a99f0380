"""Timings of the extraction kernels and of sweeps: python validation/benchmarks/run.py [--quick].

Numerical libraries read their number of threads once, when they are loaded: it is set here, before.
"""

import os
import runpy
from pathlib import Path

if __name__ == "__main__":
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    here = Path(__file__).parent
    for suite in ("suite.py", "members.py"):
        runpy.run_path(str(here / suite), run_name="__main__")
