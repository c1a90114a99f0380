"""A run of the command line killed at random moments goes on to the same result."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def command(out):
    return [
        sys.executable, "-m", "sepmodel", "run", "control-nd-pr",
        "--set", "time.save_every=0.05 s", "--set", "time.end=300 d",
        "--no-figures", "--quiet", "--out", out, "--json", "-",
    ]  # fmt: skip


@pytest.mark.slow
def test_killed_ten_times(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}

    def finish(out):
        done = subprocess.run(
            command(out), cwd=tmp_path, env=environment, capture_output=True, check=True
        )
        document = json.loads(done.stdout)
        del document["solver"]["seconds"]
        return document

    start = time.monotonic()
    whole = finish("whole")
    took = time.monotonic() - start
    draw = random.Random(5)
    checkpoints = tmp_path / "results" / "checkpoints"
    found = 0
    for attempt in range(10):
        # Every run goes on from the one before: late moments come by themselves.
        run = subprocess.Popen(
            command("killed"), cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(draw.uniform(0.4, 0.9) * took)
        run.send_signal(signal.SIGKILL)
        run.wait()
        kept = list(checkpoints.glob("*.npz"))
        found += bool(kept)
        if attempt % 2:
            assert finish("killed") == whole
            assert not list(checkpoints.glob("*.npz"))
    assert found >= 5
    assert finish("killed") == whole
