# SPDX-License-Identifier: Apache-2.0
"""`python -m embellie_testbed.soak`: run seeds one after the other, and fail if any promise was broken."""

import argparse
import random
import sys
from pathlib import Path

from embellie_testbed.controlplane import CommandError
from embellie_testbed.processes import ProgramError
from embellie_testbed.soak.seed import judge_again, run_seed


def main(arguments: list[str] | None = None) -> int:
    """Run the seeds that are named, or so many new ones."""
    parser = argparse.ArgumentParser(prog="python -m embellie_testbed.soak", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many new seeds to run (%(default)s)")
    parser.add_argument("--seed", type=int, action="append", default=[], help="run this one instead; may be repeated")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long each is disturbed (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep logs and audit log of good seeds too")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="judge kept logs again, and run nothing")
    options = parser.parse_args(arguments)
    if options.judge is not None:
        found = judge_again(options.judge)
        print(*found, f"{len(found)} violations", sep="\n")
        return 1 if found else 0
    broken = 0
    for seed in options.seed or random.SystemRandom().sample(range(1000, 1_000_000), options.seeds):
        try:
            verdict = run_seed(seed, options.minutes, keep=options.keep)
        except (ProgramError, CommandError, TimeoutError, OSError) as error:
            # The machine, most often: it judges nothing, and keeps the next one from nothing.
            print(f"seed {seed}: gave up: {error}", flush=True)
            broken += 1
            continue
        count = len(verdict.violations)
        print(f"seed {seed}: {verdict.says}: {f'{count} VIOLATIONS' if count else 'all promises kept'}", flush=True)
        for violation in verdict.violations:
            print(violation, flush=True)
        if verdict.logs is not None:
            print(f"logs: {verdict.logs}", flush=True)
        broken += bool(count)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
