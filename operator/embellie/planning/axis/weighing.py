# SPDX-License-Identifier: Apache-2.0
"""What a policy's weights make of an hour: carbon, cost and what is not renewable, on one scale.

Each signal counts in units of its own mean over the forecast hours of all comparable cells, and the sum is brought back
to the scale of emissions: with weights of 1 : 1 an hour that is 10 % dearer than usual is as bad as one that is 10 %
dirtier. A signal that not all comparable cells have is left out, since then cells could not be compared.
"""

from collections.abc import Callable, Sequence

import numpy as np

from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.snapshot import Weights


class Signals:
    """Prices and renewable shares by cell and slot, times PUE; NaN where unknown."""

    def __init__(self, cells: int, n_slots: int) -> None:
        self._price = np.full((cells, n_slots), np.nan)
        self._fossil = np.full((cells, n_slots), np.nan)

    def read(self, row: int, forecast: Forecast, pue: FloatArray, resample: Callable[[FloatArray], FloatArray]) -> None:
        """Take a cell's signals, medians where there are quantiles."""
        median = forecast.quantile_levels.index(0.5)
        if forecast.renewable_share is not None:
            self._fossil[row] = (1.0 - resample(forecast.renewable_share[median])) * pue
        if forecast.price_per_mwh is not None:
            series = np.asarray(forecast.price_per_mwh, dtype=np.float64)
            self._price[row] = resample(series[median] if series.ndim == 2 else series) * pue

    def weighed(self, weights: Weights, carbon: FloatArray, known: Sequence[bool], last: int) -> FloatArray:
        """Return scores by cell and slot, in g/kWh or as much as that; cells that are not known keep their carbon.

        Args:
            weights: Of a policy.
            carbon: Emissions by cell and slot [g/kWh].
            known: Which cells can be compared.
            last: Slots that the forecasts of all of them cover.
        """
        rows = [row for row, ok in enumerate(known) if ok]
        parts: list[tuple[float, FloatArray, float]] = []
        for weight, signal in (
            (weights.carbon, carbon),
            (weights.cost, self._price),
            (weights.renewable, self._fossil),
        ):
            usual = float(np.abs(signal[rows, :last]).mean()) if rows else 0.0
            if weight > 0.0 and np.isfinite(signal[rows]).all() and usual > 0.0:
                parts.append((weight, signal, usual))
        if not parts:
            return carbon
        scale = float(np.abs(carbon[rows, :last]).mean()) or 1.0
        total = sum(weight for weight, _, _ in parts)
        out = carbon.copy()
        out[rows] = sum(weight / total * scale / usual * signal[rows] for weight, signal, usual in parts)
        return out
