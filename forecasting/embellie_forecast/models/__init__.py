# SPDX-License-Identifier: Apache-2.0
"""The forecast models: what they look at, how they are fitted, blended and calibrated, and how they issue."""

from embellie_forecast.models.calendar import MAX_AGE_HOURS, CalendarModel, issue_calendar, train_calendar
from embellie_forecast.models.forecasts import TargetForecast, ZoneForecast
from embellie_forecast.models.kernels import TooLittleDataError
from embellie_forecast.models.series import IssuedSeries, issue_points
from embellie_forecast.models.targets import HORIZON_HOURS, QUANTILE_LEVELS, Settings, Target, WeatherUse
from embellie_forecast.models.upkeep import better_on_recent, is_due
from embellie_forecast.models.zone import CannotIssueError, ZoneModel, issue, train_zone

__all__ = [
    "HORIZON_HOURS",
    "MAX_AGE_HOURS",
    "QUANTILE_LEVELS",
    "CalendarModel",
    "CannotIssueError",
    "IssuedSeries",
    "Settings",
    "Target",
    "TargetForecast",
    "TooLittleDataError",
    "WeatherUse",
    "ZoneForecast",
    "ZoneModel",
    "better_on_recent",
    "is_due",
    "issue",
    "issue_calendar",
    "issue_points",
    "train_calendar",
    "train_zone",
]
