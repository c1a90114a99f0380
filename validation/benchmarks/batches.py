"""Members per second of the batch kernels against batch size, and large batches on two cores.

    python validation/benchmarks/run.py --batches [--quick]

Mass action: the magnet circuit of 60 stages (25 extraction, 27 scrub, 8 strip; Pr, Nd, Tb, Dy and
sodium; organic loop closed). Narrow spread: every flow by 0.1 %; wide: flows by 0.5 %, the
separation factors of neighbours by 5 %, the levels of the rare earths and of sodium by 0.3 in ln K
(one standard deviation of a normal in the logarithm each).
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from suite import mass_flow, mass_flow_chunk

import sepmodel
from sepmodel.data import Book
from sepmodel.extraction import cascade, circuit, circuit_batch, circuit_solve

CASE = Path(__file__).parent / "cases" / "magnet-60.toml"
CASCADES = (("45 x 2", 24, 21, (2.0, 1.0)), ("60 x 4", 30, 30, (6.0, 3.0, 1.5, 1.0)))


def members(base: circuit.CircuitInputs, size: int, *, wide: bool) -> circuit.CircuitInputs:
    """The circuit with flows, and if wide constants, drawn at random."""
    rng = np.random.default_rng(1)
    metals = len(base.components) - 1

    def flow(value: object) -> np.ndarray:
        return np.asarray(value) * np.exp(rng.normal(0.0, 0.005 if wide else 0.001, size))

    shift = np.zeros((size, metals + 1))
    if wide:
        shift[:, 1:metals] = np.cumsum(rng.normal(0.0, 0.05, (size, metals - 1)), axis=1)
        shift[:, :metals] += rng.normal(0.0, 0.3, (size, 1))
        shift[:, metals] = rng.normal(0.0, 0.3, size)
    return replace(
        base,
        organic_flow=flow(base.organic_flow),
        inlets=tuple(replace(i, flow=flow(i.flow)) for i in base.inlets),
        log_k_shift=shift,
    )


def spent(work: Callable[[], object]) -> tuple[float, float, object]:
    """CPU seconds of this process, wall seconds, and what came out."""
    cpu, wall = time.process_time(), time.perf_counter()
    out = work()
    return time.process_time() - cpu, time.perf_counter() - wall, out


def main() -> None:
    quick = "--quick" in sys.argv
    inputs = circuit_solve.assemble(sepmodel.load(CASE).inputs, Book()).inputs
    sizes = (1, 8, 32, 128, 512) if quick else (1, 2, 8, 32, 128, 512, 2048)
    reference = circuit.solve(inputs)
    print("members per second of CPU, one process")
    titles = ("members", "narrow 60 x 4", "wide 60 x 4", "flow 45 x 2", "flow 60 x 4")
    print("".join(f"{title:>14}" for title in titles))
    for size in sizes:
        row = []
        for wide in (False, True):
            batch = members(inputs, size, wide=wide)
            repeat = max(1, 64 // size)
            work = lambda b=batch, k=repeat: [  # noqa: E731
                circuit_batch.solve(b, base=reference) for _ in range(k)
            ]
            row.append(size * repeat / spent(work)[0])
        for _, n, m, beta in CASCADES:
            batch = mass_flow(size, n, m, beta)
            work = lambda b=batch, k=repeat: [  # noqa: E731
                cascade.solve(b, failures="record") for _ in range(k)
            ]
            row.append(size * repeat / spent(work)[0])
        print(f"{size:>14}" + "".join(f"{value:>14.0f}" for value in row))
    count = 1000 if quick else 10_000
    for wide, limit in ((False, 5), (True, 30)):
        batch = members(inputs, count, wide=wide)
        cpu, _, found = spent(lambda b=batch: circuit_batch.solve(b))
        closure = max(float(np.nanmax(v)) for v in found.closure.values())
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(abs, range(4)))
            _, wall, _ = spent(lambda b=batch, p=pool: circuit_batch.solve(b, executor=p))
        print(
            f"{count} circuits, {'wide' if wide else 'narrow'}: {cpu:.1f} s CPU in one process, "
            f"{wall:.1f} s wall with two (target {limit} s for 10000); "
            f"{int((~found.converged).sum())} unsolved, "
            f"{int((found.fallbacks > 0).sum())} retried, closure {closure:.0e}"
        )
    for (what, n, m, beta), limit in zip(CASCADES, (10, 40), strict=True):
        size, chunks = (1000, 4) if quick else (5000, 20)
        with ProcessPoolExecutor(2) as pool:
            list(pool.map(abs, range(4)))
            calls = [(size, n, m, beta)] * chunks
            _, wall, solved = spent(lambda p=pool, c=calls: sum(p.map(mass_flow_chunk, c)))
        cpu = spent(lambda a=calls[0]: mass_flow_chunk(a))[0] / size
        print(
            f"{size * chunks} cascades {what}: {1e6 * cpu:.0f} us CPU a member, {wall:.1f} s wall "
            f"with two processes (target {limit} s for 100000), {size * chunks - solved} unsolved"
        )


if __name__ == "__main__":
    main()
