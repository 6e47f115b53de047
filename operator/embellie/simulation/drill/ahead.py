# SPDX-License-Identifier: Apache-2.0
"""What the operator is told of the hours ahead: the region's weather, as forecast, permits, and orders."""

from datetime import datetime, timedelta

import numpy as np

from embellie.domain.power_orders import PowerOrder
from embellie.simulation.drill.rig import Drill
from embellie.simulation.drill.scenarios import Course, Kind
from embellie.simulation.plant.weather import ERROR_K_AT_DAY, forecast_error_k
from embellie.thermal.settings import Row
from embellie.thermal.weather import AmbientForecast

_ISSUED_EVERY_H, _HOURS = 6, 60
_P90_Z = 1.2816


class RegionalForecast:
    """Forecasts of the region (not the site), issued every six hours, wrong by more the further they look.

    As the operator reads them: from the present hour on.
    """

    def __init__(self, course: Course, begin: datetime) -> None:
        self._course, self._begin = course, begin
        self._issue = self._hour = -1
        self._whole: AmbientForecast | None = None
        self._last: AmbientForecast | None = None

    def at(self, now_s: float) -> AmbientForecast:
        """Return the newest forecast."""
        issue = int(now_s // (_ISSUED_EVERY_H * 3600.0))
        hour = int(now_s // 3600.0)
        if self._last is not None and hour == self._hour:
            return self._last
        if self._whole is None or issue != self._issue:
            first = issue * _ISSUED_EVERY_H
            truth = self._course.weather.dry_c[first : first + _HOURS]
            rng = np.random.default_rng([self._course.seed, 11, issue])
            middle = truth + forecast_error_k(rng, truth.size)
            spread = _P90_Z * ERROR_K_AT_DAY * np.minimum(1.0, np.sqrt(np.arange(truth.size) / 24.0))
            self._whole = AmbientForecast(
                start=self._begin + timedelta(hours=first),
                step=timedelta(hours=1),
                p50_c=middle,
                p90_c=middle + spread,
            )
            self._issue = issue
        past, whole = hour - issue * _ISSUED_EVERY_H, self._whole
        self._last = AmbientForecast(
            start=whole.start + past * whole.step,
            step=whole.step,
            p50_c=whole.p50_c[past:],
            p90_c=whole.p90_c[past:],
        )
        self._hour = hour
        return self._last


def permit_rows(drill: Drill, begin: datetime) -> tuple[Row, ...]:
    """Return the permits for heat to the outside as rows of the loop's IT heat; the coolant takes a share of it."""
    captured = max(0.05, drill.designed.loop.liquid_share)
    rows = []
    for trouble in drill.course.troubles:
        if trouble.kind is Kind.CEILING and drill.ceiling_kw is not None:
            first, last = (begin + timedelta(seconds=s) for s in (trouble.begin_s, trouble.end_s))
            rows.append(
                Row(kw=drill.ceiling_kw / captured, from_hour=_hour(first), to_hour=_hour(last), to_outside=True)
            )
    always = drill.designed.limits.ceiling_kw
    if always is not None:
        rows.append(Row(kw=always / captured, to_outside=True))
    return tuple(rows)


def orders_told(drill: Drill, begin: datetime, now_s: float) -> tuple[PowerOrder, ...]:
    """Return the orders that were announced by now, past ones too, as they stand in a GridZone."""
    return tuple(
        PowerOrder(
            begins=begin + timedelta(seconds=trouble.begin_s),
            ends=begin + timedelta(seconds=trouble.end_s),
            power_kw=drill.contract_kw * trouble.amount,
        )
        for trouble in drill.course.troubles
        if trouble.kind is Kind.ORDER and trouble.begin_s - trouble.notice_s <= now_s
    )


def _hour(moment: datetime) -> float:
    return moment.hour + moment.minute / 60.0
