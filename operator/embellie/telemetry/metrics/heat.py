# SPDX-License-Identifier: Apache-2.0
"""Metrics of thermal zones and sensors."""

from embellie.telemetry.metrics.metric import Topic, gauge

_POWER = Topic.POWER

INLET = gauge(
    "embellie_thermal_inlet_celsius",
    _POWER,
    "celsius",
    "Inlet temperature of a ThermalZone, the hottest fresh reading; absent while no reading can be trusted.",
    ("zone",),
)
SUPPLY = gauge(
    "embellie_thermal_supply_celsius",
    _POWER,
    "celsius",
    "Temperature of what the cooling delivers to a ThermalZone; absent while no reading can be trusted.",
    ("zone",),
)
INLET_LIMIT = gauge(
    "embellie_thermal_inlet_limit_celsius", _POWER, "celsius", "Hard inlet limit of a ThermalZone.", ("zone",)
)
MARGIN = gauge(
    "embellie_thermal_margin_celsius",
    _POWER,
    "celsius",
    "Distance that the planner keeps from a ThermalZone's hard limit [K].",
    ("zone",),
)
HEADROOM = gauge(
    "embellie_thermal_headroom_watts",
    _POWER,
    "watts",
    "Worst-case power that may still start in a ThermalZone; negative over the limit, absent without one.",
    ("zone",),
)
WORST_LOAD = gauge(
    "embellie_thermal_worst_case_watts",
    _POWER,
    "watts",
    "Heat of a ThermalZone with all that runs in it at its worst case.",
    ("zone",),
)
HEAT_LIMIT = gauge(
    "embellie_thermal_limit_watts",
    _POWER,
    "watts",
    "Heat that a ThermalZone may carry now, from its temperatures and its cooling capacity; absent without a limit.",
    ("zone",),
)
ZONE_STATE = gauge(
    "embellie_thermal_state",
    _POWER,
    "0 or 1",
    "1 for the state that a ThermalZone is in: Normal, Limited, OverLimit or Unknown.",
    ("zone", "state"),
)
COOLANT_RETURN = gauge(
    "embellie_thermal_return_celsius",
    _POWER,
    "celsius",
    "Temperature at which the coolant leaves a ThermalZone; absent without such a sensor or while it is not trusted.",
    ("zone",),
)
RETURN_LIMIT = gauge(
    "embellie_thermal_return_limit_celsius",
    _POWER,
    "celsius",
    "Hard limit of the coolant's return of a ThermalZone; absent where none is set.",
    ("zone",),
)
PEAK = gauge(
    "embellie_thermal_predicted_peak_celsius",
    _POWER,
    "celsius",
    "Highest temperature of a ThermalZone that is expected within a day at the present load, margin not included.",
    ("zone",),
)
LEVEL = gauge(
    "embellie_thermal_ladder_level",
    _POWER,
    "level",
    "How far up the ladder of answers to heat a ThermalZone is: 0 normal, 1 closed to new work, 2 capped, 3 pausing, "
    "4 tainted.",
    ("zone",),
)
MODEL_TRUSTED = gauge(
    "embellie_thermal_model_trusted",
    _POWER,
    "0 or 1",
    "1 while the learnt heat model of a ThermalZone is used; 0 while it still learns or has drifted, and the settings "
    "count.",
    ("zone",),
)
HEAT_CONFLICTS = gauge(
    "embellie_thermal_conflicts",
    _POWER,
    "conflicts",
    "Constraints of a ThermalZone that cannot be met together, such as a heat network's floor and a ceiling.",
    ("zone",),
)
PUE = gauge(
    "embellie_thermal_pue_ratio",
    _POWER,
    "ratio",
    "Facility power over IT power that is expected in a ThermalZone now; absent without a heat outlook.",
    ("zone",),
)
REMOVABLE = gauge(
    "embellie_thermal_removable_watts",
    _POWER,
    "watts",
    "Heat that the cooling of a ThermalZone can carry away, by lead time in hours; absent without a heat outlook.",
    ("zone", "lead_hours"),
)
AMBIENT = gauge(
    "embellie_ambient_forecast_celsius",
    _POWER,
    "celsius",
    "Forecast outdoor temperature of a GridZone's region, by lead time in hours and quantile level.",
    ("zone", "lead_hours", "level"),
)
SENSOR_TRUSTED = gauge(
    "embellie_sensor_trusted",
    _POWER,
    "0 or 1",
    "1 while a sensor that a zone names reads fresh; 0 while it is stale, frozen, absurd or missing and the worst case "
    "counts.",
    ("zone_kind", "zone", "sensor"),
)
