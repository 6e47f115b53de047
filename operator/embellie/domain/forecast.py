# SPDX-License-Identifier: Apache-2.0
"""The forecast that the rooms hand each other. Its file format is docs/reference/forecast-format.md."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from embellie.domain.reasons import Rung, SignalKind

FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OnSitePower:
    """What one solar or wind plant behind the zone's meter will deliver."""

    name: str
    kind: str
    """Solar or Wind."""
    rung: Rung
    power_kw: FloatArray
    """Shape (levels, slots)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """One zone's forecast from one issue.

    `start` is the beginning of the first slot (UTC); slot k covers [start + k*step, start + (k+1)*step).
    Arrays have shape (len(quantile_levels), n_slots), except the mean, with shape (n_slots,).
    """

    zone: str
    issued_at: datetime
    start: datetime
    step: timedelta
    quantile_levels: tuple[float, ...]
    carbon_intensity_g_per_kwh: FloatArray
    carbon_intensity_mean_g_per_kwh: FloatArray
    renewable_share: FloatArray | None
    """None where nobody tells it."""
    ambient_temperature_c: FloatArray | None = None
    price_per_mwh: FloatArray | None = None
    """Shape (slots,), or (levels, slots); in the one currency of all zones [currency/MWh]."""
    signal_kind: SignalKind
    rung: Rung
    model_id: str
    skill_percent: int | None = None
    """Error reduction against persistence over recent issues [%]; None where it was not measured."""
    on_site: tuple[OnSitePower, ...] = ()
    """Told beside the grid's intensity, never mixed into it: how much of that it replaces, the zone's draw tells."""
    attribution: tuple[str, ...] = ()
    """Whose data it rests on."""
    reasons: tuple[str, ...] = ()
    """Why it does not stand on a better rung, and what of the feeds was not believed."""

    def __post_init__(self) -> None:
        """Refuse shapes, levels and values that no plan may rest on."""
        shape = (len(self.quantile_levels), self.n_slots)
        share = self.renewable_share
        if (
            self.n_slots == 0
            or self.carbon_intensity_g_per_kwh.shape != shape
            or (share is not None and share.shape != shape)
        ):
            raise ValueError(f"forecast for {self.zone}: quantile arrays must have shape {shape}")
        if list(self.quantile_levels) != sorted(set(self.quantile_levels)) or 0.5 not in self.quantile_levels:
            raise ValueError(f"forecast for {self.zone}: quantile levels must rise and contain 0.5")
        if self.step <= timedelta(0) or self.start.tzinfo is None or self.issued_at.tzinfo is None:
            raise ValueError(f"forecast for {self.zone}: the step must be positive and the times must have a zone")
        high = 3000.0 if self.signal_kind is SignalKind.MARGINAL else 2000.0
        for name, values, upper in (
            ("carbon_intensity_g_per_kwh", self.carbon_intensity_g_per_kwh, high),
            ("carbon_intensity_mean_g_per_kwh", self.carbon_intensity_mean_g_per_kwh, high),
            ("renewable_share", share, 1.0),
        ):
            if values is not None and not (
                np.all(np.isfinite(values)) and values.min() >= 0.0 and values.max() <= upper
            ):
                raise ValueError(f"forecast for {self.zone}: {name} must be finite and lie in 0..{upper:g}")

    @property
    def n_slots(self) -> int:
        """How many slots the forecast covers."""
        return int(self.carbon_intensity_mean_g_per_kwh.shape[0])

    @property
    def end(self) -> datetime:
        """The end of the last slot."""
        return self.start + self.step * self.n_slots

    @property
    def median(self) -> int:
        """The row of the median in arrays of quantiles."""
        return self.quantile_levels.index(0.5)

    def slot_of(self, moment: datetime) -> int:
        """Return the slot that holds an instant; the first or the last one where none does."""
        return min(max(0, (moment - self.start) // self.step), self.n_slots - 1)
