# SPDX-License-Identifier: Apache-2.0
"""Watches the demo from outside: the API server, Prometheus and the forecasts, put together into a `Picture`.

It bears witness to what the operator did, so it shares no client, no cache and no parsing with the operator.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from embellie.domain.clock import AcceleratedClock
from embellie.domain.names import API_VERSION
from embellie_testbed.demo.gauges import Gauges
from embellie_testbed.demo.grid import GridTruth, newest_forecast
from embellie_testbed.demo.picture import Counters, HeldPicture, Picture, RowPicture, Said, ZonePicture
from embellie_testbed.demo.record import JobTrack, Record, Spoken
from embellie_testbed.demo.scenario import GPUS_PER_NODE, NODES_PER_ZONE, ROWS, ZONES, Flex, Scenario, ZoneSite
from embellie_testbed.rest import Rest
from embellie_testbed.watch import follow

_FLEXIBLE = {Flex.PATIENT.value, Flex.BONUS.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node stands."""

    zone: str
    row: str


class Observer:
    """Keeps a `Record` up to date and draws pictures of it."""

    def __init__(
        self,
        *,
        connect: Callable[[], Rest],
        namespace: str,
        scenario: Scenario,
        clock: AcceleratedClock,
        truths: Mapping[str, GridTruth],
        places: Mapping[str, Place],
        gauges: Gauges,
        forecasts: Path,
    ) -> None:
        """Prepare; `start` begins to watch."""
        self.record = Record()
        self._scenario, self._clock, self._truths, self._places = scenario, clock, truths, places
        self._gauges, self._forecasts = gauges, forecasts
        self._asked = {job.name: job for job in scenario.jobs}
        self._connect = connect
        self._watched: dict[str, Callable[[str, dict[str, Any], float], None]] = {
            f"/apis/batch/v1/namespaces/{namespace}/jobs": self.record.apply_job,
            f"/api/v1/namespaces/{namespace}/pods": self.record.apply_pod,
            f"/apis/{API_VERSION}/namespaces/{namespace}/workloadplans": self.record.apply_plan,
        }

    def start(self, *, seconds: float) -> None:
        """Begin to watch, and return when every collection has been listed once."""
        self._gauges.start()
        listed = {path: self._watch(path) for path in self._watched}
        deadline = time.monotonic() + seconds
        for path, begun in listed.items():
            if not begun.wait(max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"{path} was not listed within {seconds:.0f} s")

    def _watch(self, path: str) -> threading.Event:
        """Follow a collection as long as the process lives; return what is set once it has been listed."""
        apply, listed = self._watched[path], threading.Event()

        def on_set(found: dict[str, Any]) -> None:
            apply("MODIFIED", found, time.time())

        def on_gone(found: dict[str, Any]) -> None:
            apply("DELETED", found, time.time())

        arguments = (self._connect, path, on_set, on_gone, lambda _: None, listed)
        threading.Thread(target=follow, args=arguments, name=f"watch {path}", daemon=True).start()
        return listed

    def stop(self) -> None:
        """Read no more gauges."""
        self._gauges.stop()

    def clock_time(self, wall: float) -> datetime:
        """Translate a wall-clock time of receipt to the replayed clock."""
        return self._clock.from_wall(datetime.fromtimestamp(wall, UTC))

    def place_of(self, node: str) -> tuple[str, str]:
        """Return the zone and row that a node stands in."""
        place = self._places[node]
        return place.zone, place.row

    def came(self) -> Scenario:
        """Return the scenario as it really came: what was submitted, and when."""
        with self.record.lock:
            return self._scenario.as_it_came(
                {name: self.clock_time(job.created) for name, job in self.record.jobs.items()}
            )

    def unfinished(self) -> int:
        """Return how many submitted jobs have not finished."""
        with self.record.lock:
            return sum(1 for job in self.record.jobs.values() if finished_at(job) is None)

    def picture(self, note: str = "") -> Picture:
        """Draw what is."""
        now = self._clock.now()
        with self.record.lock:
            jobs = list(self.record.jobs.values())
            counters = self._counters(jobs)
            work = self._work(jobs)
            held = tuple(self._held(job) for job in jobs if job.holding)
            said = tuple(self._said(one) for one in self.record.spoken[-40:])
        return Picture(
            now=now,
            begin=self._scenario.begin,
            end_of_arrivals=self._scenario.end_of_arrivals,
            factor=self._clock.factor,
            zones=tuple(self._zone(site, now, work, held) for site in ZONES),
            rows=tuple(
                RowPicture(
                    name=row.name,
                    inlet_c=self._gauges.latest(f"inlet/{row.name}"),
                    limit_c=row.inlet_limit_c,
                    margin_k=row.margin_k,
                    inlet_history_c=self._gauges.history(f"inlet/{row.name}"),
                )
                for row in ROWS
            ),
            held=held,
            said=said,
            counters=counters,
            note=note,
        )

    def _counters(self, jobs: list[JobTrack]) -> Counters:
        finished = sum(1 for job in jobs if finished_at(job) is not None)
        started = sum(1 for job in jobs if job.started is not None)
        held = sum(1 for job in jobs if job.holding)
        readings = [(self._gauges.latest(f"inlet/{row.name}"), row.inlet_limit_c) for row in ROWS]
        return Counters(
            of_all=len(self._scenario.jobs),
            submitted=len(jobs),
            held=held,
            queued=len(jobs) - held - started,
            running=started - finished,
            finished=finished,
            past_bound=sum(1 for job in jobs if self.past_bound(job) is not None),
            over_limit=sum(1 for value, limit in readings if value is not None and value > limit),
        )

    def past_bound(self, job: JobTrack) -> timedelta | None:
        """Return by how much a job was released after its latest start, or is held past it now; None where it was not.

        No tolerance: the release is when the watch event without our marker was received, some milliseconds after it
        was written, so that what is counted errs against the operator. A job that never got a WorkloadPlan is measured
        against what its own labels allow.
        """
        if not job.held:
            return None
        bound = self._bound(job)
        end = self._clock.now() if job.released is None else self.clock_time(job.released)
        return end - bound if end > bound else None

    def _bound(self, job: JobTrack) -> datetime:
        """Return a job's latest start: the promised one, and until there is one what its own labels allow."""
        return job.latest_start or self.clock_time(job.created) + (self._asked[job.name].max_delay or timedelta(0))

    def _work(self, jobs: list[JobTrack]) -> Counter[tuple[str, bool]]:
        """Count the GPUs in use by zone, and whether flexible work uses them."""
        counts: Counter[tuple[str, bool]] = Counter()
        for job in jobs:
            for pod in job.pods.values():
                if pod.running is not None and pod.finished is None and pod.node in self._places:
                    counts[self._places[pod.node].zone, job.flex in _FLEXIBLE] += pod.gpus
        return counts

    def _zone(
        self, site: ZoneSite, now: datetime, work: Counter[tuple[str, bool]], held: tuple[HeldPicture, ...]
    ) -> ZonePicture:
        truth = self._truths[site.name]
        k = truth.index(now)
        ahead = newest_forecast(self._forecasts, site.name)
        return ZonePicture(
            name=site.name,
            place=site.place,
            carbon_g_per_kwh=float(truth.carbon_g_per_kwh[k]),
            renewable_percent=round(100 * float(truth.renewable_share[k])),
            ambient_c=float(truth.ambient_c[k]),
            past=truth.past(now),
            forecast=ahead.hours if ahead else (),
            rung=ahead.rung if ahead else "none yet",
            power_kw=self._gauges.latest(f"power/{site.name}"),
            power_history_kw=self._gauges.history(f"power/{site.name}"),
            contracted_kw=site.contracted_kw,
            gpus=NODES_PER_ZONE * GPUS_PER_NODE,
            gpus_flexible=work[site.name, True],
            gpus_other=work[site.name, False],
            gpus_planned=sum(h.gpus for h in held if h.zone.split(".")[0] == site.name),
        )

    def _held(self, job: JobTrack) -> HeldPicture:
        planned = job.plan.get("plannedStartTime")
        return HeldPicture(
            name=job.name,
            flex=job.flex,
            gpus=self._asked[job.name].gpus,
            zone=job.plan.get("cellName", "") or job.plan.get("gridZoneName", ""),
            planned_start=datetime.fromisoformat(planned) if planned else None,
            latest_start=self._bound(job),
            reason=job.plan.get("reason", "not decided yet"),
        )

    def _said(self, one: Spoken) -> Said:
        return Said(
            when=self.clock_time(one.received),
            workload=one.workload,
            state=one.state,
            message=one.message or one.reason,
        )


def finished_at(job: JobTrack) -> float | None:
    """Return when the last pod of a job ended; None while one runs or is to come."""
    times = [pod.finished for pod in job.pods.values()]
    if not times or None in times or job.completed is None:
        return None
    return max(time for time in times if time is not None)
