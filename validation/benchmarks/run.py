"""Timings of the extraction kernels: python validation/benchmarks/run.py [--quick | --dynamics].

Numerical libraries read their number of threads once, when they are loaded: it is set here, before.
"""

import os
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    suite = "dynamics.py" if "--dynamics" in sys.argv else "suite.py"
    runpy.run_path(str(Path(__file__).parent / suite), run_name="__main__")
