# SPDX-License-Identifier: Apache-2.0
"""Making problems out of few arrays, refusing bad ones, and moving prices to another time axis."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from embellie.domain.forecast import FloatArray
from embellie.planning.solving.problem import BoolArray, IntArray, Jobs, Prices, Problem, Zones

MOST_SLOTS = 4095
_BIG = 1e12
_SIGNED = ("priority", "tenant_rank", "unplaced_cost")


def make_jobs(
    *,
    gpus: npt.ArrayLike,
    power_kw: npt.ArrayLike,
    duration_h: npt.ArrayLike,
    unplaced_cost: npt.ArrayLike,
    n_zones: int,
    n_slots: int,
    **others: npt.ArrayLike | None,
) -> Jobs:
    """Return jobs with neutral values for what is not told: free to start in any zone and slot, not pausable.

    `others` are further fields of `Jobs`; None counts as not told.
    """
    sizes = np.asarray(gpus, dtype=np.float64).reshape(-1)
    count = sizes.shape[0]
    told = {name: value for name, value in others.items() if value is not None}
    unknown = set(told) - set(Jobs.__slots__)
    if unknown:
        raise ValueError(f"jobs have no field {', '.join(sorted(unknown))}")

    def real(value: npt.ArrayLike) -> FloatArray:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (count,)).copy()

    def whole(name: str, default: int) -> IntArray:
        return np.broadcast_to(np.asarray(told.get(name, default), dtype=np.int64), (count,)).copy()

    power, hours = real(power_kw), real(duration_h)
    zones = np.asarray(told.get("zones", True), dtype=bool)
    return Jobs(
        gpus=sizes.copy(),
        power_kw=power,
        limit_kw=real(told.get("limit_kw", power)),
        duration_h=hours,
        limit_h=real(told.get("limit_h", hours)),
        release=whole("release", 0),
        latest_start=whole("latest_start", max(0, n_slots - 1)),
        deadline=whole("deadline", n_slots),
        zones=np.broadcast_to(zones, (count, n_zones)).copy(),
        pausable=np.broadcast_to(np.asarray(told.get("pausable", False), dtype=bool), (count,)).copy(),
        unplaced_cost=real(unplaced_cost),
        pause_h=real(told.get("pause_h", 0.0)),
        min_run_h=real(told.get("min_run_h", 0.0)),
        delay_cost_per_h=real(told.get("delay_cost_per_h", 0.0)),
        priority=real(told.get("priority", 0.0)),
        tenant_rank=real(told.get("tenant_rank", 0.0)),
        weighing=whole("weighing", 0),
        previous_zone=whole("previous_zone", -1),
        previous_start=whole("previous_start", -1),
        churn_cost=real(told.get("churn_cost", 0.0)),
    )


def make_zones(
    *,
    cost_per_kwh: npt.ArrayLike,
    gpus: npt.ArrayLike,
    power_kw: npt.ArrayLike | None = None,
    heat_kw: npt.ArrayLike | None = None,
    ramp_kw: npt.ArrayLike | None = None,
    power_factor: npt.ArrayLike = 1.0,
    wanted_kw: npt.ArrayLike | None = None,
    wanted_cost_per_kwh: npt.ArrayLike = 0.0,
) -> Zones:
    """Return zones each with rows of its own of power, heat, ramp and wanted power, where they are given.

    All shapes are (Z, T); (Z,) where a value is by zone.
    """
    cost = np.asarray(cost_per_kwh, dtype=np.float64)
    count, slots = cost.shape

    def rows(values: npt.ArrayLike | None) -> tuple[IntArray, FloatArray]:
        if values is None:
            return np.full(count, -1, dtype=np.int64), np.zeros((0, slots))
        return np.arange(count, dtype=np.int64), np.broadcast_to(np.asarray(values, np.float64), (count, slots)).copy()

    power_group, power = rows(power_kw)
    heat_group, heat = rows(heat_kw)
    ramp_group, ramp = rows(ramp_kw)
    wanted_group, wanted = rows(wanted_kw)
    return Zones(
        cost_per_kwh=cost,
        gpus=np.broadcast_to(np.asarray(gpus, dtype=np.float64), (count, slots)).copy(),
        power_group=power_group,
        power_kw=power,
        power_factor=np.broadcast_to(np.asarray(power_factor, dtype=np.float64), (count,)).copy(),
        heat_group=heat_group,
        heat_kw=heat,
        ramp_group=ramp_group,
        ramp_kw=ramp,
        wanted_share=np.eye(count)[wanted_group >= 0],
        wanted_kw=wanted,
        wanted_cost_per_kwh=np.broadcast_to(np.asarray(wanted_cost_per_kwh, np.float64), (count, slots))[
            : wanted.shape[0]
        ].copy(),
    )


def validated(problem: Problem) -> Problem:
    """Return the problem itself.

    Raises ValueError, naming the field and the first bad row, for shapes that do not fit and numbers that no plan may
    rest on. A job that cannot be placed (no zone, a bound before its release, too large) is no error: it is unplaced.
    """
    slots, zones, jobs = problem.n_slots, problem.zones, problem.jobs
    if not 1 <= slots <= MOST_SLOTS:
        raise ValueError(f"edges_h must tile 1 to {MOST_SLOTS} slots, not {slots}")
    if problem.edges_h[0] != 0.0 or not np.all(np.diff(problem.edges_h) > 0):
        raise ValueError("edges_h must begin with 0 and rise")
    count, n_zones = jobs.count, problem.n_zones
    _check("zones.cost_per_kwh", zones.cost_per_kwh, (n_zones, slots), low=-_BIG)
    _check("zones.gpus", zones.gpus, (n_zones, slots), low=-_BIG, infinite=True)
    _check("zones.power_factor", zones.power_factor, (n_zones,), low=1e-3)
    wanted = zones.wanted_kw.shape[0]
    _check("zones.wanted_kw", zones.wanted_kw, (wanted, slots), low=0.0)
    _check("zones.wanted_cost_per_kwh", zones.wanted_cost_per_kwh, (wanted, slots), low=0.0)
    _check("zones.wanted_share", zones.wanted_share, (wanted, n_zones), low=0.0)
    for name in ("power", "heat", "ramp"):
        group, rows = getattr(zones, f"{name}_group"), getattr(zones, f"{name}_kw")
        _check(f"zones.{name}_kw", rows, (rows.shape[0], slots), low=-_BIG, infinite=True)
        if group.shape != (n_zones,) or (n_zones and (group.min() < -1 or group.max() >= rows.shape[0])):
            raise ValueError(f"zones.{name}_group must name a row of zones.{name}_kw, or -1, for each zone")
    for name in Jobs.__slots__:
        values = getattr(jobs, name)
        if values.dtype == np.float64:
            _check(f"jobs.{name}", values, (count,), low=-_BIG if name in _SIGNED else 0.0)
        elif values.shape != ((count, n_zones) if name == "zones" else (count,)):
            raise ValueError(f"jobs.{name} has the shape {values.shape} for {count} jobs and {n_zones} zones")
    if count and jobs.duration_h.min() <= 0.0:
        raise ValueError(f"jobs.duration_h must be positive, and is not in row {int(jobs.duration_h.argmin())}")
    if np.any(jobs.limit_h < jobs.duration_h):
        raise ValueError(
            f"jobs.limit_h is less than duration_h in row {int((jobs.limit_h < jobs.duration_h).argmax())}"
        )
    if np.any(jobs.pausable & (jobs.limit_h != jobs.duration_h)):
        raise ValueError("jobs.limit_h of pausable work must equal duration_h")
    _check_weighings(problem)
    _check_modes(problem)
    return problem


def _check_modes(problem: Problem) -> None:
    if not problem.modes or any(not (0 < m.power <= 1 and 0 < m.speed <= 1) for m in problem.modes):
        raise ValueError("modes must hold at least full power; power and speed lie in 0..1")
    if problem.modes_allowed is not None and problem.modes_allowed.shape != (problem.jobs.count, len(problem.modes)):
        raise ValueError("modes_allowed must say for each job of each mode whether it may use it")


def _check_weighings(problem: Problem) -> None:
    n_zones, slots, jobs = problem.n_zones, problem.n_slots, problem.jobs
    weighings = problem.weighings if problem.weighings is not None else np.zeros((0, n_zones, slots))
    _check("weighings", weighings, (weighings.shape[0], n_zones, slots), low=-_BIG)
    if jobs.count and (jobs.weighing.min() < 0 or jobs.weighing.max() > weighings.shape[0]):
        raise ValueError(f"jobs.weighing must lie in 0..{weighings.shape[0]}, the number of weighings")


def _check(name: str, values: FloatArray, shape: tuple[int, ...], *, low: float, infinite: bool = False) -> None:
    if values.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {values.shape}")
    bad = np.isnan(values) | (values < low) | ((values > _BIG) & ~(infinite & np.isposinf(values)))
    if bad.any():
        where = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), values.shape))
        raise ValueError(
            f"{name}{list(where)} is {values[where]}: it must be a number of at least {low:g}, "
            f"at most {_BIG:g}{' or infinite' if infinite else ''}"
        )


def no_prices(problem: Problem) -> Prices:
    """Return prices of 0 for every row."""
    slots = problem.n_slots
    return Prices(
        gpu=np.zeros((problem.n_zones, slots)),
        power=np.zeros((problem.zones.power_kw.shape[0], slots)),
        heat=np.zeros((problem.zones.heat_kw.shape[0], slots)),
        wanted=np.zeros((problem.zones.wanted_kw.shape[0], slots)),
    )


def fitting(prices: Prices | None, problem: Problem) -> Prices | None:
    """Return prices that fit the problem's rows, or None: a new zone or axis makes old prices worthless."""
    if prices is None:
        return None
    blank = no_prices(problem)
    pairs = [(getattr(prices, name), getattr(blank, name)) for name in Prices.__slots__]
    if any(a.shape != b.shape or not np.all(np.isfinite(a)) or (a.size and a.min() < 0) for a, b in pairs):
        return None
    return replace(prices, wanted=np.minimum(prices.wanted, most_wanted_price(problem)))


def most_wanted_price(problem: Problem) -> FloatArray:
    """Return what a kW that is short costs in each slot: no price of wanted power is higher, shape (rows, T)."""
    return problem.zones.wanted_cost_per_kwh * np.diff(problem.edges_h)


def shifted(prices: Prices, before_h: FloatArray, after_h: FloatArray, elapsed_h: float) -> Prices:
    """Return prices of an earlier turn on today's slots: those of the hour that each slot's middle falls into.

    Args:
        prices: Of the earlier turn.
        before_h: Its `edges_h`.
        after_h: Today's `edges_h`.
        elapsed_h: How much later today's now is [h].
    """
    middles = (after_h[:-1] + after_h[1:]) / 2.0 + elapsed_h
    column = np.clip(np.searchsorted(before_h, middles, side="right") - 1, 0, before_h.shape[0] - 2)
    # A price is paid per slot: a slot of another length pays in proportion.
    ratio = np.diff(after_h) / np.diff(before_h)[column]
    known = middles < before_h[-1]

    def move(values: FloatArray) -> FloatArray:
        moved: FloatArray = np.where(known, values[:, column] * ratio, 0.0)
        return moved

    return Prices(gpu=move(prices.gpu), power=move(prices.power), heat=move(prices.heat), wanted=move(prices.wanted))


def any_mode(problem: Problem) -> BoolArray:
    """Return which jobs may use which modes, shape (J, modes)."""
    if problem.modes_allowed is not None:
        return problem.modes_allowed
    allowed = np.zeros((problem.jobs.count, len(problem.modes)), dtype=bool)
    allowed[:, 0] = True
    return allowed
