# SPDX-License-Identifier: Apache-2.0
"""Drills over many seeds: what the operator lets happen, beside no checks and beside thresholds.

    make bench-thermal                  all drills of a day, seeds 2 to 21, three policies; then the month with seed 2
    SEEDS=3 make bench-thermal          fewer seeds
    BASELINE_SEEDS=5 make bench-thermal fewer seeds for `off` and `threshold` only
    MONTH=0 make bench-thermal          without the month
    JOBS=4 make bench-thermal           so many processes (default: one for each core)

The room and the operator's constants were set up on seeds 0, 1 and 100 and above; none of 2 to 21 was looked at.
Prints one line per scenario and policy, and for each target what was measured and whether it is met.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from embellie.simulation.drill.rig import prepare
from embellie.simulation.drill.run import BATCH, POLICIES, Outcome, run_drills, seconds_to_limit
from embellie.simulation.drill.scenarios import MONTH, SCENARIOS
from embellie.simulation.plant import PlantSpec

_FIRST = 2
_LOSSES = ("loss-of-crac", "loss-of-cdu-pump", "heat-network-trip")


def main() -> int:
    """Run and print."""
    count = int(os.environ.get("SEEDS", "20"))
    others = int(os.environ.get("BASELINE_SEEDS", str(count)))
    out = os.environ.get("OUT")
    plant = PlantSpec()
    days = [name for name in SCENARIOS if name != MONTH]
    found: dict[str, list[Outcome]] = {}
    with ProcessPoolExecutor(int(os.environ.get("JOBS", str(os.cpu_count() or 1)))) as pool:
        for policy in POLICIES:
            began = time.perf_counter()
            seeds = range(_FIRST, _FIRST + (count if policy == POLICIES[0] else others))
            tasks = [pool.submit(_timed, name, seeds, policy) for name in days]
            if os.environ.get("MONTH", "1") != "0":
                tasks.append(pool.submit(_timed, MONTH, range(_FIRST, _FIRST + 1), policy))
            done = [task.result() for task in tasks]
            found[policy] = [outcome for outcomes, _ in done for outcome in outcomes]
            cpu = sum(used for _, used in done)
            wall = time.perf_counter() - began
            print(f"{policy}: {len(found[policy])} drills, {cpu:.0f} s of CPU, {wall:.0f} s in all", flush=True)
    _table(found)
    _targets(found["embellie"], plant)
    if out:
        rows = [outcome.result.as_json() for outcomes in found.values() for outcome in outcomes]
        Path(out).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0


def _timed(name: str, seeds: range, policy: str) -> tuple[list[Outcome], float]:
    cpu = time.process_time()
    return run_drills([name], seeds, policy, PlantSpec()), time.process_time() - cpu


def _table(found: dict[str, list[Outcome]]) -> None:
    print(f"\n{'scenario':18} {'policy':10} {'over':>5} {'forced':>6} {'caused':>6} {'minutes':>8} {'margin K':>8} "
          f"{'used':>6} {'oracle':>6} {'N+1':>6} {'pauses':>6} {'lost h':>8} "
          f"{'flaps':>5} {'slowed min':>10}")  # fmt: skip
    names = list(dict.fromkeys(o.result.scenario for o in found["embellie"]))
    for name in names:
        for policy, outcomes in found.items():
            some = [o for o in outcomes if o.result.scenario == name]
            r = [o.result for o in some]
            print(
                f"{name:18} {policy:10} {sum(x.violations_total for x in r):5} {sum(x.violations_forced for x in r):6} "
                f"{sum(x.violations_caused for x in r):6} {sum(x.violation_minutes for x in r):8.0f} "
                f"{min(x.worst_margin_c for x in r):8.1f} {_mean([100 * x.utilisation for x in r]):6.1f} "
                f"{_mean([100 * x.utilisation_oracle for x in r]):6.1f} "
                f"{_mean([100 * o.utilisation_reserved for o in some]):6.1f} {sum(x.pauses for x in r):6} "
                f"{sum(x.lost_gpu_hours for x in r):8.0f} {sum(x.flaps for x in r):5} "
                f"{sum(o.slowdown_minutes for o in some):10.0f}"
            )


def _targets(ours: Sequence[Outcome], plant: PlantSpec) -> None:
    print()
    caused = sum(o.result.violations_caused for o in ours)
    _say("hard-limit violations caused by our starts", caused, "0", caused == 0)
    forced, foreseen = sum(o.forced_starts for o in ours), sum(o.forced_foreseen for o in ours)
    _say("starts that a bound forced against a limit, and of those foreseen", f"{forced}, {foreseen}", "all",
         forced == foreseen)  # fmt: skip
    flaps = sum(o.result.flaps for o in ours)
    _say("flaps", flaps, "0", flaps == 0)
    gap = _mean([100 * (o.result.utilisation_oracle - o.result.utilisation) for o in ours])
    _say("utilisation below the oracle, mean of all drills [points]", f"{gap:.1f}", "<= 5", gap <= 5.0)
    worst = max(ours, key=lambda o: o.result.utilisation_oracle - o.result.utilisation)
    far = 100 * (worst.result.utilisation_oracle - worst.result.utilisation)
    where = f"{far:.1f} in {worst.result.scenario}, seed {worst.result.seed}"
    _say("the same, worst drill [points]", where, "<= 5", far <= 5.0)
    near = _mean([100 * (o.utilisation_reserved - o.result.utilisation) for o in ours])
    _say("below an oracle that keeps the same reserve (N+1) and margins [points]", f"{near:.1f}", "<= 5", near <= 5.0)
    _losses([o for o in ours if o.result.scenario in _LOSSES], plant)
    possible, met = sum(o.floor_hours_possible for o in ours), sum(o.floor_hours_met for o in ours)
    share = 100 * met / possible if possible else 100.0
    _say("hours in which the heat network got its floor, of those it could [%]", f"{share:.2f}", ">= 99", share >= 99.0)
    held = [o.ceiling_kept for o in ours if o.ceiling_kept is not None]
    kept = 100 * sum(held) / len(held) if held else 100.0
    _say("drills with a ceiling that kept it all the time [%]", f"{kept:.1f}", "100", kept == 100.0)


def _losses(lost: Sequence[Outcome], plant: PlantSpec) -> None:
    """Where there was time to answer a loss of cooling, the hardware must never have had to."""
    control, sensors = plant.control, plant.sensors
    answer_s = sensors.scrape_s + sensors.delay_s + control.turn_s + control.grace_s
    fair = late = slowed = 0
    for first in range(0, len(lost), BATCH):
        part = lost[first : first + BATCH]
        drills = [prepare(o.result.scenario, o.result.seed, plant) for o in part]
        for outcome, seconds in zip(part, seconds_to_limit(drills), strict=True):
            if seconds is not None and seconds <= answer_s:
                late += 1
                print(f"  too fast to answer: {outcome.result.scenario}, seed {outcome.result.seed}: {seconds:.0f} s")
                continue
            fair += 1
            slowed += outcome.slowdown_minutes > 0.0
    _say(
        f"losses of cooling with time to answer ({fair} of {fair + late}) that reached hardware slowdown",
        slowed,
        "0",
        slowed == 0,
    )


def _say(what: str, measured: object, target: str, met: bool) -> None:
    print(f"{'met   ' if met else 'MISSED'} {what}: {measured} (target {target})")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


if __name__ == "__main__":
    sys.exit(main())
