# SPDX-License-Identifier: Apache-2.0
"""A plant's next hours: the best that weather, meter and calendar can say together. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from embellie_forecast.exchange import OnSiteForecast, Rung
from embellie_forecast.onsite.correction import learn, nothing_learned
from embellie_forecast.onsite.plants import Plant, SolarPlant

CLEARNESS = (0.25, 0.65, 0.95)
"""Without weather: shares of the clear sky's radiation for the quantiles 10, 50 and 90 %."""
CALM_TO_STORM = (0.02, 0.22, 0.70)
"""Without weather: shares of a wind farm's peak for the same quantiles."""
MIN_WEATHER_HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Past:
    """What is known about the plant's past."""

    weather_by_day: Mapping[int, pd.DataFrame]
    """Days ahead -> the weather as it was forecast so long before; only this is honest to learn from."""
    metered_kw: "pd.Series[float]"


def forecast_plant(
    name: str, plant: Plant, *, start: datetime, slots: int, weather: pd.DataFrame | None, past: Past | None
) -> OnSiteForecast:
    """Return the plant's power for `slots` hours from `start` (UTC, a whole hour)."""
    index = pd.date_range(pd.Timestamp(start), periods=slots, freq="h")
    modelled = None if weather is None else plant.power_kw(weather.reindex(index))
    if modelled is None or int(modelled.notna().sum()) < MIN_WEATHER_HOURS:
        return _without_weather(name, plant, index)
    lessons = nothing_learned()
    if past is not None:
        modelled_past = {day: plant.power_kw(known) for day, known in past.weather_by_day.items() if not known.empty}
        lessons = learn(modelled_past, past.metered_kw, plant.peak_kw)
    known = modelled.notna().to_numpy()
    middle = pd.Series(lessons.middle_kw(modelled.fillna(0.0), plant.peak_kw), index=index)
    quantiles = lessons.quantiles_kw(middle, plant.peak_kw, plant.alike_days)
    usual = _without_weather(name, plant, index).power_kw
    return OnSiteForecast(
        name=name,
        kind=_kind(plant),
        rung=Rung.LIVE if lessons.hours else Rung.CALENDAR,
        # Behind the end of the weather the usual range holds.
        power_kw=np.where(known[None, :], quantiles, usual),
    )


def _without_weather(name: str, plant: Plant, index: pd.DatetimeIndex) -> OnSiteForecast:
    """Return what the calendar knows: the sun's path under usual skies, or any wind at all."""
    if isinstance(plant, SolarPlant):
        rows = [plant.power_kw(plant.clear_sky(index, clearness)).to_numpy() for clearness in CLEARNESS]
        power, rung = np.sort(np.clip(np.nan_to_num(np.stack(rows)), 0.0, plant.peak_kw), axis=0), Rung.CLIMATOLOGY
    else:
        power, rung = np.outer(np.array(CALM_TO_STORM) * plant.peak_kw, np.ones(len(index))), Rung.NEUTRAL
    return OnSiteForecast(name=name, kind=_kind(plant), rung=rung, power_kw=np.asarray(power, dtype=np.float64))


def _kind(plant: Plant) -> str:
    return "Solar" if isinstance(plant, SolarPlant) else "Wind"
