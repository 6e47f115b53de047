# SPDX-License-Identifier: Apache-2.0
"""A month of a simulated plant, accounted interval by interval and compared with its truth.

The accounts are made by the operator's own pure code and written to a ledger as by the operator. Hidden from them: each
job's true power, the fans' extra draw, and the building's true overhead.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from embellie.accounting.footprint import energy_uncertainty
from embellie.accounting.interval import account_interval
from embellie.ledger import Draft, Kind, Ledger
from proof import weeks
from proof.metered import INTERVAL, START, Hours, Plant, Seated

DAYS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What one job drew above idle, and what its account says."""

    true_kwh: float
    counted_kwh: float
    hours: float
    estimated: float = 0.0
    """Which share of what its account says was not measured."""

    @classmethod
    def of(cls, one: Seated, dynamic_kwh: float, idle_kwh: float, estimated_kwh: float) -> "JobResult":
        """Return what the sums of its account come to."""
        return cls(
            true_kwh=one.true_kwh,
            counted_kwh=dynamic_kwh,
            hours=(one.run.end - one.run.start) / weeks.HOUR,
            estimated=min(1.0, estimated_kwh / max(1e-9, dynamic_kwh + idle_kwh)),
        )

    @property
    def off_percent(self) -> float:
        """How far off the account is."""
        return 100.0 * abs(self.counted_kwh - self.true_kwh) / self.true_kwh

    @property
    def stated_percent(self) -> float:
        """How far off it says that it may be: the uncertainty of its energy and of its ends, as a card has it."""
        return 100.0 * float(np.hypot(*energy_uncertainty(self.estimated, self.hours)))

    @property
    def within(self) -> bool:
        """Whether the truth lies in the interval that a card states around its own figure."""
        return abs(self.counted_kwh - self.true_kwh) <= self.stated_percent / 100.0 * self.counted_kwh


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthResult:
    """What the month came to."""

    residual_percent: float
    worst_day_percent: float
    jobs: tuple[JobResult, ...]
    intervals: int
    expected_intervals: int
    doubled: int
    meter_kwh: float


def run_month(ledger_path: Path, *, seed: int, days: int = DAYS) -> MonthResult:
    """Let the month happen, account it, and compare with the truth."""
    plant = Plant(days, seed)
    written: set[tuple[str, datetime]] = set()
    doubled = 0
    totals = {"meter": 0.0, "residual": 0.0}
    day_rest: dict[str, list[float]] = {}
    hours = {zone: Hours() for zone in plant.zones}
    ledger = Ledger(ledger_path, leader="bench", version="bench")
    cursor = START
    runs_left = sorted(plant.seated, key=lambda one: one.run.end)
    for known in plant.intervals(hours):
        body = account_interval(known)
        key = (known.zone, known.start)
        doubled += key in written
        written.add(key)
        body["cells"] = [plant.cell(known.zone, known.overhead, known.ambient_c)]
        ledger.append([Draft(kind=Kind.ACCOUNT, at=known.end, body=body)])
        hours[known.zone].learn(body)
        kwh = body["adds"]["kwh"]
        totals["meter"] += kwh["metered"]
        totals["residual"] += kwh["unexplained"]
        rest = day_rest.setdefault(known.start.date().isoformat(), [0.0, 0.0])
        rest[0] += kwh["unexplained"]
        rest[1] += kwh["metered"]
        for uid, row in body["adds"]["workloads"].items():
            one = plant.by_uid[uid]
            one.counted_kwh += row["dynamicKwh"]
            one.counted_idle_kwh += row["idleKwh"]
            one.estimated_kwh += row["estimatedKwh"]
        if known.end > cursor:
            cursor = known.end
            done = [one for one in runs_left if one.run.end <= cursor]
            if done:
                ledger.append([Draft(kind=Kind.RUN, at=cursor, body=plant.run_body(one)) for one in done])
                runs_left = runs_left[len(done) :]
        if known.start == START + timedelta(days=20):
            # The operator restarts: another segment, the same file.
            ledger.close()
            ledger = Ledger(ledger_path, leader="bench-2", version="bench")
    ledger.close()
    jobs = tuple(
        JobResult.of(one, one.counted_kwh, one.counted_idle_kwh, one.estimated_kwh)
        for one in plant.seated
        if one.true_kwh > 0.0 and one.run.end <= plant.end
    )
    return MonthResult(
        residual_percent=100.0 * totals["residual"] / totals["meter"],
        worst_day_percent=max(100.0 * abs(a) / b for a, b in day_rest.values() if b),
        jobs=jobs,
        intervals=len(written),
        expected_intervals=len(plant.zones) * int(timedelta(days=days) / INTERVAL),
        doubled=doubled,
        meter_kwh=totals["meter"],
    )
