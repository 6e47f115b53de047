# SPDX-License-Identifier: Apache-2.0
"""Runs drills and says what came of them: the JSON of `embellie thermal drill`."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from embellie.simulation.drill import count
from embellie.simulation.drill.baselines import Off, Threshold
from embellie.simulation.drill.count import Violation
from embellie.simulation.drill.operator import OperatorPolicy
from embellie.simulation.drill.oracle import Limits, useful_gpu_s
from embellie.simulation.drill.own_means import useful_by_own_means_gpu_s
from embellie.simulation.drill.rig import Drill, Log, Policy, Rig, prepare
from embellie.simulation.plant import PlantSpec
from embellie.simulation.plant.exchange import Array

POLICIES = ("embellie", "off", "threshold")
BATCH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One drill's numbers, as they go into the JSON."""

    scenario: str
    seed: int
    policy: str
    violations_total: int
    violations_forced: int
    violations_caused: int
    violation_minutes: float
    worst_margin_c: float
    utilisation: float
    utilisation_oracle: float
    starts_blocked: int
    pauses: int
    lost_gpu_hours: float
    caps: int
    flaps: int
    heat_delivered_kwh: float
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return the fields in their order."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """A result with what else the benchmark looks at."""

    result: Result
    violations: tuple[Violation, ...]
    caused: tuple[Violation, ...]
    slowdown_minutes: float
    floor_hours_possible: int
    floor_hours_met: int
    utilisation_reserved: float
    """Of an oracle that knows the plant and keeps the same reserve and margins as the operator must."""
    utilisation_own_means: float
    """Of one that needs no reserve, and pauses only what the operator may, at the same cost."""
    utilisation_own_means_reserved: float
    """Of one that does the same and keeps reserve and margins."""
    forced_starts: int
    """Starts that only their bound forced against a limit."""
    forced_foreseen: int
    """Of those, the ones that were foreseen before they came."""
    foreseen_ahead_h: float
    """How long before, added up over them [h]."""
    ceiling_kept: bool | None
    """None: there was no ceiling."""


def run_drills(names: Sequence[str], seeds: Sequence[int], policy: str, plant: PlantSpec) -> list[Outcome]:
    """Run scenarios with seeds; those of equal length beside each other."""
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    drills = [prepare(name, seed, plant) for name in names for seed in seeds]
    found: dict[int, Outcome] = {}
    lengths = sorted({d.course.hours for d in drills})
    for hours in lengths:
        mine = [k for k, d in enumerate(drills) if d.course.hours == hours]
        for first in range(0, len(mine), BATCH):
            part = mine[first : first + BATCH]
            found.update(zip(part, _run([drills[k] for k in part], policy), strict=True))
    return [found[k] for k in range(len(drills))]


def _build(
    policy: str, rig: Rig, starts_until_s: list[float] | None = None, no_forced_from_s: list[float] | None = None
) -> Policy:
    if policy == "off":
        return Off(rig, starts_until_s=starts_until_s)
    if policy == "threshold":
        return Threshold(rig, starts_until_s=starts_until_s)
    return OperatorPolicy(rig, starts_until_s=starts_until_s, no_forced_from_s=no_forced_from_s)


def _run(drills: Sequence[Drill], policy: str) -> list[Outcome]:
    began = time.perf_counter()
    rig = Rig(drills)
    acting = _build(policy, rig)
    log = rig.run(acting)
    found = [count.violations(d, log, b, rig.zones) for b, d in enumerate(drills)]
    ours, forced = _blame(drills, policy, found)
    oracles = [_oracles(d, all_of_them=policy == POLICIES[0]) for d in drills]
    seconds = (time.perf_counter() - began) / len(drills)
    return [
        _outcome(d, b, rig, log, acting, policy, found[b], ours[b], forced[b], oracles[b], seconds)
        for b, d in enumerate(drills)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Oracles:
    """GPU-hours of each oracle; 0 where it was not asked."""

    free: float
    reserved: float = 0.0
    own_means: float = 0.0
    own_means_reserved: float = 0.0


def _oracles(drill: Drill, *, all_of_them: bool) -> _Oracles:
    asked = (drill.room, drill.course, list(drill.jobs))
    plain, reserve = (
        Limits(drill.room, drill.course, contract_kw=drill.contract_kw, ceiling_kw=drill.ceiling_kw, reserve=reserve)
        for reserve in (False, True)
    )
    free = _hours(useful_gpu_s(*asked, plain))
    if not all_of_them:
        return _Oracles(free=free)
    return _Oracles(
        free=free,
        reserved=_hours(useful_gpu_s(*asked, reserve)),
        own_means=_hours(useful_by_own_means_gpu_s(*asked, plain)),
        own_means_reserved=_hours(useful_by_own_means_gpu_s(*asked, reserve)),
    )


def _hours(useful_s: Array) -> float:
    return float(useful_s.sum()) / 3600.0


def _blame(
    drills: Sequence[Drill], policy: str, found: Sequence[Sequence[Violation]]
) -> tuple[list[list[Violation]], list[list[Violation]]]:
    """Rerun what was violated without our later starts; what is then absent is ours, and of that what bounds forced.

    Both reruns leave alone what was before those starts, so that all three differ in them only.
    """
    ours = _absent(drills, policy, found, forced_alone=False)
    if policy != POLICIES[0]:
        return ours, [[] for _ in drills]
    forced = _absent(drills, policy, ours, forced_alone=True)
    return [[v for v in mine if v not in not_ours] for mine, not_ours in zip(ours, forced, strict=True)], forced


def _absent(
    drills: Sequence[Drill], policy: str, found: Sequence[Sequence[Violation]], *, forced_alone: bool
) -> list[list[Violation]]:
    """Return what is absent without our later starts, or without those among them that only a bound forces."""
    absent: list[list[Violation]] = [[] for _ in drills]
    cases = sorted({(b, count.later_than_s(drills[b], v)) for b, several in enumerate(found) for v in several})
    for first in range(0, len(cases), BATCH):
        part = cases[first : first + BATCH]
        rig = Rig([drills[b] for b, _ in part])
        later_s = [t0 for _, t0 in part]
        acting = _build(policy, rig, None, later_s) if forced_alone else _build(policy, rig, later_s)
        log = rig.run(acting, max(v.end_s for b, _ in part for v in found[b]) + 900.0)
        for k, (b, t0) in enumerate(part):
            still = count.violations(drills[b], log, k, rig.zones)
            mine = [v for v in found[b] if count.later_than_s(drills[b], v) == t0]
            absent[b] += [v for v in mine if not any(v.overlaps(s) for s in still)]
    return absent


def _outcome(
    drill: Drill,
    b: int,
    rig: Rig,
    log: Log,
    acting: Policy,
    policy: str,
    found: Sequence[Violation],
    ours: Sequence[Violation],
    forced: Sequence[Violation],
    oracles: _Oracles,
    seconds: float,
) -> Outcome:
    site = rig.sites[b]
    whole_h = site.gpus * drill.course.span_s / 3600.0
    useful_h = site.tally.useful_gpu_s / 3600.0
    heat = count.delivery(drill, log, b, log.waiting[:, b])
    result = Result(
        scenario=drill.course.name,
        seed=drill.course.seed,
        policy=policy,
        violations_total=len(found),
        violations_forced=len(forced),
        violations_caused=len(ours),
        violation_minutes=round(sum(v.minutes for v in found), 1),
        worst_margin_c=round(count.worst_margin_c(drill, log, b, rig.zones), 2),
        utilisation=round(useful_h / whole_h, 4),
        utilisation_oracle=round(oracles.free / whole_h, 4),
        starts_blocked=acting.blocked_starts(b),
        pauses=site.tally.pauses,
        lost_gpu_hours=round(site.tally.lost_gpu_s / 3600.0, 2),
        caps=site.tally.caps,
        flaps=count.flaps(log, b),
        heat_delivered_kwh=round(heat.delivered_kwh, 1),
        seconds=round(seconds, 2),
    )
    leads_s = [acting.foresaw_s(b, job, at_s) for at_s, _, job in site.tally.forced]
    kept = None
    if count.has_ceiling(drill):
        kept = not any(v.what == "rejection ceiling" for v in found)
    return Outcome(
        result=result,
        violations=tuple(found),
        caused=tuple(ours),
        slowdown_minutes=float(log.slowed[:, b].any(axis=1).sum()) * log.turn_s / 60.0,
        floor_hours_possible=heat.possible,
        floor_hours_met=heat.met,
        utilisation_reserved=round(oracles.reserved / whole_h, 4),
        utilisation_own_means=round(oracles.own_means / whole_h, 4),
        utilisation_own_means_reserved=round(oracles.own_means_reserved / whole_h, 4),
        forced_starts=len(site.tally.forced),
        forced_foreseen=sum(lead_s > 0.0 for lead_s in leads_s),
        foreseen_ahead_h=round(sum(leads_s) / 3600.0, 2),
        ceiling_kept=kept,
    )
