# SPDX-License-Identifier: Apache-2.0
"""One cooled row: its settings, readings and weather, and the state that the controller makes of them."""

from dataclasses import replace
from datetime import timedelta

import numpy as np

from embellie.domain.snapshot import Quality, Reading, ThermalZoneState
from embellie.thermal.controller import HeatController
from embellie.thermal.readings import Unit
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import CoolingSettings, LimitSettings, Role, SensorSettings, ZoneSettings
from embellie.thermal.weather import AmbientForecast
from embellie_testbed.views import NOW

SENSORS = (
    SensorSettings(name="in", role=Role.INLET, unit=Unit.CELSIUS),
    SensorSettings(name="sup", role=Role.SUPPLY, unit=Unit.CELSIUS),
)


def settings(**changes) -> ZoneSettings:
    made = ZoneSettings(
        name="row",
        limits=LimitSettings(inlet_hard_c=32.0, margin_k=3.0),
        cooling=CoolingSettings(capacity_kw=100.0, rise_k_per_kw=0.1, ambient_approach_k=5.0),
        sensors=SENSORS,
    )
    return replace(made, **changes)


def fresh(value: float | None) -> Reading:
    return Reading(value=value, age_s=5.0, quality=Quality.FRESH if value is not None else Quality.STALE)


def ambient(*p90: float) -> AmbientForecast:
    high = np.array(p90, dtype=np.float64)
    return AmbientForecast(start=NOW, step=timedelta(hours=1), p50_c=high - 3.0, p90_c=high)


def state_of(zone: ZoneSettings, *p90: float, inlet: float | None = 24.0) -> ThermalZoneState:
    controller = HeatController([zone])
    readings = ZoneReadings(by_role={Role.INLET: fresh(inlet), Role.SUPPLY: fresh(20.0)})
    controller.observe(NOW, {"row": readings}, {"row": 40.0}, {"row": ambient(*p90)})
    return controller.states({"row": ambient(*p90)})[0]
