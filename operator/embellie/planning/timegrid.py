# SPDX-License-Identifier: Apache-2.0
"""The planner's time axis and what a run costs on it.

Slots have the forecast's step. `now` lies inside slot 0, `phase` slots after its beginning. A run may start now
(candidate 0) or at the beginning of slot k (candidate k). Costs come from one cumulative sum per cell, so that a
fractional duration and the partial first slot are exact.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.reasons import Rung
from embellie.domain.snapshot import Cell, GridZoneState
from embellie.planning.problem import IntArray

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
    step_s = forecast.step.total_seconds()
    per_day = max(1, min(values.shape[0], round(86400.0 / step_s)))
    tail = float(values[-per_day:].mean())
    edges = np.arange(values.shape[0] + 1, dtype=np.float64) * step_s
    cumulative = np.concatenate(([0.0], np.cumsum(values) * step_s))
    offset = (grid.origin - forecast.start).total_seconds()
    at = offset + np.arange(n_slots + 1, dtype=np.float64) * grid.step_s
    inside = np.interp(at, edges, cumulative)
    inside += np.minimum(at, 0.0) * values[0] + np.maximum(at - edges[-1], 0.0) * tail
    means: FloatArray = np.diff(inside) / grid.step_s
    return means


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


class CostModel:
    """Emissions of a run of 1 kW, by cell, start and duration."""

    def __init__(
        self, cells: tuple[Cell, ...], zones: dict[str, GridZoneState], grid: TimeGrid, candidates: int, n_slots: int
    ) -> None:
        self._grid = grid
        self._candidates = candidates
        self._cache: dict[float, RunCosts] = {}
        self._n_cells = len(cells)
        self.names = tuple(cell.name for cell in cells)
        forecasts = [self._forecast(cell, zones) for cell in cells]
        kinds = [f.signal_kind for f in forecasts if f is not None]
        # Two kinds of signal are never compared: the commonest one decides, the others count as unknown.
        kind = max(sorted(set(kinds)), key=kinds.count) if kinds else None
        rows = np.full((3, len(cells), n_slots), UNKNOWN_G_PER_KWH)
        self.known = [f is not None and f.signal_kind is kind for f in forecasts]
        horizon = math.inf
        for row, (cell, forecast) in enumerate(zip(cells, forecasts, strict=True)):
            if forecast is None or not self.known[row]:
                continue
            low, high = forecast.carbon_intensity_g_per_kwh[0], forecast.carbon_intensity_g_per_kwh[-1]
            for layer, series in enumerate((forecast.carbon_intensity_mean_g_per_kwh, low, high)):
                rows[layer, row] = _resample(series, forecast, grid, n_slots) * cell.pue
            horizon = min(horizon, grid.slots(forecast.end))
        self.horizon_slots = horizon
        hours = grid.step_s / 3600.0
        flat = rows.reshape(3 * len(cells), n_slots) * hours
        self._cumulative = np.concatenate((np.zeros((flat.shape[0], 1)), np.cumsum(flat, axis=1)), axis=1)

    def rates(self, cuts: IntArray) -> FloatArray:
        """Return what a kWh of IT energy emits between edges of the axis, the first slot from now, (cells, slots)."""
        mean = self._cumulative[: self._n_cells]
        at = mean[:, cuts]
        at[:, 0] = self._at(self._grid.phase)[: self._n_cells]
        hours = np.diff(np.maximum(cuts, self._grid.phase)) * self._grid.step_s / 3600.0
        rates: FloatArray = np.diff(at, axis=1) / hours
        return rates

    def _forecast(self, cell: Cell, zones: dict[str, GridZoneState]) -> Forecast | None:
        zone = zones.get(cell.grid_zone)
        return zone.forecast if zone is not None and usable(zone.forecast, self._grid.now) else None

    def run(self, duration_s: float) -> RunCosts:
        """Return the costs of a run of this length from every candidate start."""
        found = self._cache.get(duration_s)
        if found is None:
            found = self._cache[duration_s] = self._compute(duration_s / self._grid.step_s)
        return found

    def _compute(self, length: float) -> RunCosts:
        cumulative, last = self._cumulative, self._candidates
        whole = int(length)
        part = length - whole
        out = np.empty((cumulative.shape[0], last + 1))
        # Candidates 1..last start on a slot's edge, so all of them end at the same fraction of a slot.
        ends = cumulative[:, whole + 1 : whole + last + 1]
        out[:, 1:] = ends - cumulative[:, 1 : last + 1]
        if part > 0.0:
            out[:, 1:] += part * (cumulative[:, whole + 2 : whole + last + 2] - ends)
        phase = self._grid.phase
        out[:, 0] = self._at(phase + length) - self._at(phase)
        layers = out.reshape(3, self._n_cells, last + 1)
        return RunCosts(layers[0], layers[1], layers[2])

    def _at(self, position: float) -> FloatArray:
        whole = int(position)
        left = self._cumulative[:, whole]
        at: FloatArray = left + (position - whole) * (self._cumulative[:, whole + 1] - left)
        return at
