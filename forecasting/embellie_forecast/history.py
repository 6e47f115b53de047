# SPDX-License-Identifier: Apache-2.0
"""A zone's past, hour by hour: intensity, renewable share, generation by source, and the weather forecast of the day.

Arrays over complete UTC hours. Whatever cannot be believed is flagged and becomes unknown (NaN), never a number.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from embellie_forecast.believable import MAX_SOURCE_MW, METERING_NOISE_MW, Problem, flag_problems, without_closed
from embellie_forecast.exchange import MAX_CARBON_G_PER_KWH, MAX_MARGINAL_G_PER_KWH
from embellie_forecast.factors import (
    DIRECT_EIA,
    LIFECYCLE_AR5,
    MIX_COLUMNS,
    SOURCES,
    FloatArray,
    carbon_intensity_g_per_kwh,
    renewable_share,
)

WEATHER_COLUMNS = ("wxfc_wind_speed_ms", "wxfc_temp_c", "wxfc_dewpoint_c", "wxfc_dswrf_wm2", "wxfc_precip_kgm2")
WEATHER_BOUNDS = ((0.0, 75.0), (-70.0, 60.0), (-90.0, 40.0), (0.0, 1500.0), (0.0, 500.0))
OFFICIAL_COLUMNS = ("dafc_solar_mw", "dafc_wind_mw")
LIFECYCLE_COLUMN, DIRECT_COLUMN = "ci_lifecycle_g_per_kwh", "ci_direct_g_per_kwh"
MARGINAL_COLUMN = "ci_marginal_g_per_kwh"
BENCHMARK_COLUMN = "ci_lifecycle_benchmark_g_per_kwh"
SHARE_COLUMN = "re_pct"
MIN_USUAL_G_PER_KWH = 2.0
"""No source's life cycle has so little: a median below it is told in another unit."""
MOST_BESIDE_MIX = 2.0
"""Other emission factors make an intensity up to 1.8 times as large as those of this product; pounds make 2.2."""
STILL_HOURS = 24
"""The longest run of equal hours on sixteen measured grids was 15, frozen feeds apart."""
LEAD_DAYS = (2, 3, 4)
"""Days ahead whose weather forecast differs from that of the first day."""


class HistoryError(ValueError):
    """The data of a zone cannot be used; the message names the column and how to mend it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ZoneHistory:
    """What is known about a zone: arrays of `n_hours` from `first_hour` on, NaN where unknown."""

    zone: str
    first_hour: int
    """Hours since 1970-01-01T00Z of the first row."""
    lifecycle_g_per_kwh: FloatArray
    direct_g_per_kwh: FloatArray
    renewable_share: FloatArray
    """0..1."""
    generation_mw: Mapping[str, FloatArray]
    """Source -> hourly mean; sources as in `factors.SOURCES`."""
    weather: FloatArray
    """Shape (hours, 5), columns as in WEATHER_COLUMNS: the forecast made for that hour about a day before."""
    official_mw: FloatArray
    """Shape (hours, 2), columns as in OFFICIAL_COLUMNS: the system operator's own day-ahead forecast."""
    problems: tuple[str, ...]
    """One `Problem` per hour, about the generation."""
    benchmark_g_per_kwh: FloatArray | None = None
    """The life-cycle series that a paper published for scoring, where the file has it."""
    marginal_g_per_kwh: FloatArray | None = None
    """Marginal intensity where a source gives it; never mixed with the averages, nor derived from them."""
    weather_ahead: FloatArray | None = None
    """Shape (hours, 3, 5): the forecast made for that hour 2, 3 and 4 days before; columns as in WEATHER_COLUMNS."""
    notes: tuple[str, ...] = field(default=())
    """What was mended or left out on the way in, one sentence each."""

    @property
    def n_hours(self) -> int:
        """How many hours there are, known or not."""
        return int(self.lifecycle_g_per_kwh.shape[0])

    @property
    def end_hour(self) -> int:
        """The hour after the last row, in hours since 1970."""
        return self.first_hour + self.n_hours

    @property
    def total_mw(self) -> FloatArray:
        """Total generation; NaN where unknown [MW]."""
        if not self.generation_mw:
            return np.full(self.n_hours, np.nan)
        return np.asarray(np.sum(list(self.generation_mw.values()), axis=0), dtype=np.float64)

    def has_forecasts(self) -> bool:
        """Tell whether any hour has a forecast of weather, or an official one of wind and solar."""
        return bool(np.isfinite(self.weather).any() or np.isfinite(self.official_mw).any())

    def has_weather_by_lead(self) -> bool:
        """Tell whether at least half of the hours with a day's weather have that of all days ahead too."""
        if self.weather_ahead is None:
            return False
        known = np.isfinite(self.weather).any(axis=1)
        ahead = np.isfinite(self.weather_ahead).any(axis=2)
        both = int((known & (ahead.sum(axis=1) == len(LEAD_DAYS))).sum())
        return bool(known.any()) and both >= 0.5 * int(known.sum())

    def known_until(self, generation_end_hour: int, weather_end_hour: int) -> "ZoneHistory":
        """Return a copy without grid readings from one hour on (since 1970), and without forecasts from another."""
        stop = max(0, min(self.n_hours, max(generation_end_hour, weather_end_hour) - self.first_hour))
        blind = max(0, generation_end_hour - self.first_hour)

        def cut(values: FloatArray, begin: int = blind) -> FloatArray:
            part = values[:stop].copy()
            part[begin:] = np.nan
            return part

        no_weather = max(0, weather_end_hour - self.first_hour)
        return replace(
            self,
            lifecycle_g_per_kwh=cut(self.lifecycle_g_per_kwh),
            direct_g_per_kwh=cut(self.direct_g_per_kwh),
            renewable_share=cut(self.renewable_share),
            generation_mw={name: cut(values) for name, values in self.generation_mw.items()},
            weather=cut(self.weather, no_weather),
            official_mw=cut(self.official_mw, no_weather),
            problems=self.problems[: min(stop, blind)] + (Problem.MISSING.value,) * max(0, stop - blind),
            benchmark_g_per_kwh=None if self.benchmark_g_per_kwh is None else cut(self.benchmark_g_per_kwh),
            marginal_g_per_kwh=None if self.marginal_g_per_kwh is None else cut(self.marginal_g_per_kwh),
            weather_ahead=None if self.weather_ahead is None else cut(self.weather_ahead, no_weather),
        )

    def since(self, first_hour: int) -> "ZoneHistory":
        """Return a copy without what lies before an hour since 1970."""
        begin = min(max(0, first_hour - self.first_hour), self.n_hours)
        return replace(
            self,
            first_hour=self.first_hour + begin,
            lifecycle_g_per_kwh=self.lifecycle_g_per_kwh[begin:],
            direct_g_per_kwh=self.direct_g_per_kwh[begin:],
            renewable_share=self.renewable_share[begin:],
            generation_mw={name: values[begin:] for name, values in self.generation_mw.items()},
            weather=self.weather[begin:],
            official_mw=self.official_mw[begin:],
            problems=self.problems[begin:],
            benchmark_g_per_kwh=None if self.benchmark_g_per_kwh is None else self.benchmark_g_per_kwh[begin:],
            marginal_g_per_kwh=None if self.marginal_g_per_kwh is None else self.marginal_g_per_kwh[begin:],
            weather_ahead=None if self.weather_ahead is None else self.weather_ahead[begin:],
        )

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, zone: str) -> "ZoneHistory":
        """Build a history from a frame with an hourly UTC index (hour-beginning) and the columns of the schema.

        Intensity and renewable share are taken where the frame has them, else computed from `gen_<source>_mw`.

        Raises:
            HistoryError: The index is not hourly UTC, an hour contradicts itself, or no column is known.
        """
        frame, notes = _hourly(frame, zone)
        generation = _told_by_source(frame, notes)
        told = (LIFECYCLE_COLUMN, DIRECT_COLUMN, BENCHMARK_COLUMN, SHARE_COLUMN, MARGINAL_COLUMN)
        if not generation and not any(column in frame.columns for column in told):
            raise HistoryError(
                f"{zone}: no usable column; give {LIFECYCLE_COLUMN}, {DIRECT_COLUMN} or gen_<source>_mw with a source "
                f"of {', '.join(SOURCES)}"
            )
        generation, problems = _believed(generation, frame, notes)
        return cls(
            zone=zone,
            first_hour=hour_of(frame.index[0].to_pydatetime()),
            lifecycle_g_per_kwh=_carbon(frame, LIFECYCLE_COLUMN, generation, notes),
            direct_g_per_kwh=_carbon(frame, DIRECT_COLUMN, generation, notes),
            renewable_share=_share(frame, generation, notes),
            generation_mw=generation,
            weather=_bounded(frame, WEATHER_COLUMNS, WEATHER_BOUNDS),
            official_mw=_bounded(frame, OFFICIAL_COLUMNS, ((-METERING_NOISE_MW, MAX_SOURCE_MW),) * 2),
            problems=problems,
            benchmark_g_per_kwh=_carbon(frame, BENCHMARK_COLUMN, {}, notes)
            if BENCHMARK_COLUMN in frame.columns
            else None,
            marginal_g_per_kwh=_marginal(frame, notes),
            weather_ahead=_weather_ahead(frame),
            notes=tuple(notes),
        )


def hour_of(moment: datetime) -> int:
    """Return the hour since 1970-01-01T00Z in which `moment` lies.

    >>> hour_of(datetime(1970, 1, 2, 3, 59, tzinfo=UTC))
    27
    """
    return int(moment.timestamp() // 3600)


def instant_of(hour: int) -> datetime:
    """Return the beginning of an hour since 1970, UTC."""
    return datetime.fromtimestamp(int(hour) * 3600, UTC)


def _hourly(frame: pd.DataFrame, zone: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the frame on a complete hourly index, and what had to be mended."""
    index, notes = frame.index, []
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None or index.tz.utcoffset(None) != UTC.utcoffset(None):
        raise HistoryError(f"{zone}: timestamp_utc must be in UTC, written with a Z, as in 2021-07-01T00:00:00Z")
    if len(index) == 0:
        raise HistoryError(f"{zone}: the file has no rows")
    if index.hasnans or bool((index != index.floor("h")).any()):
        raise HistoryError(f"{zone}: timestamp_utc must be whole hours; average shorter steps to hours first")
    if not index.is_unique:
        duplicated = int(index.duplicated().sum())
        frame = frame.loc[~frame.reset_index().duplicated().to_numpy()]
        if not frame.index.is_unique:
            first = frame.index[frame.index.duplicated()][0]
            raise HistoryError(
                f"{zone}: timestamp_utc {first:%Y-%m-%dT%H:%MZ} occurs twice with different values; keep one of them, "
                "or write UTC if these are local times"
            )
        notes.append(f"{duplicated} repeated hours with equal values were dropped")
    if not frame.index.is_monotonic_increasing:
        frame = frame.sort_index()
        notes.append("the hours were out of order and have been sorted")
    span = int((frame.index[-1] - frame.index[0]) / pd.Timedelta(hours=1)) + 1
    if span > 60 * 366 * 24:
        raise HistoryError(f"{zone}: timestamp_utc spans {span // 8766} years; look for a mistyped year")
    if span > len(frame):
        notes.append(f"{span - len(frame)} hours are missing from the index and count as unknown")
    return frame.reindex(pd.date_range(frame.index[0], frame.index[-1], freq="h")), notes


def _numbers(frame: pd.DataFrame, column: str) -> FloatArray:
    return np.asarray(pd.to_numeric(frame[column], errors="coerce"), dtype=np.float64)


def _blank(frame: pd.DataFrame, column: str) -> bool:
    """Tell whether a column holds nothing at all; text that is no number is not nothing."""
    return bool(frame[column].isna().all())


def _told_by_source(frame: pd.DataFrame, notes: list[str]) -> dict[str, FloatArray]:
    """Return generation by source as it is told [MW]; what is left out is noted."""
    generation = {name: _numbers(frame, column) for column, name in MIX_COLUMNS.items() if column in frame.columns}
    empty = [name for name in generation if _blank(frame, f"gen_{name}_mw")]
    if empty:
        # Of a source that a grid does not have there may be a column all the same.
        notes.append(f"left out, without any value: {', '.join(f'gen_{name}_mw' for name in empty)}")
        generation = {name: values for name, values in generation.items() if name not in empty}
    foreign = sorted(
        str(column)
        for column in frame.columns
        if str(column).startswith("gen_") and str(column)[4:].removesuffix("_mw") not in SOURCES
    )
    if foreign:
        notes.append(f"left out, no emission factor is known for: {', '.join(foreign)}")
    return generation


def _believed(
    generation: dict[str, FloatArray], frame: pd.DataFrame, notes: list[str]
) -> tuple[dict[str, FloatArray], tuple[str, ...]]:
    """Return what is believed of generation by source, and each hour's `Problem`; what is not believed is noted."""
    if not generation:
        return {}, ("",) * len(frame)
    mix, closed = without_closed(pd.DataFrame(generation, index=frame.index), {name: name for name in generation})
    # A number that cannot be read is not silence.
    unread = {
        name: frame[f"gen_{name}_mw"].astype(str).str.contains(r"\d") & np.isnan(generation[name]) for name in closed
    }
    closed = [name for name in closed if (mix[name].notna() & np.isnan(generation[name]) & ~unread[name]).any()]
    if closed:
        silent = ", ".join(f"gen_{name}_mw" for name in closed)
        notes.append(f"silent for days while others are told, and counted as 0 there: {silent}")
        generation = generation | {name: mix[name].mask(unread[name]).to_numpy() for name in closed}
    problems = flag_problems(generation)
    doubted = Counter(problem for problem in problems if problem)
    if doubted:
        reasons = ", ".join(f"{count} {problem.lower()}" for problem, count in doubted.most_common())
        notes.append(
            f"generation by source is not believed and counts as unknown in {doubted.total()} hours: {reasons}"
        )
    believed = np.array([not problem for problem in problems], dtype=bool)
    return {n: np.where(believed, np.maximum(values, 0.0), np.nan) for n, values in generation.items()}, problems


def _bounded(frame: pd.DataFrame, columns: tuple[str, ...], bounds: tuple[tuple[float, float], ...]) -> FloatArray:
    out = np.full((len(frame), len(columns)), np.nan)
    for k, (column, (low, high)) in enumerate(zip(columns, bounds, strict=True)):
        if column in frame.columns:
            values = _numbers(frame, column)
            with np.errstate(invalid="ignore"):
                out[:, k] = np.where((values >= low) & (values <= high), values, np.nan)
    return out


def ahead_column(column: str, day: int) -> str:
    """Return the column of a weather quantity as it was forecast so many days before.

    >>> ahead_column("wxfc_temp_c", 2)
    'wxfc_temp_c_day2'
    """
    return f"{column}_day{day}"


def _weather_ahead(frame: pd.DataFrame) -> FloatArray | None:
    names = [tuple(ahead_column(column, day) for column in WEATHER_COLUMNS) for day in LEAD_DAYS]
    if not any(name in frame.columns for day in names for name in day):
        return None
    return np.stack([_bounded(frame, day, WEATHER_BOUNDS) for day in names], axis=1)


def _marginal(frame: pd.DataFrame, notes: list[str]) -> FloatArray | None:
    if MARGINAL_COLUMN not in frame.columns:
        return None
    found = _bounded(frame, (MARGINAL_COLUMN,), ((0.0, MAX_MARGINAL_G_PER_KWH),))[:, 0]
    bad = int((np.isfinite(_numbers(frame, MARGINAL_COLUMN)) & ~np.isfinite(found)).sum())
    if bad:
        notes.append(f"{MARGINAL_COLUMN}: {bad} values outside 0..{MAX_MARGINAL_G_PER_KWH:g} count as unknown")
    return found


def _carbon(frame: pd.DataFrame, column: str, generation: Mapping[str, FloatArray], notes: list[str]) -> FloatArray:
    """Return an intensity as published, else as computed; implausible values become unknown and are counted."""
    made = np.full(len(frame), np.nan)
    if generation:
        made = carbon_intensity_g_per_kwh(generation, DIRECT_EIA if column == DIRECT_COLUMN else LIFECYCLE_AR5)
    if column not in frame.columns or (generation and _blank(frame, column)):
        if generation and column in frame.columns:
            notes.append(f"{column} is blank and was computed from the generation by source")
        return made
    values = _numbers(frame, column)
    with np.errstate(invalid="ignore"):
        bad = (values <= 0.0) | (values > MAX_CARBON_G_PER_KWH)
    if bad.any():
        notes.append(
            f"{column}: {int(bad.sum())} values at 0, below it, or over {MAX_CARBON_G_PER_KWH:g} count as unknown"
        )
    values = np.where(bad, np.nan, values)
    notes += _doubts(column, values, made)
    return values


def _doubts(column: str, values: FloatArray, made: FloatArray) -> Iterator[str]:
    """Yield what is odd about an intensity that is taken as it is told, beside what the generation by source makes."""
    known = values[np.isfinite(values)]
    both = np.isfinite(values) & (made > 0.0)
    ratio = float(np.median(values[both] / made[both])) if both.any() else 1.0
    if not 1.0 / MOST_BESIDE_MIX < ratio < MOST_BESIDE_MIX:
        yield f"{column} is {ratio:.2g} times what its generation by source makes: is it in another unit?"
    elif column == LIFECYCLE_COLUMN and known.size and float(np.median(known)) < MIN_USUAL_G_PER_KWH:
        yield f"{column} has a median of {float(np.median(known)):.3g} g/kWh: is it in another unit?"
    runs = np.diff(np.flatnonzero(np.diff(values, prepend=np.nan, append=np.nan)))
    still = int(runs[runs >= STILL_HOURS].sum())
    if still:
        yield f"{column} stands still for {still} hours, a day or longer each time: was its feed frozen?"


def _share(frame: pd.DataFrame, generation: Mapping[str, FloatArray], notes: list[str]) -> FloatArray:
    if SHARE_COLUMN in frame.columns:
        values = _numbers(frame, SHARE_COLUMN) / 100.0
        if 0.0 < np.nanmax(values, initial=0.0) <= 0.01:
            notes.append(f"{SHARE_COLUMN} is never over 1 %: is it a fraction instead of percent?")
        with np.errstate(invalid="ignore"):
            return np.where((values >= 0.0) & (values <= 1.0), values, np.nan)
    return renewable_share(generation) if generation else np.full(len(frame), np.nan)
