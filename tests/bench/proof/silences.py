# SPDX-License-Identifier: Apache-2.0
"""Work that came and went while nobody scraped: forty minutes' silence laid over every hour of a plant in turn."""

from collections.abc import Iterator
from datetime import timedelta

from embellie.accounting.interval import account_interval
from embellie.accounting.overhead import OverheadModel
from proof import weeks
from proof.metered import INTERVAL, START, Counters, Plant, Seated, Silence
from proof.month import JobResult

SILENT = timedelta(minutes=40)


def unseen_jobs(plant: Plant) -> Iterator[tuple[JobResult, bool]]:
    """Yield each job that lies wholly in a silence, and whether it shared a node unseen."""
    counters = {(node, gpu): plant.counter(node, gpu) for node in plant.nodes for gpu in range(8)}
    for hour in range(24, 24 * (plant.days - 1)):
        away = (timedelta(hours=hour), timedelta(hours=hour) + SILENT)
        inside = [
            one
            for one in plant.seated
            if one.true_kwh > 0.0 and one.run.start >= START + away[0] and one.run.end <= START + away[1]
        ]
        yield from _silence(plant, counters, away, inside)


def _silence(plant: Plant, counters: Counters, away: Silence, jobs: list[Seated]) -> Iterator[tuple[JobResult, bool]]:
    plant.outage = away
    model = OverheadModel.from_pue(weeks.STATED_PUE)
    sums = {one.run.job: [0.0, 0.0, 0.0] for one in jobs}
    touched = set()
    for one in jobs:
        first, last = ((moment - START) // INTERVAL for moment in (one.run.start, one.run.end))
        touched |= {(one.run.zone, k) for k in range(first, last + 1)}
    for zone, k in sorted(touched):
        known = plant.interval(zone, START + k * INTERVAL, model, counters)
        for uid, row in account_interval(known)["adds"]["workloads"].items():
            if uid in sums:
                for n, name in enumerate(("dynamicKwh", "idleKwh", "estimatedKwh")):
                    sums[uid][n] += row[name]
    for one in jobs:
        nodes = {node for node, _, _ in one.seats}
        shared = any(other is not one and nodes & {node for node, _, _ in other.seats} for other in jobs)
        yield JobResult.of(one, *sums[one.run.job]), shared
