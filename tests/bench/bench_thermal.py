# SPDX-License-Identifier: Apache-2.0
"""Drills over many seeds: what the operator lets happen, beside no checks and beside thresholds.

    make bench-thermal                  all drills of a day, seeds 2 to 21, three policies; then the month with seed 2
    SEEDS=3 make bench-thermal          fewer seeds
    FIRST_SEED=40 make bench-thermal    other seeds than those of the published table
    SCENARIOS=heatwave,gang-512 ...     only these
    POLICIES=embellie make ...          without what others do, or only that
    MONTH=0 make bench-thermal          without the month
    JOBS=4 make bench-thermal           so many processes (default: one for each core)
    KEEP=drills.jsonl make bench-thermal  keep each drill's numbers there once they are known; what the same code kept
                                        there already is not run again
    TABLE=1 KEEP=drills.jsonl ...       run nothing, print what is kept
    OUT=drills.json make bench-thermal  write all results as `embellie thermal drill --json` does

The room and the operator's constants were set up on seeds 0, 1 and 40 and above. After their table some of 2 to 21
were looked at, and defects mended; 22 and 23 (and heatwave of 24) judged that, 25 and 26, 27 and 28, 29 to 35, 37 to
41, then 42 to 61, 62 to 71, 72 to 79, 80 to 87, (in part) 88 to 93, 94 to 99, what came after. What changes from here
on is for 122 and on (101 to 103 are for development).
Prints one line per scenario and policy, and for each target what was measured and whether it is met.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path

import embellie
from embellie.simulation.drill.drastic import seconds_to_limit, slowed_all_the_same
from embellie.simulation.drill.rig import prepare
from embellie.simulation.drill.run import POLICIES, Outcome, Result, run_drills
from embellie.simulation.drill.scenarios import MONTH, NAMES, SCENARIOS
from embellie.simulation.plant import PlantSpec

_FIRST = 2
_LOSSES = ("loss-of-crac", "loss-of-cdu-pump", "heat-network-trip")
_ORACLES = ("utilisation_own_means", "utilisation_reserved", "utilisation_own_means_reserved")
_NOT_KEPT = ("result", "violations", "caused")
Row = dict[str, object]
Key = tuple[str, int, str]


def main() -> int:
    """Run what is not kept yet, and print."""
    first, count = int(os.environ.get("FIRST_SEED", str(_FIRST))), int(os.environ.get("SEEDS", "20"))
    kept = Path(os.environ["KEEP"]) if "KEEP" in os.environ else None
    names = os.environ.get("SCENARIOS", ",".join(name for name in SCENARIOS if name != MONTH)).split(",")
    wanted = [(name, seed) for name in names for seed in range(first, first + count)]
    if os.environ.get("MONTH", "1") != "0":
        wanted.append((MONTH, first))
    policies = tuple(os.environ.get("POLICIES", ",".join(POLICIES)).split(","))
    code = fingerprint()
    rows = _read(kept, code)
    if os.environ.get("TABLE", "0") == "0":
        _run([(n, s, p) for p in policies for n, s in wanted if (n, s, p) not in rows], rows, kept, code)
    asked = {(n, s) for n, s in wanted}
    found = [row for row in rows.values() if (row["scenario"], row["seed"]) in asked and row["policy"] in policies]
    missing = len(wanted) * len(policies) - len(found)
    if missing:
        print(f"{missing} drills of {len(wanted) * len(policies)} have not been run")
    _table(found)
    _targets([row for row in found if row["policy"] == POLICIES[0]], PlantSpec())
    out = os.environ.get("OUT")
    if out:
        names_out = [f.name for f in fields(Result)]
        Path(out).write_text(json.dumps([{k: row[k] for k in names_out} for row in found], indent=2) + "\n", "utf-8")
    return 0


def fingerprint() -> str:
    """Return what tells apart results of other code: all that a drill runs."""
    root = Path(str(embellie.__file__)).parent
    digest = hashlib.sha256()
    for room in ("domain", "thermal", "simulation/drill", "simulation/plant"):
        for path in sorted((root / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _read(kept: Path | None, code: str) -> dict[Key, Row]:
    rows: dict[Key, Row] = {}
    if kept is not None and kept.exists():
        for line in kept.read_text("utf-8").splitlines():
            row = json.loads(line)
            if row.get("code") == code:
                rows[(row["scenario"], row["seed"], row["policy"])] = row
    return rows


def _run(todo: Sequence[Key], rows: dict[Key, Row], kept: Path | None, code: str) -> None:
    """Run drills and keep each task's rows when it is done.

    Drills of one task advance together, so a task is one scenario with all seeds, or one seed with all scenarios where
    these are more.
    """
    began = time.perf_counter()
    cpu = 0.0
    names, seeds = list(dict.fromkeys(n for n, _, _ in todo)), list(dict.fromkeys(s for _, s, _ in todo))
    tasks: dict[tuple[object, ...], list[tuple[str, int]]] = {}
    for name, seed, policy in todo:
        one = name if name == MONTH or len(seeds) >= len(names) else seed
        tasks.setdefault((one, policy), []).append((name, seed))
    if not tasks:
        return
    with ProcessPoolExecutor(min(len(tasks), int(os.environ.get("JOBS", str(os.cpu_count() or 1))))) as pool:
        running = [pool.submit(_task, wanted, str(policy)) for (_, policy), wanted in tasks.items()]
        for done in as_completed(running):
            found, used = done.result()
            cpu += used
            for row in found:
                row["code"] = code
                rows[(str(row["scenario"]), int(str(row["seed"])), str(row["policy"]))] = row
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(row) + "\n" for row in found)
            what = ", ".join(dict.fromkeys(f"{row['scenario']}" for row in found))
            print(f"{what} under {found[0]['policy']}: {len(found)} drills, {used:.0f} s of CPU", flush=True)
    print(f"{len(todo)} drills, {cpu:.0f} s of CPU, {time.perf_counter() - began:.0f} s in all", flush=True)


def _task(wanted: Sequence[tuple[str, int]], policy: str) -> tuple[list[Row], float]:
    cpu = time.process_time()
    plant = PlantSpec()
    names, seeds = list(dict.fromkeys(n for n, _ in wanted)), list(dict.fromkeys(s for _, s in wanted))
    outcomes = run_drills(names, seeds, policy, plant)
    found = [_row(outcome) for outcome in outcomes]
    lost = [k for k, (name, _) in enumerate(wanted) if policy == POLICIES[0] and name in _LOSSES]
    if lost:
        for k, seconds in zip(lost, seconds_to_limit([prepare(*wanted[k], plant) for k in lost]), strict=True):
            found[k]["seconds_to_limit"] = seconds
    slowed = [k for k in lost if outcomes[k].slowdown_minutes > 0.0]
    if slowed:
        for k, truth in zip(slowed, slowed_all_the_same([prepare(*wanted[k], plant) for k in slowed]), strict=True):
            found[k]["slowed_all_the_same"] = truth
    return found, time.process_time() - cpu


def _row(outcome: Outcome) -> Row:
    others = {f.name: getattr(outcome, f.name) for f in fields(outcome) if f.name not in _NOT_KEPT}
    what = sorted({v.what for v in outcome.caused})
    return {**asdict(outcome.result), **others, "caused": what, "seconds_to_limit": None}


def _sum(rows: Iterable[Mapping[str, object]], name: str) -> float:
    return sum(float(str(row[name])) for row in rows)


def _percent(rows: Sequence[Mapping[str, object]], name: str) -> float:
    return 100.0 * _sum(rows, name) / len(rows) if rows else 0.0


def _table(found: Sequence[Row]) -> None:
    print(f"\n{'scenario':18} {'policy':10} {'runs':>4} {'over':>5} {'forced':>6} {'caused':>6} {'minutes':>8} "
          f"{'margin K':>8} {'used':>6} {'oracle':>6} {'means':>6} {'N+1':>6} {'both':>6} {'pauses':>6} {'lost h':>8} "
          f"{'flaps':>5} {'slowed min':>10}")  # fmt: skip
    for name in [*NAMES, "all"]:
        for policy in POLICIES:
            some = [r for r in found if r["policy"] == policy and (name in (r["scenario"], "all"))]
            if not some:
                continue
            others = [f"{_percent(some, name):6.1f}" if policy == POLICIES[0] else f"{'':6}" for name in _ORACLES]
            print(
                f"{name:18} {policy:10} {len(some):4} {_sum(some, 'violations_total'):5.0f} "
                f"{_sum(some, 'violations_forced'):6.0f} {_sum(some, 'violations_caused'):6.0f} "
                f"{_sum(some, 'violation_minutes'):8.0f} {min(float(str(r['worst_margin_c'])) for r in some):8.1f} "
                f"{_percent(some, 'utilisation'):6.1f} {_percent(some, 'utilisation_oracle'):6.1f} {' '.join(others)} "
                f"{_sum(some, 'pauses'):6.0f} {_sum(some, 'lost_gpu_hours'):8.0f} {_sum(some, 'flaps'):5.0f} "
                f"{_sum(some, 'slowdown_minutes'):10.0f}"
            )


def _targets(ours: Sequence[Row], plant: PlantSpec) -> None:
    print()
    if not ours:
        return
    caused = _sum(ours, "violations_caused")
    _say("hard-limit violations caused by our starts", f"{caused:.0f}", "0", caused == 0)
    forced, foreseen = _sum(ours, "forced_starts"), _sum(ours, "forced_foreseen")
    _say("starts that a bound forced against a limit, and of those foreseen", f"{forced:.0f}, {foreseen:.0f}", "all",
         forced == foreseen)  # fmt: skip
    if foreseen:
        print(f"       those were foreseen {_sum(ours, 'foreseen_ahead_h') / foreseen:.1f} h ahead in the mean")
    flaps = _sum(ours, "flaps")
    _say("flaps", f"{flaps:.0f}", "0", flaps == 0)
    for name, words in (
        ("utilisation_oracle", "below an oracle that needs no reserve"),
        ("utilisation_own_means", "below one that needs none and has the operator's own means"),
        ("utilisation_reserved", "below an oracle that keeps the same reserve (N+1) and margins"),
        ("utilisation_own_means_reserved", "below one that keeps them and has the operator's own means"),
    ):
        gap = _percent(ours, name) - _percent(ours, "utilisation")
        _say(f"utilisation {words}, mean of all drills [points]", f"{gap:.1f}", "<= 5", gap <= 5.0)
        worst = max(ours, key=lambda r: float(str(r[name])) - float(str(r["utilisation"])))
        far = _percent([worst], name) - _percent([worst], "utilisation")
        _say("the same, worst drill [points]", f"{far:.1f} in {worst['scenario']}, seed {worst['seed']}", "<= 5",
             far <= 5.0)  # fmt: skip
    _losses([row for row in ours if row["scenario"] in _LOSSES], plant)
    possible, met = _sum(ours, "floor_hours_possible"), _sum(ours, "floor_hours_met")
    share = 100 * met / possible if possible else 100.0
    _say("hours in which the heat network got its floor, of those it could [%]", f"{share:.2f}", ">= 99", share >= 99.0)
    held = [row["ceiling_kept"] for row in ours if row["ceiling_kept"] is not None]
    kept = 100 * sum(bool(one) for one in held) / len(held) if held else 100.0
    _say("drills with a ceiling that kept it all the time [%]", f"{kept:.1f}", "100", kept == 100.0)


def _losses(lost: Sequence[Row], plant: PlantSpec) -> None:
    """Where there was time to answer a loss of cooling, the hardware must never have had to."""
    control, sensors = plant.control, plant.sensors
    answer_s = sensors.scrape_s + sensors.delay_s + control.turn_s + control.grace_s
    late = [row for row in lost if (s := row["seconds_to_limit"]) is not None and float(str(s)) <= answer_s]
    for row in late:
        print(f"  too fast to answer: {row['scenario']}, seed {row['seed']}: {row['seconds_to_limit']} s")
    fair = [row for row in lost if row not in late]
    slowed = sum(float(str(row["slowdown_minutes"])) > 0.0 for row in fair)
    for row in fair:
        if row.get("slowed_all_the_same"):
            print(f"  no answer would have done: {row['scenario']}, seed {row['seed']}: hardware slows down too where "
                  "all that may be paused is, and the rest capped, at once")  # fmt: skip
    _say(f"losses of cooling with time to answer ({len(fair)} of {len(lost)}) that reached hardware slowdown",
         slowed, "0", slowed == 0)  # fmt: skip


def _say(what: str, measured: object, target: str, met: bool) -> None:
    print(f"{'met   ' if met else 'MISSED'} {what}: {measured} (target {target})")


if __name__ == "__main__":
    sys.exit(main())
