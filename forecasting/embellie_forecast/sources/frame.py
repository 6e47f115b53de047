# SPDX-License-Identifier: Apache-2.0
"""The tidy frame: UTC, beginning of each slot, units in the names, what is estimated, and when it was known."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from embellie_forecast.exchange import MAX_CARBON_G_PER_KWH, MAX_MARGINAL_G_PER_KWH
from embellie_forecast.factors import MIX_COLUMNS
from embellie_forecast.history import MIN_USUAL_G_PER_KWH, WEATHER_BOUNDS, WEATHER_COLUMNS
from embellie_forecast.sources.base import Fault, Licence, SourceError
from embellie_forecast.sources.values import number

HOUR = timedelta(hours=1)
KEEP = timedelta(days=800)
"""So much of the past is kept before the newest hour: what ended long ago has a past too."""
BOUNDS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(MIX_COLUMNS, (-50.0, 300_000.0)),
    "demand_mw": (0.0, 1_500_000.0),
    "ci_lifecycle_g_per_kwh": (0.0, MAX_CARBON_G_PER_KWH),
    "ci_direct_g_per_kwh": (0.0, MAX_CARBON_G_PER_KWH),
    "ci_marginal_g_per_kwh": (0.0, MAX_MARGINAL_G_PER_KWH),
    "re_pct": (0.0, 100.0),
    "dafc_solar_mw": (0.0, 300_000.0),
    "dafc_wind_mw": (0.0, 300_000.0),
    "dafc_demand_mw": (0.0, 1_500_000.0),
    **dict(zip(WEATHER_COLUMNS, WEATHER_BOUNDS, strict=True)),
    "wxfc_wind_speed_100m_ms": (0.0, 100.0),
    "power_kw": (-1_000.0, 1_000_000.0),
}
"""Every quantity that a source may give, and the range outside which a value is not believed. A source at rest may
read a little below zero (station use)."""
FORECASTS = ("wxfc_", "dafc_")
"""Columns that begin so lie in the future by nature; all others are measured, and none may."""
MIN_KNOWN_SHARE = 0.5
"""An hour's mean rests on at least this share of its parts: some feeds fill every second quarter only."""
_FUTURE = timedelta(hours=1)


def is_forecast(column: str) -> bool:
    """Tell whether a column holds forecasts rather than measurements."""
    return column.startswith(FORECASTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What a source said.

    `frame` has a DatetimeIndex `begin_utc` (unique, rising, UTC, multiples of `step`; the beginning of each slot),
    columns of BOUNDS, and with each slot `estimated` (bool) and `known_at` (UTC).
    """

    source: str
    licence: Licence
    step: timedelta
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()
    """What was not believed or mended, in sentences."""

    @property
    def columns(self) -> list[str]:
        """The quantities that are there."""
        return [name for name in self.frame.columns if name in BOUNDS]

    def hourly(self) -> "Readings":
        """Return hourly means; an hour with less than half of its parts is unknown."""
        if self.step == HOUR:
            return self
        parts = round(HOUR / self.step)
        groups = self.frame.groupby(self.frame.index.floor("h"))  # type: ignore[attr-defined]
        quantities = groups[self.columns]
        means = quantities.mean().where(quantities.count() >= math.ceil(parts * MIN_KNOWN_SHARE))
        means["estimated"] = groups["estimated"].any()
        means["known_at"] = groups["known_at"].max()
        means.index.name = "begin_utc"
        return replace(self, step=HOUR, frame=means)


class Rows:
    """Collects single values of a response, in any order, and makes them tidy."""

    def __init__(self, *, source: str, licence: Licence, step: timedelta) -> None:
        self._source = source
        self._licence = licence
        self._step = step
        self._rows: list[tuple[datetime, str, float, bool, datetime | None]] = []
        self._notes: Counter[str] = Counter()

    def add(
        self, begin: datetime, column: str, value: object, *, estimated: bool = False, known_at: datetime | None = None
    ) -> None:
        """Add one value of a slot that begins at `begin`; what is no number or out of bounds becomes unknown."""
        found = number(value)
        if value is not None and math.isnan(found):
            self._notes[f"{column}: {str(value)[:20]!r} is not a number"] += 1
        low, high = BOUNDS[column]
        if found < low or found > high:
            self._notes[f"{column}: {found:g} lies outside {low:g}..{high:g}"] += 1
            found = math.nan
        self._rows.append((begin, column, found, estimated, known_at))

    def note(self, sentence: str) -> None:
        """Remember something that was left out."""
        self._notes[sentence] += 1

    def tidy(self, begin: datetime, end: datetime, *, now: datetime) -> Readings:
        """Return the rows in [begin, end) as readings: sorted, each slot once, nothing measured after `now`.

        A value that is there twice counts once; two different values for one slot are both not believed.

        Raises:
            SourceError: Nothing is left, or something was measured after `now`: then a clock is wrong.
        """
        table = pd.DataFrame(self._rows, columns=["begin", "column", "value", "estimated", "known_at"])
        # Of no rows at all pandas makes no numbers.
        table["value"] = table["value"].astype(np.float64)
        # One unit for all: pandas tells seconds from microseconds, and refuses to mix them.
        table["begin"] = pd.to_datetime(table["begin"], utc=True).dt.as_unit("us")
        since = [now if moment is None else moment for _, _, _, _, moment in self._rows]
        table["known_at"] = pd.to_datetime(pd.Series(since, dtype=object), utc=True).dt.as_unit("us")
        table = table[(table["begin"] >= pd.Timestamp(begin)) & (table["begin"] < pd.Timestamp(end))]
        table = self._in_grams(table)
        if not np.isfinite(table["value"]).any():
            raise SourceError(
                Fault.EMPTY,
                f"{self._source} has no believable value from {_day(begin)} to {_day(end)}{self._because()}",
            )
        self._refuse_the_future(table, now)
        table = self._on_the_step(table)
        known = table.dropna(subset="value")
        cells = known.groupby(["begin", "column"])["value"].agg(["min", "max"])
        conflict = int((cells["min"] != cells["max"]).sum())
        if conflict:
            self._notes[f"{conflict} values are there twice and differ, so neither is believed"] = 1
        agreed = cells["min"].where(cells["min"] == cells["max"]).reset_index()
        wide = agreed.pivot_table(index="begin", columns="column", values="min", dropna=False)
        slots = table.groupby("begin")[["estimated", "known_at"]].max()
        frame = wide.reindex(slots.index).join(slots)
        frame["estimated"] = frame["estimated"].astype(bool)
        frame.index.name = "begin_utc"
        frame.columns.name = None
        return Readings(
            source=self._source,
            licence=self._licence,
            step=self._step,
            frame=frame.sort_index(),
            notes=tuple(f"{what} ({n} times)" if n > 1 else what for what, n in self._notes.most_common(20)),
        )

    def _in_grams(self, table: pd.DataFrame) -> pd.DataFrame:
        """Leave out all intensities where the life-cycle one is what no grid has: they are in kilograms."""
        usual = float(table["value"][table["column"] == "ci_lifecycle_g_per_kwh"].median())
        if not usual < MIN_USUAL_G_PER_KWH:
            return table
        why = f"ci_lifecycle_g_per_kwh: {usual:.2g} g/kWh is less than any grid has: is it in kg/kWh?"
        stated = table["column"].str.startswith("ci_")
        self._notes[why] = int(stated.sum())
        left: pd.DataFrame = table[~stated]
        return left

    def _on_the_step(self, table: pd.DataFrame) -> pd.DataFrame:
        aligned = table["begin"] == table["begin"].dt.floor(self._step)
        if not aligned.all():
            self._notes[f"{int((~aligned).sum())} values lie off the {self._step} grid and are left out"] = 1
        on_grid: pd.DataFrame = table[aligned]
        return on_grid

    def _refuse_the_future(self, table: pd.DataFrame, now: datetime) -> None:
        measured = table[~table["column"].str.startswith(FORECASTS) & np.isfinite(table["value"])]
        if len(measured) and measured["begin"].max() > pd.Timestamp(now + _FUTURE):
            newest = measured["begin"].max()
            raise SourceError(
                Fault.CLOCK,
                f"{self._source} has measured {newest:%Y-%m-%d %H:%M} UTC, and here it is {now:%Y-%m-%d %H:%M} UTC: "
                "set this machine's clock (NTP), or the source is wrong",
            )

    def _because(self) -> str:
        worst = self._notes.most_common(1)
        return f" ({worst[0][0]})" if worst else ""


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
