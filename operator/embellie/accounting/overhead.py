# SPDX-License-Identifier: Apache-2.0
"""What the facility adds to its machines, modelled on hours before the one that is accounted; pure.

Overhead = fixed + share x IT + slope x IT x max(0, outside temperature - free-cooling temperature). It is fitted by
least squares on earlier hours only, so that the meter of an hour never explains itself.
"""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from embellie.domain.forecast import FloatArray

FREE_COOLING_C = tuple(range(4, 29, 3))
"""Outside temperatures that are tried as the point at which chillers begin to work [degC]."""
MIN_HOURS = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class OverheadModel:
    """Overhead of a zone."""

    fixed_kw: float = 0.0
    per_it: float = 0.2
    per_it_kelvin: float = 0.0
    free_cooling_c: float = 18.0
    hours: int = 0
    """Hours that it was fitted on; 0 for a stated PUE."""

    @classmethod
    def from_pue(cls, pue: float) -> "OverheadModel":
        """Return the model of a stated PUE: all overhead in proportion to the machines."""
        return cls(per_it=max(0.0, pue - 1.0))

    def kw(self, it_kw: float, ambient_c: float | None = None) -> float:
        """Return the overhead at a power of the machines [kW]; without a temperature that of free cooling."""
        above = 0.0 if ambient_c is None else max(0.0, ambient_c - self.free_cooling_c)
        return max(0.0, self.fixed_kw + it_kw * (self.per_it + self.per_it_kelvin * above))

    def marginal(self, ambient_c: float | None = None) -> float:
        """Return what one more kilowatt of the machines adds to the overhead [kW/kW]."""
        above = 0.0 if ambient_c is None else max(0.0, ambient_c - self.free_cooling_c)
        return max(0.0, self.per_it + self.per_it_kelvin * above)


def fit_overhead(
    it_kw: FloatArray, meter_kw: FloatArray, ambient_c: FloatArray | None, *, interval_h: float = 1.0
) -> OverheadModel | None:
    """Fit a zone's overhead on past intervals; None where they make less than 48 hours.

    Args:
        it_kw: Mean power of the machines by interval [kW].
        meter_kw: The same at the zone's meter [kW].
        ambient_c: Outside temperature [degC], or None where it is not known.
        interval_h: Length of an interval [h].
    """
    good = np.isfinite(it_kw) & np.isfinite(meter_kw) & (it_kw > 0.0) & (meter_kw >= it_kw)
    if ambient_c is not None:
        good &= np.isfinite(ambient_c)
    it, over = it_kw[good], (meter_kw - it_kw)[good]
    hours = it.size * interval_h
    if hours < MIN_HOURS:
        return None
    warm = ambient_c[good] if ambient_c is not None else None
    fits = [_fit_at(it, over, warm, float(point)) for point in (FREE_COOLING_C if warm is not None else (18.0,))]
    return replace(min(fits, key=lambda fit: fit[0])[1], hours=round(hours))


def _fit_at(it: FloatArray, over: FloatArray, warm: FloatArray | None, point: float) -> tuple[float, OverheadModel]:
    columns = {"fixed": np.ones_like(it), "per_it": it}
    if warm is not None:
        columns["kelvin"] = it * np.maximum(0.0, warm - point)
    best: tuple[float, dict[str, float]] = (np.inf, {})
    # Coefficients below zero are no physics: the best subset whose coefficients are none is taken (three columns).
    for size in range(1, len(columns) + 1):
        for names in combinations(columns, size):
            matrix = np.stack([columns[name] for name in names], axis=1)
            found, *_ = np.linalg.lstsq(matrix, over, rcond=None)
            error = float(np.sum((matrix @ found - over) ** 2))
            if found.min() >= 0.0 and error < best[0]:
                best = error, dict(zip(names, (float(v) for v in found), strict=True))
    chosen = best[1]
    return best[0], OverheadModel(
        fixed_kw=chosen.get("fixed", 0.0),
        per_it=chosen.get("per_it", 0.0),
        per_it_kelvin=chosen.get("kelvin", 0.0),
        free_cooling_c=point,
    )
