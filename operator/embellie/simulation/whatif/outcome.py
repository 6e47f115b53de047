# SPDX-License-Identifier: Apache-2.0
"""What a schedule cost: the cluster's power curve, its emissions, and how long work waited."""

from dataclasses import dataclass

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.axis import Axis, IntArray
from embellie.simulation.whatif.case import Case, Schedule
from embellie.simulation.whatif.onsite import supply


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PowerCurve:
    """Facility power of the whole cluster, constant between edges."""

    edges: IntArray
    """[ticks], one more than values."""
    busy_gpus: FloatArray
    power_kw: FloatArray
    """Facility power, idle GPUs and overhead included [kW]."""
    idle_kw: FloatArray
    """The part that idle GPUs draw, overhead included [kW]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The account of one replay."""

    carbon_kg: float
    """Of the cluster's power curve: running work, idle GPUs, facility overhead. With plants of its own: of what the
    grid supplies, and what the plants' own kWh count as."""
    embodied_kg: float
    naive_kg: float
    """The sum over jobs, each on its own: what a report by job would claim."""
    naive_at_once_kg: float
    """The same sum had every job started when it came."""
    energy_kwh: float
    own_kwh: float
    """Used of the site's own sun and wind."""
    idle_kwh: float
    peak_kw: float
    mean_wait_gaia_h: float
    """Mean over parts of runs of the time since submission, as GAIA counts it."""
    mean_delay_h: float
    p95_delay_h: float
    max_delay_h: float
    past_bound: int
    jain_delay: float
    gpu_hours: float
    """Of work done: what it takes without a cap."""
    waited_gpu_hours: float
    """Sum over jobs of GPUs times delay."""
    idle_gpu_hours: float
    pauses: int
    finished: int


def power_curve(schedule: Schedule, case: Case, start: int, end: int) -> PowerCurve:
    """Return the cluster's power from `start` to `end` [ticks]."""
    work, site = case.work, case.site
    begins, ends = np.clip(schedule.start, start, end), np.clip(schedule.end, start, end)
    edges = np.unique(np.concatenate(([start, end], begins, ends)))
    first, last = np.searchsorted(edges, begins), np.searchsorted(edges, ends)

    def level(amount: FloatArray) -> FloatArray:
        change = np.zeros(edges.size)
        np.add.at(change, first, amount)
        np.add.at(change, last, -amount)
        # Rounding must not leave a trace of power where nothing runs.
        sums = np.cumsum(change)[:-1]
        return np.where(np.abs(sums) < 1e-9, 0.0, sums)

    busy = level(work.gpus[schedule.job])
    running = level(work.power_kw[schedule.job])
    unused = np.maximum(0.0, site.capacity_gpus - busy) if site.capacity_gpus is not None else np.zeros_like(busy)
    idle = unused * site.idle_kw_per_gpu * site.pue
    return PowerCurve(edges=edges, busy_gpus=busy, power_kw=running * site.pue + idle, idle_kw=idle)


def window(case: Case, *schedules: Schedule) -> tuple[int, int]:
    """Return the ticks over which schedules may be compared: whole slots, to the last end of all of them.

    A window that ended earlier would credit the schedule that has more left to do.
    """
    slot = case.axis.ticks_per_slot
    first = int(case.work.arrival.min()) // slot * slot if case.work.count else 0
    last = max((int(s.end.max()) for s in schedules if s.end.size), default=first + slot)
    return first, -(-last // slot) * slot


def judge(schedule: Schedule, case: Case, span: tuple[int, int]) -> Outcome:
    """Return the account of a schedule over a window that contains it."""
    work, axis, site = case.work, case.axis, case.site
    curve = power_curve(schedule, case, *span)
    grams = axis.grams(curve.edges[:-1], curve.edges[1:])
    hours = np.diff(curve.edges) * axis.tick_h
    carbon_kg, own_kwh = float((curve.power_kw * grams).sum()) / 1000.0, 0.0
    if case.on_site is not None:
        supplied = supply(curve.edges, curve.power_kw, axis, case.on_site)
        carbon_kg, own_kwh = supplied.carbon_kg, supplied.own_kwh
    facility_kw = work.power_kw * site.pue
    parts = axis.grams(schedule.start, schedule.end) * facility_kw[schedule.job]
    at_once = axis.grams(work.arrival, work.arrival + work.length) * facility_kw
    finish = schedule.finish(work.count)
    ran = finish >= 0
    late = (finish - work.arrival - work.length)[ran]
    delays = late.astype(np.float64) * axis.tick_h
    idle_gpus = 0.0
    if site.capacity_gpus is not None:
        idle_gpus = float(((site.capacity_gpus - curve.busy_gpus) * hours).sum())
    gpu_h = float((work.gpus[ran] * work.length[ran]).sum()) * axis.tick_h
    held_h = float((work.gpus[schedule.job] * (schedule.end - schedule.start)).sum()) * axis.tick_h
    waits = (schedule.start - work.arrival[schedule.job]) * axis.tick_h
    return Outcome(
        carbon_kg=carbon_kg,
        embodied_kg=site.embodied_g_per_gpu_h * (held_h + idle_gpus) / 1000.0,
        naive_kg=float(parts.sum()) / 1000.0,
        naive_at_once_kg=float(at_once[ran].sum()) / 1000.0,
        energy_kwh=float((curve.power_kw * hours).sum()),
        own_kwh=own_kwh,
        idle_kwh=float((curve.idle_kw * hours).sum()),
        peak_kw=float(curve.power_kw[hours > 0].max()) if hours.size else 0.0,
        mean_wait_gaia_h=float(waits.mean()) if waits.size else 0.0,
        mean_delay_h=float(delays.mean()) if delays.size else 0.0,
        p95_delay_h=float(np.percentile(delays, 95)) if delays.size else 0.0,
        max_delay_h=float(delays.max()) if delays.size else 0.0,
        past_bound=int((late > work.wait[ran]).sum()),
        jain_delay=jain(_by_tenant(case, delays, ran)),
        gpu_hours=gpu_h,
        waited_gpu_hours=float((work.gpus[ran] * delays).sum()),
        idle_gpu_hours=idle_gpus,
        pauses=int(schedule.job.size - ran.sum()),
        finished=int(ran.sum()),
    )


def jain(values: FloatArray) -> float:
    """Return Jain's fairness index (1984), 1/n..1: (sum x)^2 / (n sum x^2); 1 where nobody waits."""
    squares = float((values * values).sum())
    return float(values.sum()) ** 2 / (values.size * squares) if squares > 0.0 else 1.0


def _by_tenant(case: Case, delays: FloatArray, ran: np.ndarray) -> FloatArray:
    """Return each tenant's mean delay [h]; without tenants each job is its own."""
    names = np.array(case.work.tenants, dtype=object)[ran]
    tenants, index = np.unique(names.astype(str), return_inverse=True)
    if tenants.size <= 1:
        return delays
    means: FloatArray = np.bincount(index, weights=delays) / np.bincount(index)
    return means


def slot_power(curve: PowerCurve, axis: Axis) -> FloatArray:
    """Return the mean facility power of each slot that the curve touches, from its first slot on [kW]."""
    per = axis.ticks_per_slot
    energy = np.concatenate(([0.0], np.cumsum(curve.power_kw * np.diff(curve.edges))))
    first, last = int(curve.edges[0]) // per, -(-int(curve.edges[-1]) // per)
    marks = np.arange(first, last + 1) * per
    means: FloatArray = np.diff(np.interp(marks, curve.edges, energy)) / per
    return means
