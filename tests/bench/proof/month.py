# SPDX-License-Identifier: Apache-2.0
"""A month of a simulated plant, known to the joule, read through meters that reset, fall silent and are noisy.

The accounts are made by the operator's own pure code, interval by interval, and written to a ledger as by the operator.
Hidden from them: each job's true power, the fans' extra draw, and the building's true overhead. What is scraped of a
GPU is up to half a minute old, as its exporter's is, and the end of a pod is noticed up to a turn late.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from embellie.accounting import Run
from embellie.accounting.footprint import energy_uncertainty
from embellie.accounting.interval import account_interval
from embellie.accounting.known import Gang as AccountGang
from embellie.accounting.known import GpuMeter, Machine, Price, Samples, Stay, ZoneInterval
from embellie.accounting.overhead import MIN_HOURS, OverheadModel, fit_overhead
from embellie.control.metering import SILENCE
from embellie.domain.reasons import SignalKind
from embellie.ledger import Draft, Kind, Ledger
from proof import weeks

START = datetime(2021, 5, 31, tzinfo=UTC)
DAYS = 30
TICK_S = 15.0
"""The plant's time: work comes and goes on ticks."""
SCRAPE_TICKS, SCRAPE_OFFSET = 4, 1
"""A scrape a minute, never at a full one."""
OLDEST_TICKS = 2
"""An exporter collects every half a minute: so old is at most what it shows."""
TURN_S = 15.0
INTERVAL = timedelta(minutes=15)
PAD = INTERVAL / 4
IDLE_W, GPU_IDLE_W, FAN_W = 3200.0, 140.0, 450.0
OUTAGE = (timedelta(days=12, hours=3), timedelta(days=12, hours=3, minutes=40))
"""Prometheus was away."""
Silence = tuple[timedelta, timedelta]
Counters = Mapping[tuple[str, int], Any]


@dataclass(slots=True)
class Seated:
    """One gang on real nodes."""

    run: Run
    watts: float
    seats: list[tuple[str, int, int]]
    """Node, first GPU, how many."""
    flex: str
    true_kwh: float = 0.0
    counted_kwh: float = 0.0
    counted_idle_kwh: float = 0.0
    estimated_kwh: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """What one job drew above idle, and what its account says."""

    true_kwh: float
    counted_kwh: float
    hours: float
    estimated: float = 0.0
    """Which share of what its account says was not measured."""

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
    jobs: tuple["JobResult", ...]
    intervals: int
    expected_intervals: int
    doubled: int
    meter_kwh: float


@dataclass(slots=True)
class _Hours:
    it: list[float] = field(default_factory=list)
    meter: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)


def run_month(ledger_path: Path, *, seed: int, days: int = DAYS) -> MonthResult:
    """Let the month happen, account it, and compare with the truth."""
    plant = Plant(days, seed)
    written: set[tuple[str, datetime]] = set()
    doubled = 0
    totals = {"meter": 0.0, "residual": 0.0}
    day_rest: dict[str, list[float]] = {}
    hours: dict[str, _Hours] = {zone: _Hours() for zone in plant.zones}
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
        _learn(hours[known.zone], body)
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
        JobResult(
            true_kwh=one.true_kwh,
            counted_kwh=one.counted_kwh,
            hours=(one.run.end - one.run.start) / weeks.HOUR,
            estimated=min(1.0, one.estimated_kwh / max(1e-9, one.counted_kwh + one.counted_idle_kwh)),
        )
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


def _learn(hours: _Hours, body: Mapping[str, Any]) -> None:
    kwh, seconds = body["adds"]["kwh"], body["adds"]["seconds"]
    if kwh["metered"] > 0 and seconds["nodesMetered"] >= 0.9 * seconds["nodeSeconds"]:
        scale = 3600.0 / seconds["length"]
        hours.it.append((kwh["jobs"] + kwh["idle"]) * scale)
        hours.meter.append(kwh["metered"] * scale)
        hours.warm.append(float(body["ambientC"]))


class Plant:
    """Truth and meters."""

    def __init__(self, days: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.days, self.outage = days, OUTAGE
        self.end = START + timedelta(days=days)
        self.zones = weeks.REGIONS
        self._published, self._ambient = weeks._published(START)
        site = weeks._site(self._published)
        jobs = []
        for part in range(-(-days // 7)):
            begin = START + part * weeks.WEEK
            jobs += weeks._jobs(self._rng, begin, 0.6, seed * 100 + part)
        named = [weeks.replace(job, id=f"{job.id}-{k}") for k, job in enumerate(jobs)]
        self.seated = _seat(weeks.planned(self._rng, named, site, self._published, START), self._rng)
        self.by_uid = {one.run.job: one for one in self.seated}
        self.nodes = {f"{zone}-n{k}": zone for zone in self.zones for k in range(weeks.NODES_PER_ZONE)}
        # Each node's exporter collects at its own time; each end is noticed in some turn after it.
        self._age = {node: int(self._rng.integers(0, OLDEST_TICKS + 1)) for node in self.nodes}
        self._late_s = {uid: float(self._rng.uniform(0.0, TURN_S)) for uid in self.by_uid}
        self._build_truth()
        self._missed = self._rng.random(self._at.size) < 0.02

    def _build_truth(self) -> None:
        """Power of every GPU, node and zone on a fine grid [W]."""
        steps = int(self.days * 86400 / TICK_S) + 1
        self._at = START.timestamp() + np.arange(steps) * TICK_S
        self._gpu = {node: np.full((8, steps), GPU_IDLE_W) for node in self.nodes}
        self._who: dict[str, list[list[tuple[int, int, str]]]] = {node: [[] for _ in range(8)] for node in self.nodes}
        for one in self.seated:
            first = max(0, round((one.run.start.timestamp() - self._at[0]) / TICK_S))
            last = min(steps, round((one.run.end.timestamp() - self._at[0]) / TICK_S))
            if last <= first:
                continue
            wobble = one.watts * (1.0 + 0.08 * np.sin(np.arange(first, last) / 28.0 + sum(map(ord, one.run.job)) % 7))
            for node, gpu, count in one.seats:
                for g in range(gpu, gpu + count):
                    self._gpu[node][g, first:last] = wobble
                    self._who[node][g].append((first, last, one.run.job))
        self._node, self._zone = {}, {zone: np.zeros(steps) for zone in self.zones}
        for node, zone in self.nodes.items():
            above = (self._gpu[node] - GPU_IDLE_W).sum(axis=0)
            full = 8 * (700.0 - GPU_IDLE_W)
            self._node[node] = IDLE_W + 1.03 * above + FAN_W * (above / full) ** 3
            self._zone[zone] += self._node[node]
            share = np.divide(self._node[node] - IDLE_W, above, out=np.zeros(steps), where=above > 0)
            for g in range(8):
                for first, last, uid in self._who[node][g]:
                    drawn = (self._gpu[node][g, first:last] - GPU_IDLE_W) * share[first:last]
                    self.by_uid[uid].true_kwh += float(drawn.sum()) * TICK_S / 3.6e6
        hour = (np.arange(steps) * TICK_S // 3600).astype(int)
        self._facility = {}
        for zone in self.zones:
            warm = self._ambient[zone][hour]
            extra = np.maximum(0.0, warm - 13.0)
            overhead = 1100.0 + self._zone[zone] * (0.06 + 0.006 * extra + 0.00008 * extra**2)
            self._facility[zone] = self._zone[zone] + overhead

    def intervals(self, hours: Mapping[str, _Hours]) -> Iterator[ZoneInterval]:
        """Yield what the accounts see, zone by zone and interval by interval."""
        counters = {(node, g): self._counter(node, g) for node in self.nodes for g in range(8)}
        models = {zone: OverheadModel.from_pue(weeks.STATED_PUE) for zone in self.zones}
        start = START
        while start + INTERVAL <= self.end:
            if start.hour == 0 and start.minute == 0:
                models = {zone: self._model(hours[zone], models[zone]) for zone in self.zones}
            for zone in self.zones:
                yield self._interval(zone, start, models[zone], counters)
            start += INTERVAL

    def _model(self, hours: _Hours, before: OverheadModel) -> OverheadModel:
        if len(hours.it) < 4 * MIN_HOURS:
            return before
        part = slice(-14 * 96, None)
        fitted = fit_overhead(np.array(hours.it[part]), np.array(hours.meter[part]), np.array(hours.warm[part]))
        return fitted or before

    def _counter(self, node: str, gpu: int) -> np.ndarray[Any, Any]:
        """One GPU's energy counter [J], with a reset on some."""
        energy = np.concatenate(([0.0], np.cumsum(self._gpu[node][gpu, :-1] * TICK_S)))
        if self._rng.random() < 0.2:
            at = int(self._rng.integers(1, energy.size - 1))
            energy[at:] -= energy[at]
        return energy

    def _interval(self, zone: str, start: datetime, model: OverheadModel, counters: Counters) -> ZoneInterval:
        kept = self._scraped(start)
        gpus, machines = [], []
        for node, where in self.nodes.items():
            if where != zone:
                continue
            noise = 1.0 + 0.005 * self._rng.standard_normal(kept.size)
            power = Samples(at_s=tuple(self._at[kept]), values=tuple(self._node[node][kept] * noise))
            machines.append(
                Machine(
                    name=node, gpus=8, idle_w=IDLE_W, gpu_idle_w=GPU_IDLE_W, host_share=0.03,
                    product="NVIDIA-H100-80GB-HBM3", power=power,
                )
            )  # fmt: skip
            shown = np.maximum(0, kept - self._age[node])
            for g in range(8):
                samples = Samples(at_s=tuple(self._at[kept]), values=tuple(counters[node, g][shown]))
                holders = [self._holder(node, g, k) for k in shown.tolist()]
                gpus.append(GpuMeter(node=node, samples=samples, counter=True, holders=holders))
        ambient = float(self._ambient[zone][int((start - START) / weeks.HOUR)])
        g_per_kwh = float(self._published[zone].values[int((start - START) / weeks.HOUR)])
        return ZoneInterval(
            zone=zone,
            start=start,
            end=start + INTERVAL,
            machines=tuple(machines),
            gpus=tuple(gpus),
            gangs=self._gangs(zone, start),
            meter=Samples(at_s=tuple(self._at[kept]), values=tuple(self._facility[zone][kept])),
            ambient_c=ambient,
            overhead=model,
            prices=(
                Price(kind=SignalKind.AVERAGE_LIFECYCLE, g_per_kwh=g_per_kwh, quality="measured", source="EIA-930"),
                Price(kind=SignalKind.AVERAGE_DIRECT, g_per_kwh=0.8 * g_per_kwh, quality="measured", source="EIA-930"),
            ),
        )

    def _scraped(self, start: datetime) -> np.ndarray[Any, Any]:
        """Indices of the samples that are read: those of the interval, and where it lies in a silence those around it.

        One sample in fifty is missed, and in the outage all are. The operator waits for its end.
        """
        found = self._kept(start - PAD, start + INTERVAL + PAD)
        at_s = self._at[found]
        early = found.size == 0 or at_s[0] > start.timestamp()
        late = found.size == 0 or at_s[-1] < (start + INTERVAL).timestamp()
        if not early and not late:
            return found
        return self._kept(start - (SILENCE if early else PAD), start + INTERVAL + (SILENCE if late else PAD))

    def _kept(self, first: datetime, last: datetime) -> np.ndarray[Any, Any]:
        low, high = (int((edge - START).total_seconds() / TICK_S) for edge in (first, last))
        index = np.arange(max(0, low), min(self._at.size, high + 1))
        # Of a sample it is once for all decided whether it was missed.
        index = index[(index % SCRAPE_TICKS == SCRAPE_OFFSET) & ~self._missed[index]]
        away = [(START + edge).timestamp() for edge in self.outage]
        return index[(self._at[index] < away[0]) | (self._at[index] > away[1])]

    def _holder(self, node: str, gpu: int, k: int) -> dict[str, float]:
        spans = self._who[node][gpu]
        at = bisect_right(spans, k, key=lambda span: span[0]) - 1
        return {spans[at][2]: 1.0} if at >= 0 and k < spans[at][1] else {}

    def _gangs(self, zone: str, start: datetime) -> tuple[AccountGang, ...]:
        # As the operator: those of just before and after too, of whose energy the samples beyond the edges tell.
        first, last = start - SILENCE, start + INTERVAL + SILENCE
        found = []
        for one in self.seated:
            if one.run.zone != zone or one.run.end <= first or one.run.start >= last:
                continue
            found.append(
                AccountGang(
                    uid=one.run.job,
                    namespace=f"team-{sum(map(ord, one.run.job)) % 4}",
                    name=one.run.job,
                    team=("vision", "language")[sum(map(ord, one.run.job)) % 2],
                    stays=tuple(
                        Stay(
                            node=node,
                            gpus=count,
                            start_s=one.run.start.timestamp(),
                            end_s=one.run.end.timestamp() + self._late_s[one.run.job],
                        )
                        for node, _, count in one.seats
                    ),
                    watts_per_gpu=500.0,
                )
            )
        return tuple(found)

    def cell(self, zone: str, model: OverheadModel, ambient_c: float | None) -> dict[str, Any]:
        """Return the zone's one cell as an account tells it."""
        return {
            "name": zone,
            "nodes": weeks.NODES_PER_ZONE,
            "gpusPerNode": 8,
            "nodeIdleKw": IDLE_W / 1000.0,
            "marginalPue": 1.0 + model.marginal(ambient_c),
        }

    def run_body(self, one: Seated) -> dict[str, Any]:
        """Return a gang's record, as the operator writes it."""
        hours = (one.run.end - one.run.start).total_seconds() / 3600.0
        return {
            "uid": one.run.job,
            "namespace": f"team-{sum(map(ord, one.run.job)) % 4}",
            "kind": "Job",
            "name": one.run.job,
            "flex": one.flex,
            "submitted": one.run.submitted_at,
            "start": one.run.start,
            "end": one.run.end,
            "latestStart": one.run.latest_start,
            "gpus": one.run.gpus,
            "gpusPerPod": max(count for _, _, count in one.seats),
            "cell": one.run.zone,
            "cells": [one.run.zone],
            "addedKw": one.counted_kwh / hours if hours else 0.0,
            "wattsPerGpu": one.watts,
            "meteredGpuHours": one.run.gpus * hours,
            "running": False,
        }


def _seat(runs: tuple[Run, ...], rng: Any) -> list[Seated]:
    """Put gangs on GPUs: first fit on whole nodes, as they were free."""
    free: dict[str, list[list[float]]] = {}
    seated = []
    for run in sorted((_on_ticks(run) for run in runs), key=lambda one: one.start):
        nodes = free.setdefault(run.zone, [[0.0] * 8 for _ in range(weeks.NODES_PER_ZONE)])
        start, end = run.start.timestamp(), run.end.timestamp()
        seats: list[tuple[str, int, int]] = []
        left = run.gpus
        for n, gpus in enumerate(nodes):
            idle = [g for g in range(8) if gpus[g] <= start]
            for g in idle[:left]:
                gpus[g] = end
                seats.append((f"{run.zone}-n{n}", g, 1))
            left -= min(left, len(idle))
            if left == 0:
                break
        seated.append(
            Seated(
                run=run,
                watts=float(rng.uniform(350.0, 690.0)),
                seats=seats,
                flex="patient" if run.latest_start is not None else "rigid",
            )
        )
    return seated


def _on_ticks(run: Run) -> Run:
    """Return a run that comes and goes on ticks: one that follows another still does."""
    start, end = (round((moment - START).total_seconds() / TICK_S) for moment in (run.start, run.end))
    tick = timedelta(seconds=TICK_S)
    return weeks.replace(run, start=START + tick * start, end=START + tick * max(end, start))
