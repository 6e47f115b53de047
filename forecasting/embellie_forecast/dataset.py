# SPDX-License-Identifier: Apache-2.0
"""Generation and weather of a grid region as a validated hourly history.

Every row is the hour that begins at its index (UTC). Whatever cannot be believed is flagged and becomes unknown (NaN),
never a number.
"""

import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd

from embellie_forecast.factors import (
    DIRECT_EIA,
    LIFECYCLE_AR5,
    SOURCES,
    FactorSet,
    FloatArray,
    Scope,
    carbon_intensity_g_per_kwh,
    renewable_share,
)

WEATHER_COLUMNS = ("wxfc_wind_speed_ms", "wxfc_temp_c", "wxfc_dewpoint_c", "wxfc_dswrf_wm2", "wxfc_precip_kgm2")
WEATHER_BOUNDS = ((0.0, 75.0), (-70.0, 60.0), (-90.0, 40.0), (0.0, 1500.0), (0.0, 500.0))
FACTORS: Mapping[Scope, FactorSet] = {Scope.LIFECYCLE: LIFECYCLE_AR5, Scope.DIRECT: DIRECT_EIA}
MAX_SOURCE_MW = 1_000_000.0
METERING_NOISE_MW = 50.0
"""A source may read this far below zero at rest (station use); it then counts as zero [MW]."""
FROZEN_HOURS = 4
"""So many equal hours in every source at once are a frozen feed, not a steady grid."""
TOTAL_RANGE = (0.2, 5.0)
"""Total generation outside this range around the median of the past 30 days is absurd."""


class Problem(StrEnum):
    """Why an hour is not believed."""

    NONE = ""
    MISSING = "Missing"
    NEGATIVE = "Negative"
    ABSURD = "Absurd"
    FROZEN = "Frozen"


class DatasetError(ValueError):
    """The data of a region cannot be read or is not what its manifest says."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """What is known about a region: arrays over complete UTC hours from `first_hour` on, NaN where unknown."""

    region: str
    first_hour: int
    """Hours since 1970-01-01T00Z of the first row."""
    scope: Scope
    carbon_g_per_kwh: FloatArray
    renewable_share: FloatArray
    source_share: Mapping[str, FloatArray]
    total_mw: FloatArray
    weather: FloatArray
    """Shape (hours, 5), columns as in WEATHER_COLUMNS."""
    problems: tuple[str, ...]

    @property
    def n_hours(self) -> int:
        """How many hours there are, known or not."""
        return int(self.carbon_g_per_kwh.shape[0])

    @property
    def end_hour(self) -> int:
        """The hour after the last row, in hours since 1970."""
        return self.first_hour + self.n_hours

    def known_until(self, generation_end_hour: int, weather_end_hour: int) -> "History":
        """Return a copy without generation from one hour on (since 1970), and without weather from another."""
        stop = max(0, min(self.n_hours, max(generation_end_hour, weather_end_hour) - self.first_hour))
        blind = slice(max(0, generation_end_hour - self.first_hour), None)

        def cut(values: FloatArray) -> FloatArray:
            part = values[:stop].copy()
            part[blind] = np.nan
            return part

        weather = self.weather[:stop].copy()
        weather[max(0, weather_end_hour - self.first_hour) :] = np.nan
        return replace(
            self,
            carbon_g_per_kwh=cut(self.carbon_g_per_kwh),
            renewable_share=cut(self.renewable_share),
            source_share={name: cut(values) for name, values in self.source_share.items()},
            total_mw=cut(self.total_mw),
            weather=weather,
            problems=self.problems[: max(0, min(stop, generation_end_hour - self.first_hour))],
        )


def hour_of(moment: datetime) -> int:
    """Return the hour since 1970-01-01T00Z in which `moment` lies.

    >>> hour_of(datetime(1970, 1, 2, 3, 59, tzinfo=UTC))
    27
    """
    return int(moment.timestamp() // 3600)


def instant_of(hour: int) -> datetime:
    """Return the beginning of an hour since 1970, UTC."""
    return datetime.fromtimestamp(hour * 3600, UTC)


def flag_problems(generation_mw: Mapping[str, FloatArray]) -> tuple[str, ...]:
    """Return one `Problem` value per hour; the first that applies in the order of the enumeration."""
    stacked = np.stack(list(generation_mw.values()))
    total = stacked.sum(axis=0)
    median = pd.Series(total).rolling(24 * 30, min_periods=48).median().shift(1).to_numpy()
    with np.errstate(invalid="ignore"):
        missing = ~np.isfinite(stacked).all(axis=0)
        negative = (stacked < -METERING_NOISE_MW).any(axis=0)
        absurd = (stacked > MAX_SOURCE_MW).any(axis=0) | (total <= 0.0)
        absurd |= (total < TOTAL_RANGE[0] * median) | (total > TOTAL_RANGE[1] * median)
        frozen = _frozen(stacked)
    flags = np.full(total.shape[0], Problem.NONE.value, dtype=object)
    for mask, problem in (
        (frozen, Problem.FROZEN),
        (absurd, Problem.ABSURD),
        (negative, Problem.NEGATIVE),
        (missing, Problem.MISSING),
    ):
        flags[mask] = problem.value
    return tuple(str(flag) for flag in flags)


def _frozen(stacked: FloatArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Tell the hours from the fourth equal one on; the first three may be a coincidence."""
    same = np.zeros(stacked.shape[1], dtype=bool)
    same[1:] = (stacked[:, 1:] == stacked[:, :-1]).all(axis=0)
    run = np.zeros(stacked.shape[1], dtype=np.int64)
    for i in range(1, run.size):
        run[i] = run[i - 1] + 1 if same[i] else 0
    return run >= FROZEN_HOURS - 1


def build_history(region: str, frame: pd.DataFrame, scope: Scope = Scope.LIFECYCLE) -> History:
    """Build a validated history from a frame with a UTC hour-beginning index, `gen_<source>_mw` and `wxfc_*` columns.

    Raises:
        DatasetError: The index has no zone, is not hourly or repeats an hour; no generation column is known.
    """
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex) or index.tz is None or str(index.tz) != "UTC":
        raise DatasetError(f"{region}: the index must be in UTC")
    if len(index) == 0 or not index.is_unique or bool((index != index.floor("h")).any()):
        raise DatasetError(f"{region}: the index must be whole hours, each once")
    frame = frame.sort_index()
    frame = frame.reindex(pd.date_range(frame.index[0], frame.index[-1], freq="h"))
    generation = {name: _numbers(frame, f"gen_{name}_mw") for name in SOURCES if f"gen_{name}_mw" in frame.columns}
    if not generation:
        raise DatasetError(f"{region}: no gen_<source>_mw column")
    problems = flag_problems(generation)
    believed = np.array([not problem for problem in problems])
    generation = {name: np.where(believed, np.maximum(values, 0.0), np.nan) for name, values in generation.items()}
    total = np.sum(list(generation.values()), axis=0)
    total = np.where(total > 0.0, total, np.nan)
    return History(
        region=region,
        first_hour=hour_of(frame.index[0].to_pydatetime()),
        scope=scope,
        carbon_g_per_kwh=carbon_intensity_g_per_kwh(generation, FACTORS[scope]),
        renewable_share=renewable_share(generation),
        source_share={name: values / total for name, values in generation.items()},
        total_mw=total,
        weather=_weather(frame),
        problems=problems,
    )


def _numbers(frame: pd.DataFrame, column: str) -> FloatArray:
    return np.asarray(pd.to_numeric(frame[column], errors="coerce"), dtype=np.float64)


def _weather(frame: pd.DataFrame) -> FloatArray:
    weather = np.full((len(frame), len(WEATHER_COLUMNS)), np.nan)
    for k, (column, (low, high)) in enumerate(zip(WEATHER_COLUMNS, WEATHER_BOUNDS, strict=True)):
        if column in frame.columns:
            values = _numbers(frame, column)
            with np.errstate(invalid="ignore"):
                weather[:, k] = np.where((values >= low) & (values <= high), values, np.nan)
    return weather


@lru_cache(maxsize=1)
def manifest() -> dict[str, dict[str, Any]]:
    """Return the manifest of the carried data: region -> file, sha256, rows."""
    text = (resources.files("embellie_forecast") / "data" / "manifest.json").read_text()
    loaded: dict[str, dict[str, Any]] = json.loads(text)
    return loaded


def carried_regions() -> tuple[str, ...]:
    """Return the grid regions whose data the product carries."""
    return tuple(sorted(manifest()))


def load_carried(region: str, scope: Scope = Scope.LIFECYCLE) -> History:
    """Load a carried region.

    Raises:
        DatasetError: The region is not carried, or its file is not the one of the manifest.
    """
    entry = manifest().get(region)
    if entry is None:
        raise DatasetError(f"no data is carried for grid region {region!r}; carried: {', '.join(carried_regions())}")
    packed = (resources.files("embellie_forecast") / "data" / str(entry["file"])).read_bytes()
    if hashlib.sha256(packed).hexdigest() != entry["sha256"]:
        raise DatasetError(f"{region}: the carried file differs from its manifest; reinstall the package")
    frame = pd.read_csv(io.BytesIO(gzip.decompress(packed)), index_col="timestamp_utc")
    frame.index = pd.DatetimeIndex(pd.to_datetime(frame.index, utc=True))
    return build_history(region, frame, scope)
