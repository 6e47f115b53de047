# SPDX-License-Identifier: Apache-2.0
"""The planner against its targets: `python tests/bench/bench_plan.py [--quick] [--seeds 0,1] [--clock cpu]`.

Prints one row for each instance and target: what was measured, what is to be reached, and whether it was. Exits with 1
where a target is missed. Instances come from `embellie plan bench`'s generator; seeds are not chosen.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

_TARGETS = (
    # jobs, load, future, budget [s], most gap
    (10_000, 0.40, 0.0, 5.0, 0.10),
    (10_000, 0.40, 0.0, 15.0, 0.05),
    (10_000, 0.55, 0.0, 5.0, 0.10),
    (10_000, 0.55, 0.0, 15.0, 0.05),
    (10_000, 0.40, 0.6, 15.0, 0.10),
    (10_000, 0.50, 0.6, 15.0, 0.10),
    (1_000, 0.40, 0.0, 1.0, 0.03),
    (1_000, 0.50, 0.6, 1.0, 0.03),
)
_FIRST_PLAN_S, _MOST_MIB = 1.0, 1024.0


def bench(jobs: int, load: float, future: float, budget: float, seed: int, clock: str) -> dict[str, float]:
    """Run `embellie plan bench` in a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        told = ["--jobs", jobs, "--zones", 4, "--hours", 168, "--load", load, "--future", future, "--seed", seed]
        command = [sys.executable, "-m", "embellie.cli.main", "plan", "bench", *map(str, told)]
        subprocess.run(
            [*command, "--budget", str(budget), "--clock", clock, "--json", str(out)],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=1200,
        )
        found: dict[str, float] = json.loads(out.read_text())
        return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0", help="seeds, with commas between")
    parser.add_argument("--quick", action="store_true", help="instances of 1,000 jobs only")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: where others use the machine")
    told = parser.parse_args()
    print(
        f"{'jobs':>6} {'load':>5} {'future':>6} {'seed':>4} | {'first s':>7} {'gap':>6} | {'s':>6} {'budget':>6} "
        f"{'gap':>6} {'target':>6} | {'no place':>8} {'fifo':>5} {'wrong':>5} {'MiB':>5} |"
    )
    missed = 0
    for jobs, load, future, budget, most in _TARGETS:
        if told.quick and jobs > 1000:
            continue
        for seed in map(int, told.seeds.split(",")):
            n = bench(jobs, load, future, budget, seed, told.clock)
            met = (
                n["gap"] <= most
                and n["seconds"] <= 1.1 * budget
                and n["greedy_seconds"] <= _FIRST_PLAN_S
                and n["unplaced"] <= n["fifo_unplaced"]
                and n["violations"] == 0
                and n["peak_rss_mib"] < _MOST_MIB
            )
            missed += not met
            print(
                f"{jobs:>6} {load:>5.2f} {future:>6.2f} {seed:>4} | {n['greedy_seconds']:>7.2f} "
                f"{n['greedy_gap']:>6.1%} | {n['seconds']:>6.2f} {budget:>6.1f} {n['gap']:>6.2%} {most:>6.1%} | "
                f"{n['unplaced']:>8} {n['fifo_unplaced']:>5} {n['violations']:>5} {n['peak_rss_mib']:>5.0f} | "
                f"{'met' if met else 'MISSED'}",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
