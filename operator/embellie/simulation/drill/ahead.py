# SPDX-License-Identifier: Apache-2.0
"""What the operator is told of the hours ahead: the region's weather, as forecast, and permits."""

from datetime import datetime, timedelta

import numpy as np

from embellie.simulation.drill.rig import Drill
from embellie.simulation.drill.scenarios import Course, Kind
from embellie.simulation.plant.weather import ERROR_K_AT_DAY, forecast_error_k
from embellie.thermal.settings import Row
from embellie.thermal.weather import AmbientForecast

_ISSUED_EVERY_H, _HOURS = 6, 60
_P90_Z = 1.2816


class RegionalForecast:
    """Forecasts of the region (not the site), issued every six hours, wrong by more the further they look."""

    def __init__(self, course: Course, begin: datetime) -> None:
        self._course, self._begin = course, begin
        self._issue = -1
        self._last: AmbientForecast | None = None

    def at(self, now_s: float) -> AmbientForecast:
        """Return the newest forecast."""
        issue = int(now_s // (_ISSUED_EVERY_H * 3600.0))
        if self._last is None or issue != self._issue:
            first = issue * _ISSUED_EVERY_H
            truth = self._course.weather.dry_c[first : first + _HOURS]
            rng = np.random.default_rng([self._course.seed, 11, issue])
            middle = truth + forecast_error_k(rng, truth.size)
            spread = _P90_Z * ERROR_K_AT_DAY * np.minimum(1.0, np.sqrt(np.arange(truth.size) / 24.0))
            self._last = AmbientForecast(
                start=self._begin + timedelta(hours=first),
                step=timedelta(hours=1),
                p50_c=middle,
                p90_c=middle + spread,
            )
            self._issue = issue
        return self._last


def permit_rows(drill: Drill, begin: datetime) -> tuple[Row, ...]:
    """Return the permits for heat to the outside as rows of the loop's heat: what the coolant captures goes there."""
    captured = max(0.05, drill.designed.loop.liquid_share)
    rows = []
    for trouble in drill.course.troubles:
        if trouble.kind is Kind.CEILING and drill.ceiling_kw is not None:
            first, last = (begin + timedelta(seconds=s) for s in (trouble.begin_s, trouble.end_s))
            rows.append(Row(kw=drill.ceiling_kw / captured, from_hour=_hour(first), to_hour=_hour(last)))
    always = drill.designed.limits.ceiling_kw
    if always is not None:
        rows.append(Row(kw=always / captured))
    return tuple(rows)


def _hour(moment: datetime) -> float:
    return moment.hour + moment.minute / 60.0
