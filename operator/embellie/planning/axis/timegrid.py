# SPDX-License-Identifier: Apache-2.0
"""The planner's time axis and what a run costs on it.

Slots have the forecast's step. `now` lies inside slot 0, `phase` slots after its beginning. A run may start now
(candidate 0) or at the beginning of slot k (candidate k). Costs come from one cumulative sum per cell, so that a
fractional duration and the partial first slot are exact.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np

from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.heat import HeatOutlook
from embellie.domain.reasons import Rung
from embellie.domain.snapshot import CARBON, Cell, GridZoneState, ThermalZoneState, Weights
from embellie.planning.axis.weighing import Signals
from embellie.planning.solving.problem import IntArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_STEP = timedelta(hours=1)
UNKNOWN_G_PER_KWH = 1e6
"""A cell whose signal cannot be compared is taken only where no other has room."""


@dataclass(frozen=True, slots=True)
class TimeGrid:
    """Slots of one length, the first of which contains `now`."""

    origin: datetime
    step_s: float
    now: datetime

    @property
    def phase(self) -> float:
        """How far `now` lies inside slot 0, in slots."""
        return (self.now - self.origin).total_seconds() / self.step_s

    def slots(self, moment: datetime) -> float:
        """Return where a moment lies on the axis, in slots since the origin."""
        return (moment - self.origin).total_seconds() / self.step_s

    def start(self, candidate: int) -> datetime:
        """Return when a candidate starts."""
        return self.now if candidate == 0 else self.origin + timedelta(seconds=self.step_s * candidate)


def usable(forecast: Forecast | None, now: datetime) -> bool:
    """Return whether a forecast says anything about what comes."""
    return forecast is not None and forecast.rung is not Rung.NEUTRAL and forecast.end > now + forecast.step


def time_grid(zones: tuple[GridZoneState, ...], now: datetime) -> TimeGrid:
    """Return the axis: the finest step of the usable forecasts, aligned with the first of them."""
    forecasts = [zone.forecast for zone in zones if zone.forecast is not None and usable(zone.forecast, now)]
    finest = min(forecasts, key=lambda f: f.step, default=None)
    step = finest.step if finest is not None else _DEFAULT_STEP
    anchor = finest.start if finest is not None else _EPOCH
    return TimeGrid(origin=anchor + step * ((now - anchor) // step), step_s=step.total_seconds(), now=now)


def _resample(values: FloatArray, forecast: Forecast, grid: TimeGrid, n_slots: int) -> FloatArray:
    """Return slot means on the grid; past the horizon the mean of the forecast's last day, before it its first slot."""
    per_day = max(1, min(values.shape[0], round(86400.0 / forecast.step.total_seconds())))
    tail = float(values[-per_day:].mean())
    at, end, inside = _integral(values, forecast, grid, n_slots)
    inside += np.minimum(at, 0.0) * values[0] + np.maximum(at - end, 0.0) * tail
    means: FloatArray = np.diff(inside) / grid.step_s
    return means


def resampled_inside(values: FloatArray, forecast: Forecast, grid: TimeGrid, n_slots: int) -> FloatArray:
    """Return slot means on the grid; what lies outside of the forecast counts as 0."""
    _, _, inside = _integral(values, forecast, grid, n_slots)
    return np.asarray(np.diff(inside) / grid.step_s)


def _integral(
    values: FloatArray, forecast: Forecast, grid: TimeGrid, n_slots: int
) -> tuple[FloatArray, float, FloatArray]:
    """Return the grid's edges and the forecast's end, in seconds since its start, and its integral at those edges."""
    step_s = forecast.step.total_seconds()
    edges = np.arange(values.shape[0] + 1, dtype=np.float64) * step_s
    cumulative = np.concatenate(([0.0], np.cumsum(values) * step_s))
    offset = (grid.origin - forecast.start).total_seconds()
    at = offset + np.arange(n_slots + 1, dtype=np.float64) * grid.step_s
    return at, float(edges[-1]), np.interp(at, edges, cumulative)


def ambient_p90_c(forecast: Forecast | None, grid: TimeGrid, n_slots: int) -> FloatArray | None:
    """Return the ambient temperature's highest stated quantile per slot [degC]; None where no forecast tells it."""
    if forecast is None or forecast.ambient_temperature_c is None or not usable(forecast, grid.now):
        return None
    row = max(range(len(forecast.quantile_levels)), key=lambda i: (min(forecast.quantile_levels[i], 0.9), -i))
    values = np.asarray(forecast.ambient_temperature_c[row], dtype=np.float64)
    return _resample(values, forecast, grid, n_slots) if np.all(np.isfinite(values)) else None


@dataclass(frozen=True, slots=True)
class RunCosts:
    """What a run of one length emits per kW of IT power, shape (cells, candidates) [g/kW]."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    score: FloatArray
    """What it is chosen by: the mean, or what the policy's weights make of it [g, or as much as so many g]."""


class CostModel:
    """Emissions of a run of 1 kW, by cell, start and duration, and what a policy's weights make of them."""

    def __init__(
        self,
        cells: tuple[Cell, ...],
        zones: dict[str, GridZoneState],
        grid: TimeGrid,
        candidates: int,
        n_slots: int,
        thermals: tuple[ThermalZoneState, ...] = (),
    ) -> None:
        self._grid = grid
        self._candidates = candidates
        self._cache: dict[tuple[float, Weights], RunCosts] = {}
        self._n_cells = len(cells)
        self.names = tuple(cell.name for cell in cells)
        forecasts = [self._forecast(cell, zones) for cell in cells]
        kinds = [f.signal_kind for f in forecasts if f is not None]
        # Two kinds of signal are never compared: the commonest one decides, the others count as unknown.
        kind = max(sorted(set(kinds)), key=kinds.count) if kinds else None
        rows = np.full((3, len(cells), n_slots), UNKNOWN_G_PER_KWH)
        self.known = [f is not None and f.signal_kind is kind for f in forecasts]
        self._signals = Signals(len(cells), n_slots)
        self.pue = [np.full(n_slots, cell.pue) for cell in cells]
        """Of each cell by slot."""
        outlooks = {zone.name: zone.outlook for zone in thermals}
        horizon = math.inf
        for row, (cell, forecast) in enumerate(zip(cells, forecasts, strict=True)):
            if forecast is None or not self.known[row]:
                continue
            pue = self.pue[row] = _pue(cell.pue, outlooks.get(cell.thermal_zone or ""), grid, n_slots)
            low, high = forecast.carbon_intensity_g_per_kwh[0], forecast.carbon_intensity_g_per_kwh[-1]
            for layer, series in enumerate((forecast.carbon_intensity_mean_g_per_kwh, low, high)):
                rows[layer, row] = _resample(series, forecast, grid, n_slots) * pue
            self._signals.read(row, forecast, pue, partial(_resample, forecast=forecast, grid=grid, n_slots=n_slots))
            horizon = min(horizon, grid.slots(forecast.end))
        self.horizon_slots = horizon
        self.layers = rows
        """What a kWh of IT energy emits: the mean, the lowest and the highest quantile, shape (3, cells, slots)."""
        self._rows = rows[0]
        self._cumulative = self._summed(rows.reshape(3 * len(cells), n_slots))
        self._scored: dict[Weights, FloatArray] = {CARBON: self._cumulative[: self._n_cells]}

    def _summed(self, rates: FloatArray) -> FloatArray:
        hours = self._grid.step_s / 3600.0
        return np.concatenate((np.zeros((rates.shape[0], 1)), np.cumsum(rates * hours, axis=1)), axis=1)

    def _sums(self, weights: Weights) -> FloatArray:
        """Return cumulative scores, shape (cells, slots + 1)."""
        found = self._scored.get(weights)
        if found is None:
            last = max(1, min(self._rows.shape[1], int(min(self.horizon_slots, self._rows.shape[1]))))
            weighed = self._signals.weighed(weights, self._rows, self.known, last)
            found = self._scored[weights] = self._summed(weighed)
        return found

    def rates(self, cuts: IntArray, weights: Weights = CARBON) -> FloatArray:
        """Return what a kWh of IT energy scores between edges of the axis, the first slot from now, (cells, slots)."""
        mean = self._sums(weights)
        at = mean[:, cuts]
        at[:, 0] = _at(mean, self._grid.phase)
        hours = np.diff(np.maximum(cuts, self._grid.phase)) * self._grid.step_s / 3600.0
        rates: FloatArray = np.diff(at, axis=1) / hours
        return rates

    @property
    def mean_g_per_kwh(self) -> float:
        """What a kWh of IT energy emits in the mean over comparable cells and forecast hours; 0 without any."""
        rows = [row for row, known in enumerate(self.known) if known]
        slots = self._rows.shape[1]
        if not rows or not slots:
            return 0.0
        return float(np.mean(self._rows[rows, : max(1, int(min(self.horizon_slots, slots)))]))

    def last_inside(self, duration_s: float) -> int:
        """Return the last candidate whose run ends inside all comparable forecasts; 0 without any."""
        if not math.isfinite(self.horizon_slots):
            return 0
        return int(self.horizon_slots - duration_s / self._grid.step_s + 1e-9)

    def _forecast(self, cell: Cell, zones: dict[str, GridZoneState]) -> Forecast | None:
        zone = zones.get(cell.grid_zone)
        return zone.forecast if zone is not None and usable(zone.forecast, self._grid.now) else None

    def run(self, duration_s: float, weights: Weights = CARBON) -> RunCosts:
        """Return the costs of a run of this length from every candidate start."""
        found = self._cache.get((duration_s, weights))
        if found is None:
            length = duration_s / self._grid.step_s
            if weights.carbon_only:
                layers = self._over(self._cumulative, length).reshape(3, self._n_cells, self._candidates + 1)
                found = RunCosts(layers[0], layers[1], layers[2], layers[0])
            else:
                plain = self.run(duration_s)
                found = RunCosts(plain.mean, plain.low, plain.high, self._over(self._sums(weights), length))
            self._cache[duration_s, weights] = found
        return found

    def _over(self, cumulative: FloatArray, length: float) -> FloatArray:
        """Return sums over runs of so many slots from every candidate, shape (rows, candidates)."""
        last = self._candidates
        whole = int(length)
        part = length - whole
        out = np.empty((cumulative.shape[0], last + 1))
        # Candidates 1..last start on a slot's edge, so all of them end at the same fraction of a slot.
        ends = cumulative[:, whole + 1 : whole + last + 1]
        out[:, 1:] = ends - cumulative[:, 1 : last + 1]
        if part > 0.0:
            out[:, 1:] += part * (cumulative[:, whole + 2 : whole + last + 2] - ends)
        phase = self._grid.phase
        out[:, 0] = _at(cumulative, phase + length) - _at(cumulative, phase)
        return out


NO_SAVING = 1e-6
"""Relative differences below this are rounding, not savings."""


def cheapest_later(scores: FloatArray, first: int, base: float, spared: float = 0.0) -> tuple[int, int, float] | None:
    """Return (row, candidate, saving) of the least start after `first`; None where nothing saves.

    The saving is a part of what the start with the score `base` costs: its score, with what it spares others, `spared`,
    put back.
    """
    usual = base + spared
    if scores.shape[1] <= first + 1 or usual <= 0.0:
        return None
    part = scores[:, first + 1 :]
    # Of equals the earliest start, there the first row.
    column, row = divmod(int(part.T.argmin()), part.shape[0])
    saving = 1.0 - (float(part[row, column]) + spared) / usual
    return (row, first + 1 + column, saving) if saving > NO_SAVING else None


def _at(cumulative: FloatArray, position: float) -> FloatArray:
    whole = int(position)
    left = cumulative[:, whole]
    at: FloatArray = left + (position - whole) * (cumulative[:, whole + 1] - left)
    return at


def _pue(stated: float, outlook: HeatOutlook | None, grid: TimeGrid, n_slots: int) -> FloatArray:
    """Return the PUE by slot: what the heat outlook says as far as it looks, else what the zone states."""
    out = np.full(n_slots, stated)
    if outlook is None:
        return out
    middle_s = (grid.origin - outlook.start).total_seconds() + (np.arange(n_slots) + 0.5) * grid.step_s
    slot = np.floor(middle_s / outlook.step.total_seconds()).astype(np.int64)
    known = (slot >= 0) & (slot < outlook.pue.size)
    out[known] = np.where(np.isfinite(outlook.pue[slot[known]]), outlook.pue[slot[known]], stated)
    return out
