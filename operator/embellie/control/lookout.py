# SPDX-License-Identifier: Apache-2.0
"""What a turn looks at: the store, the sensors and the forecaster, and what is made of them."""

from collections.abc import Mapping
from datetime import datetime

from embellie.api.energypolicy import EnergyPolicy
from embellie.api.gridzone import GridZone
from embellie.api.thermalzone import ThermalZone
from embellie.cluster.store import Store, View
from embellie.control.assembly.assemble import Assembly, Subject, assemble
from embellie.control.assembly.inputs import Inputs
from embellie.control.assembly.own_objects import OwnObjects
from embellie.control.assembly.sensors import SensorDesk
from embellie.control.deciding.pausing import heat_loads
from embellie.control.deciding.seen import Seen, expected_facility_kw, expected_power_kw, is_forecast
from embellie.control.heat.heat_desk import HeatDesk
from embellie.control.options import Options
from embellie.domain.clock import Clock
from embellie.domain.reasons import Rung
from embellie.domain.snapshot import TenantUse, WorkloadKey
from embellie.telemetry.forecasts import ForecastDirectory, zone_entry


class Lookout:
    """Sees for one turn after the other; remembers what the last one expected, by which sensors are judged."""

    def __init__(self, options: Options, store: Store, clock: Clock, sensors: SensorDesk, heat: HeatDesk) -> None:
        self._options, self._store, self._clock = options, store, clock
        self._sensors, self._heat = sensors, heat
        self._forecasts = ForecastDirectory(options.forecast_dir)
        self._own = OwnObjects()
        self._subjects: Mapping[WorkloadKey, Subject] = {}
        self._zone_power_kw: dict[str, float] = {}
        """What each thermal zone should draw now, by the last turn."""
        self._facility_kw: dict[str, float] = {}
        """What each grid zone should draw now, by the last turn."""
        self._zones_told: int | None = None
        """The store's version of which the forecaster was told last while this process stood by."""

    def stand_by(self) -> View | None:
        """Tell the forecaster of this pod its zones, so that it works ahead; None where nothing changed since."""
        version = self._store.version
        if self._zones_told == version:
            return None
        view = self._store.view()
        self._grid_zones(view)
        self._zones_told = version
        return view

    def gather(self) -> Seen:
        """Ask everybody: the store, the sensors, the forecaster."""
        version, view = self._store.version, self._store.view()
        grid_zones = self._grid_zones(view)
        thermal_zones = self._own.parse(ThermalZone, view.thermal_zones)
        readings = self._sensors.read(grid_zones, thermal_zones, self._zone_power_kw, self._facility_kw)
        now = self._clock.now()
        names = [zone.metadata.name for zone in grid_zones if is_forecast(zone)]
        found = {name: self._forecasts.latest(name, now) for name in names}
        # The neutral rung is a guess without data: nothing is planned, shown or claimed by it.
        forecasts = {name: f for name, f in found.items() if f is not None and f.rung is not Rung.NEUTRAL}
        return Seen(
            version=version,
            view=view,
            grid_zones=grid_zones,
            thermal_zones=thermal_zones,
            readings=readings,
            forecasts=forecasts,
            heat=self._heat.turn(now, thermal_zones, readings, self._zone_power_kw, forecasts),
            to_pause=self._heat.wanted,
            now=now,
        )

    def assemble(
        self,
        seen: Seen,
        *,
        turn_s: float,
        bounds: Mapping[str, datetime],
        in_flight: Mapping[str, str],
        tenants: Mapping[str, TenantUse],
    ) -> Assembly:
        """Make of what was seen what is decided about.

        Args:
            seen: What `gather` returned.
            turn_s: Longest time from one turn to the next [s of the operator's clock].
            bounds: Workload uid -> the latest start that was promised before.
            in_flight: Releases that the watch has not shown yet: uid -> cell.
            tenants: What each namespace had of late.
        """
        inputs = Inputs(
            view=seen.view,
            grid_zones=seen.grid_zones,
            thermal_zones=seen.thermal_zones,
            policies=self._own.parse(EnergyPolicy, seen.view.energy_policies),
            forecasts=seen.forecasts,
            grid_power=seen.readings.grid_power_kw,
            inlets=seen.readings.inlets,
            supplies=seen.readings.supplies,
            bounds=bounds,
            in_flight=in_flight,
            own_namespace=self._options.namespace,
            turn_s=turn_s,
            period_s=self._options.turn_seconds,
            max_limit_hold_s=self._options.max_limit_hold_seconds,
            heat=seen.heat,
            learnt=self._heat.power,
            tenants=tenants,
        )
        assembly = assemble(inputs, self._clock, seen.now, self._subjects)
        self._subjects = assembly.subjects
        loads = heat_loads(assembly, seen.view.workloads, seen.view.pods, seen.now)
        self._heat.remember(assembly, loads, seen.view.workloads)
        self._zone_power_kw = expected_power_kw(assembly)
        self._facility_kw = expected_facility_kw(assembly)
        return assembly

    def _grid_zones(self, view: View) -> tuple[GridZone, ...]:
        """Return the GridZones, and tell the forecaster of those that it shall forecast."""
        grid_zones = self._own.parse(GridZone, view.grid_zones)
        self._forecasts.write_zones(zone_entry(z) for z in grid_zones if is_forecast(z))
        return grid_zones
