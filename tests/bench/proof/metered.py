# SPDX-License-Identifier: Apache-2.0
"""A simulated plant, known to the joule, read through meters that reset, fall silent and are noisy.

What is scraped of a GPU is up to half a minute old, as its exporter's is, and the end of a pod is noticed up to a turn
late.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from embellie.accounting import Run
from embellie.accounting.known import Gang as AccountGang
from embellie.accounting.known import GpuMeter, Machine, Price, Samples, Stay, ZoneInterval
from embellie.accounting.overhead import MIN_HOURS, OverheadModel, fit_overhead
from embellie.control.recording.metering import SILENCE
from embellie.domain.forecast import FloatArray
from embellie.domain.reasons import SignalKind
from embellie.planning.solving.problem import IntArray
from proof import weeks

START = datetime(2021, 5, 31, tzinfo=UTC)
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
Counters = Mapping[tuple[str, int], FloatArray]


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


@dataclass(slots=True)
class Hours:
    """What a zone's hours have shown, for the model of its overhead."""

    it: list[float] = field(default_factory=list)
    meter: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)

    def learn(self, body: Mapping[str, Any]) -> None:
        """Take in an account; one whose meters covered too little teaches nothing."""
        kwh, seconds = body["adds"]["kwh"], body["adds"]["seconds"]
        if kwh["metered"] > 0 and seconds["nodesMetered"] >= 0.9 * seconds["nodeSeconds"]:
            scale = 3600.0 / seconds["length"]
            self.it.append((kwh["jobs"] + kwh["idle"]) * scale)
            self.meter.append(kwh["metered"] * scale)
            self.warm.append(float(body["ambientC"]))


class Plant:
    """Truth and meters."""

    def __init__(self, days: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.days, self.outage = days, OUTAGE
        self.end = START + timedelta(days=days)
        self.zones = weeks.REGIONS
        self._published, self._ambient = weeks.published_in(START)
        site = weeks.site_on(self._published)
        jobs = []
        for part in range(-(-days // 7)):
            begin = START + part * weeks.WEEK
            jobs += weeks.jobs_of(self._rng, begin, 0.6, seed * 100 + part)
        named = [replace(job, id=f"{job.id}-{k}") for k, job in enumerate(jobs)]
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

    def intervals(self, hours: Mapping[str, Hours]) -> Iterator[ZoneInterval]:
        """Yield what the accounts see, zone by zone and interval by interval."""
        counters = {(node, g): self.counter(node, g) for node in self.nodes for g in range(8)}
        models = {zone: OverheadModel.from_pue(weeks.STATED_PUE) for zone in self.zones}
        start = START
        while start + INTERVAL <= self.end:
            if start.hour == 0 and start.minute == 0:
                models = {zone: self._model(hours[zone], models[zone]) for zone in self.zones}
            for zone in self.zones:
                yield self.interval(zone, start, models[zone], counters)
            start += INTERVAL

    def _model(self, hours: Hours, before: OverheadModel) -> OverheadModel:
        if len(hours.it) < 4 * MIN_HOURS:
            return before
        part = slice(-14 * 96, None)
        fitted = fit_overhead(np.array(hours.it[part]), np.array(hours.meter[part]), np.array(hours.warm[part]))
        return fitted or before

    def counter(self, node: str, gpu: int) -> FloatArray:
        """One GPU's energy counter [J], with a reset on some."""
        energy: FloatArray = np.concatenate(([0.0], np.cumsum(self._gpu[node][gpu, :-1] * TICK_S)))
        if self._rng.random() < 0.2:
            at = int(self._rng.integers(1, energy.size - 1))
            energy[at:] -= energy[at]
        return energy

    def interval(self, zone: str, start: datetime, model: OverheadModel, counters: Counters) -> ZoneInterval:
        """Return what the accounts see of one zone in one interval."""
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

    def _scraped(self, start: datetime) -> IntArray:
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

    def _kept(self, first: datetime, last: datetime) -> IntArray:
        low, high = (int((edge - START).total_seconds() / TICK_S) for edge in (first, last))
        index = np.arange(max(0, low), min(self._at.size, high + 1))
        # Of a sample it is once for all decided whether it was missed.
        index = index[(index % SCRAPE_TICKS == SCRAPE_OFFSET) & ~self._missed[index]]
        away = [(START + edge).timestamp() for edge in self.outage]
        kept: IntArray = index[(self._at[index] < away[0]) | (self._at[index] > away[1])]
        return kept

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


def _seat(runs: tuple[Run, ...], rng: np.random.Generator) -> list[Seated]:
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
    return replace(run, start=START + tick * start, end=START + tick * max(end, start))
