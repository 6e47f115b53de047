# SPDX-License-Identifier: Apache-2.0
"""Metrics of grid zones: intensity, forecasts and how good they are, feeds, power."""

from embellie.telemetry.metrics.metric import Topic, gauge

_GRID, _POWER = Topic.GRID, Topic.POWER
LEAD_HOURS = (0, 1, 3, 6, 12, 24, 48, 72)
"""Lead times at which the forecast is shown: enough for a picture, few enough for a hundred zones."""
SHOWN_LEVELS = (0.1, 0.5, 0.9)

CARBON_INTENSITY = gauge(
    "embellie_carbon_intensity_grams_per_kilowatt_hour",
    _GRID,
    "grams per kilowatt hour",
    "Carbon intensity of the present slot, as forecast [gCO2e/kWh], per GridZone and kind of signal.",
    ("zone", "signal_kind"),
)
CARBON_FORECAST = gauge(
    "embellie_carbon_intensity_forecast_grams_per_kilowatt_hour",
    _GRID,
    "grams per kilowatt hour",
    "Forecast carbon intensity [gCO2e/kWh], per GridZone, kind of signal, lead time in hours and quantile level.",
    ("zone", "signal_kind", "lead_hours", "level"),
)
RENEWABLE_SHARE = gauge(
    "embellie_renewable_share_ratio",
    _GRID,
    "ratio",
    "Renewable share of the generation in the present slot, as forecast (median), per GridZone.",
    ("zone",),
)
RENEWABLE_FORECAST = gauge(
    "embellie_renewable_share_forecast_ratio",
    _GRID,
    "ratio",
    "Forecast renewable share, per GridZone, lead time in hours and quantile level.",
    ("zone", "lead_hours", "level"),
)
FORECAST_RUNG = gauge(
    "embellie_forecast_rung",
    _GRID,
    "0 or 1",
    "1 for the rung of the ladder that a GridZone's forecast stands on; None means no forecast at all.",
    ("zone", "rung"),
)
FORECAST_AGE = gauge(
    "embellie_forecast_age_seconds", _GRID, "seconds", "Age of the forecast in use, per GridZone.", ("zone",)
)
FORECAST_HORIZON = gauge(
    "embellie_forecast_horizon_seconds",
    _GRID,
    "seconds",
    "How far ahead the forecast in use still reaches, per GridZone.",
    ("zone",),
)
FORECAST_SKILL = gauge(
    "embellie_forecast_skill_ratio",
    _GRID,
    "ratio",
    "How much smaller the forecast's errors were than those of persistence over the last 30 days, per GridZone; "
    "negative if larger.",
    ("zone",),
)
FORECAST_ERROR = gauge(
    "embellie_forecast_error_ratio",
    _GRID,
    "ratio",
    "Mean absolute error of issued forecasts as a share of what came, over the last 30 days, per GridZone, target and "
    "day ahead.",
    ("zone", "target", "lead_day"),
)
FORECAST_COVERAGE = gauge(
    "embellie_forecast_coverage_ratio",
    _GRID,
    "ratio",
    "Share of hours in which what came lay inside the forecast's 80 % interval, over the last 30 days, per GridZone, "
    "target and day ahead. 0.8 is right.",
    ("zone", "target", "lead_day"),
)
FEED_UP = gauge(
    "embellie_feed_up", _GRID, "0 or 1", "1 while a feed answers with data that is believed.", ("zone", "feed")
)
FEED_AGE = gauge("embellie_feed_age_seconds", _GRID, "seconds", "Age of the newest value of a feed.", ("zone", "feed"))

ZONE_POWER = gauge(
    "embellie_zone_power_watts",
    _POWER,
    "watts",
    "Facility power of a GridZone: measured by its sensor (source measured), or reckoned from what runs (source "
    "reckoned).",
    ("zone", "source"),
)
ZONE_WORST = gauge(
    "embellie_zone_worst_case_watts",
    _POWER,
    "watts",
    "Facility power of a GridZone with all that runs at its worst case.",
    ("zone",),
)
ZONE_CONTRACT = gauge(
    "embellie_zone_contracted_power_watts",
    _POWER,
    "watts",
    "Power that a GridZone may draw now, the least of its contract and the orders that hold; absent where none does.",
    ("zone",),
)
PROMISES_OVER = gauge(
    "embellie_promised_starts_over_limit",
    _POWER,
    "workloads",
    "Held workloads whose latest start a zone is seen not to be able to carry: by its contracted power (GridZone), by "
    "its cooling (ThermalZone). They start then all the same.",
    ("zone_kind", "zone"),
)
