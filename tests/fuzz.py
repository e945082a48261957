"""Draw new inputs for everything that reads what others made, until the minutes are over: `make fuzz`.

Each round has a seed of its own, which is printed; `--seed` repeats one. The smallest input that fails for a seed is
written to `tests/corpus`, which each later run of the tests reads: mend the fault, and commit the input with it.
"""

import argparse
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
DRAWING = (
    "tests/fatescope/data/test_damaged_files.py",
    "tests/fatescope/data/native/test_fuzz.py",
    "tests/service/inference/test_damaged_archives.py",
    "tests/pipelines/ingestion/test_damaged_archives.py",
    "tests/service/api/test_openapi_fuzz.py",
)
NOTHING_FAILED, TESTS_FAILED = 0, 1


def run_round(seed: int, seconds: float | None, options: list[str]) -> int | None:
    """Run the tests that draw with a seed; return the exit code of pytest, None if the time was over before its end."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "fuzz", "--hypothesis-seed", str(seed), *options]
    environment = os.environ | {"FATESCOPE_FUZZ": str(seed)}
    with subprocess.Popen([*command, *DRAWING], cwd=ROOT, env=environment) as tests:
        try:
            return tests.wait(seconds)
        except subprocess.TimeoutExpired:
            tests.terminate()
            return None


def main() -> int:
    """Draw, and return the exit code: 1 if an input has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5, help="how long to draw [default: 5]")
    parser.add_argument("--seed", type=int, help="draw once, with this seed, however long that takes")
    arguments, options = parser.parse_known_args()
    if arguments.seed is not None:
        return run_round(arguments.seed, None, options) or NOTHING_FAILED
    end, failed, rounds = time.monotonic() + 60 * arguments.minutes, list[int](), 0
    while (left := end - time.monotonic()) > 0:
        seed = secrets.randbits(32)
        print(f"seed {seed}", flush=True)
        code = run_round(seed, left, options)
        if code not in {NOTHING_FAILED, TESTS_FAILED, None}:
            return code
        failed += [seed] if code == TESTS_FAILED else []
        rounds += code is not None
    print(
        f"{rounds} whole rounds; "
        + (f"failed for the seeds {failed}: see tests/corpus" if failed else "nothing failed")
    )
    return TESTS_FAILED if failed else NOTHING_FAILED


if __name__ == "__main__":
    sys.exit(main())
