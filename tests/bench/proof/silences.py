# SPDX-License-Identifier: Apache-2.0
"""Work that came and went while nobody scraped: forty minutes' silence laid over every hour of a plant in turn."""

from collections.abc import Iterator
from datetime import timedelta

from embellie.accounting.interval import account_interval
from embellie.accounting.overhead import OverheadModel
from proof import month, weeks

SILENT = timedelta(minutes=40)


def unseen_jobs(plant: month.Plant, every: int) -> Iterator[tuple[month.JobResult, bool]]:
    """Yield each job that lies wholly in a silence, of every so many silences, and whether it shared a node unseen."""
    counters = {(node, gpu): plant._counter(node, gpu) for node in plant.nodes for gpu in range(8)}
    found = []
    for hour in range(24, 24 * (plant.days - 1)):
        away = (timedelta(hours=hour), timedelta(hours=hour) + SILENT)
        inside = [
            one
            for one in plant.seated
            if one.true_kwh > 0.0 and one.run.start >= month.START + away[0] and one.run.end <= month.START + away[1]
        ]
        if inside:
            found.append((away, inside))
    for away, inside in found[::every]:
        yield from _silence(plant, counters, away, inside)


def _silence(
    plant: month.Plant, counters: month.Counters, away: month.Silence, jobs: list[month.Seated]
) -> Iterator[tuple[month.JobResult, bool]]:
    plant.outage = away
    model = OverheadModel.from_pue(weeks.STATED_PUE)
    sums = {one.run.job: [0.0, 0.0, 0.0] for one in jobs}
    touched = set()
    for one in jobs:
        first, last = ((moment - month.START) // month.INTERVAL for moment in (one.run.start, one.run.end))
        touched |= {(one.run.zone, k) for k in range(first, last + 1)}
    for zone, k in sorted(touched):
        known = plant._interval(zone, month.START + k * month.INTERVAL, model, counters)
        for uid, row in account_interval(known)["adds"]["workloads"].items():
            if uid in sums:
                for n, name in enumerate(("dynamicKwh", "idleKwh", "estimatedKwh")):
                    sums[uid][n] += row[name]
    for one in jobs:
        dynamic, idle, estimated = sums[one.run.job]
        nodes = {node for node, _, _ in one.seats}
        shared = any(other is not one and nodes & {node for node, _, _ in other.seats} for other in jobs)
        hours = (one.run.end - one.run.start) / weeks.HOUR
        part = min(1.0, estimated / max(1e-9, dynamic + idle))
        yield month.JobResult(true_kwh=one.true_kwh, counted_kwh=dynamic, hours=hours, estimated=part), shared
