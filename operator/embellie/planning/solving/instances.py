# SPDX-License-Identifier: Apache-2.0
"""Synthetic instances for benchmarks and tests: the same arguments always give the same instance."""

import numpy as np

from embellie.planning.solving.inputs import make_jobs, make_zones
from embellie.planning.solving.problem import Problem

UNPLACED_KG_PER_KWH = 1.5
POWER_CAP_KW_PER_GPU = 0.5
AFTERNOON_DERATING = 0.25
LONGEST_H = 96
_SIZES = np.array([1, 2, 4, 8, 16, 32, 64])
_SIZE_SHARE = np.array([0.60, 0.15, 0.10, 0.12, 0.02, 0.008, 0.002])
_KW_PER_GPU = np.array([0.30, 0.40, 0.50, 0.60])


def random_instance(
    *, jobs: int, zones: int, hours: int, load: float, future: float, seed: int, pausable: float = 0.6
) -> Problem:
    """Return an instance with slots of an hour whose objective is grams of CO2e.

    Gangs of 1 to 64 GPUs, 1 h to 96 h long (lognormal), 0.3 to 0.6 kW per GPU, each allowed in 1..`zones` zones (with
    four zones 2.5 in the mean), slack 6 to 72 h, `pausable` of them interruptible at no cost. Zones differ in size and
    grid; each may draw 0.5 kW per GPU, a quarter less in the afternoon (12 to 18 h). A job without a place costs
    1.5 kg per kWh of its energy.

    Args:
        jobs: How many.
        zones: How many.
        hours: Slots of an hour.
        load: GPU-hours asked for over GPU-hours there are, above 0; zones have 64 GPUs in the mean at least.
        future: Share of jobs that are released later than now, 0..1; their windows fill the horizon evenly.
        seed: Another seed gives another instance.
        pausable: Share of jobs that may be interrupted, 0..1.
    """
    if jobs < 0 or zones < 1 or hours < 8 or not load > 0 or not 0 <= future <= 1 or not 0 <= pausable <= 1:
        raise ValueError("an instance needs 0 or more jobs, a zone, 8 hours, a load above 0 and shares in 0..1")
    rng = np.random.default_rng(seed)
    gpus = rng.choice(_SIZES, jobs, p=_SIZE_SHARE / _SIZE_SHARE.sum()).astype(np.float64)
    most = min(LONGEST_H, max(1, hours - 6))
    length = np.clip(np.ceil(rng.lognormal(np.log(2.5), 1.5, jobs)), 1, most).astype(np.int64)
    slack = np.minimum(rng.integers(6, 73, jobs), hours - length)
    release = np.where(rng.random(jobs) < future, np.floor(rng.random(jobs) * (hours - length - slack + 1)), 0)
    release = release.astype(np.int64)
    kw_per_gpu = rng.choice(_KW_PER_GPU, jobs)
    order = rng.random((jobs, zones)).argsort(axis=1).argsort(axis=1)
    allowed = order < rng.integers(1, zones + 1, jobs)[:, None]
    may_pause = rng.random(jobs) < pausable
    share = rng.uniform(0.7, 1.3, zones)
    total = max(float((gpus * length).sum()) / (load * hours), 64.0 * zones)
    capacity = np.ceil(total * share / share.sum())
    hour = np.arange(hours)
    afternoon = (hour % 24 >= 12) & (hour % 24 < 18)
    cap = POWER_CAP_KW_PER_GPU * capacity[:, None] * np.where(afternoon, 1.0 - AFTERNOON_DERATING, 1.0)
    energy = gpus * kw_per_gpu * length
    return Problem(
        edges_h=np.arange(hours + 1, dtype=np.float64),
        zones=make_zones(
            cost_per_kwh=_intensity(rng, zones, hours),
            gpus=np.broadcast_to(capacity[:, None], (zones, hours)),
            heat_kw=cap,
        ),
        jobs=make_jobs(
            gpus=gpus,
            power_kw=gpus * kw_per_gpu,
            duration_h=length.astype(np.float64),
            unplaced_cost=1000.0 * UNPLACED_KG_PER_KWH * energy,
            n_zones=zones,
            n_slots=hours,
            release=release,
            latest_start=release + slack,
            deadline=release + length + slack,
            zones=allowed,
            pausable=may_pause,
        ),
    )


def _intensity(rng: np.random.Generator, zones: int, hours: int) -> np.ndarray:
    """Return carbon intensities: a solar dip, an evening peak, weather that lasts for days, by zone [g/kWh]."""
    hour = np.arange(hours)
    rows = []
    for zone in range(zones):
        base = rng.uniform(150, 450)
        solar = rng.uniform(0.1, 0.5) * np.clip(np.sin((hour % 24 - 6) / 12 * np.pi), 0, None)
        evening = 0.15 * np.exp(-(((hour % 24) - 19.5) ** 2) / 8)
        weather = np.empty(hours)
        level = rng.normal()
        for t in range(hours):
            weather[t] = level
            level = 0.97 * level + rng.normal() * np.sqrt(1 - 0.97**2)
        rows.append(np.clip(base * (1.0 + 0.2 * weather - solar + evening), 10.0, 1500.0))
        del zone
    return np.array(rows)
