# SPDX-License-Identifier: Apache-2.0
"""One drilled room as the operator sees it, and how its orders about heat reach the room's cluster.

What the API server and the telemetry do in a cluster: zones from a commissioning, judged readings, a snapshot, and the
carrying out of what was ordered. What starts is in `starts`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.limits import fresh_value
from embellie.domain.power_orders import least_limits_kw
from embellie.domain.snapshot import (
    Cell,
    GridZoneState,
    Reading,
    Snapshot,
    ThermalZoneState,
    Workload,
)
from embellie.simulation.drill.ahead import RegionalForecast, orders_told, permit_rows
from embellie.simulation.drill.commission import MAX_AGE_S, worst_pue, zone_settings
from embellie.simulation.drill.rig import Drill, Rig, Seen
from embellie.simulation.drill.roster import Roster
from embellie.thermal.duties import AHEAD_S, share_order
from embellie.thermal.raising import let_up
from embellie.thermal.readings import Unit
from embellie.thermal.relief import CapOrder, HeatLoad
from embellie.thermal.sensing import SensorBank, ZoneReadings, zone_readings
from embellie.thermal.settings import MOVED_ROLES, Role, SensorSettings, ZoneSettings
from embellie.thermal.shield import Rises
from embellie.thermal.weather import AmbientForecast

SHIELD_EVERY = 2
"""Starts are looked at every so many turns, heat every turn."""
_NEAR_K = 5.0


class Desk:
    """One room as the operator knows it.

    For reruns: from `starts_until_s` on it starts nothing, from `no_forced_from_s` on nothing that only a bound forces.
    """

    def __init__(self, b: int, drill: Drill, rig: Rig, *, starts_until_s: float, no_forced_from_s: float) -> None:
        self.b, self.drill, self.site = b, drill, rig.sites[b]
        self.starts_until_s, self.no_forced_from_s = starts_until_s, no_forced_from_s
        self.turn_s = rig.turn_s * SHIELD_EVERY
        spec = drill.designed
        self._grid = f"g{b}"
        self.prefix = f"{b}-"
        course = drill.course
        ceiling = permit_rows(drill, rig.drills[b].course.weather.start)
        self.settings: tuple[ZoneSettings, ...] = zone_settings(
            spec, self.prefix, self._grid, wrong=course.wrong, ceiling=ceiling
        )
        self.readings: dict[str, ZoneReadings] = {}
        self.heat_kw: dict[str, float] = {}
        self._meter_sensor = SensorSettings(
            name="facility/power", role=Role.LOOP_POWER, unit=Unit.KILOWATT, max_age_s=MAX_AGE_S
        )
        self._power: Reading | None = None
        self._node = spec.node
        self._pue = worst_pue(spec)
        self._base_kw = {zone: z.base_power_kw for zone, z in zip(self.site.zones, self.settings, strict=True)}
        self._worst: dict[str, float] = {}
        self._worst_version = -1
        self._forecast = RegionalForecast(course, rig.clock(0, 0.0))
        self._under_order = False
        self.states: tuple[ThermalZoneState, ...] = ()
        self.now = rig.clock(0, 0.0)
        self._shared = rig.clock(0, 0.0)
        self.jobs = Roster(b, drill, self.site, self._shared)
        self._rises: tuple[float, Rises] | None = None
        self.stated_s = -np.inf

    # -- what is seen ------------------------------------------------------------------------------------------------

    def look(self, now_s: float, seen: Seen, bank: SensorBank) -> None:
        """Judge every sensor of the room's zones."""
        values, ages = seen.values[self.b], seen.ages_s[self.b]
        now = self._shared.timestamp() + now_s
        shared: dict[str, Reading] = {}
        for name, zone in zip(self.site.zones, self.settings, strict=True):
            power = values[seen.index[f"{name}/power"]]
            heat = self._expected_kw(name) if np.isnan(power) else float(power)
            found = {}
            for sensor in zone.sensors:
                if sensor.name in shared:
                    found[sensor.name] = shared[sensor.name]
                    continue
                column = seen.index[sensor.name]
                value = float(values[column])
                found[sensor.name] = bank.judge(
                    f"{zone.name}/{sensor.name}",
                    sensor,
                    now - float(ages[column]),
                    None if np.isnan(value) else value,
                    now,
                    heat,
                )
                if sensor.role not in MOVED_ROLES:
                    # The same sensor in another zone says the same: only what power moves is judged beside that power.
                    shared[sensor.name] = found[sensor.name]
            self.readings[zone.name] = zone_readings(zone, found)
            self.heat_kw[zone.name] = heat
        column = seen.index["facility/power"]
        meter = float(values[column])
        self._power = bank.judge(
            f"{self._grid}/power",
            self._meter_sensor,
            now - float(ages[column]),
            None if np.isnan(meter) else meter,
            now,
            0.0,
        )

    def _expected_kw(self, zone: str) -> float:
        return self._base_kw[zone] + sum(self.jobs.added_kw(run) for run in self.site.zone_gangs(zone))

    def worst_kw(self) -> dict[str, float]:
        """Return each zone's heat with all that runs at its worst [kW]."""
        if self._worst_version != self.site.version:
            found = {zone.name: zone.base_power_kw for zone in self.settings}
            for run in self.site.running.values():
                found[self.prefix + run.zone] += self.jobs.gang(run).worst_power_kw
            self._worst, self._worst_version = found, self.site.version
        return self._worst

    def ambient(self, now_s: float) -> dict[str, AmbientForecast]:
        """Return the newest outdoor forecast, by zone."""
        forecast = self._forecast.at(now_s)
        return {zone.name: forecast for zone in self.settings}

    def orders(self, now_s: float) -> dict[str, FloatArray]:
        """Return what a lowered contract and orders leave each zone at each of `AHEAD_S` [kW].

        It is shared by what each draws now.
        """
        allowed_kw = least_limits_kw(
            self.drill.contract_now_kw(now_s, announced=True),
            orders_told(self.drill, self._shared, now_s),
            self._shared + timedelta(seconds=now_s),
            AHEAD_S,
            AHEAD_S,
        )
        lowered = bool((allowed_kw < self.drill.contract_kw).any())
        self._under_order = (
            lowered or self.drill.ceiling_now_kw(now_s + 3600.0) < np.inf or self.drill.ceiling_now_kw(now_s) < np.inf
        )
        if not lowered:
            return {}
        whole, facility = sum(self.heat_kw.values()), fresh_value(self._power)
        return share_order(allowed_kw, self._pue * whole if facility is None else facility, self.heat_kw)

    # -- what is done ------------------------------------------------------------------------------------------------

    def know(self, now_s: float, now: datetime, states: tuple[ThermalZoneState, ...]) -> None:
        """Keep the zones' states of this turn."""
        self.states, self.now, self.stated_s = states, now, now_s

    @property
    def eases(self) -> bool:
        """Whether anything may go on or be uncapped, so that the zones' states are needed."""
        return bool(self.site.paused or self._capped())

    def _capped(self) -> bool:
        return any(run.cap_w is not None for run in self.site.running.values())

    def snapshot(self, now_s: float, proposed: tuple[Workload, ...] = ()) -> Snapshot:
        """Return the room as the operator sees it."""
        site = self.site
        cells = tuple(
            Cell(
                name=self.prefix + zone,
                grid_zone=self._grid,
                thermal_zone=self.prefix + zone,
                gpus_total=site.nodes[zone] * self._node.gpus,
                node_free_gpus=site.pools[zone].node_free_gpus,
                pue=self._pue,
            )
            for zone in site.zones
        )
        grid = GridZoneState(
            name=self._grid,
            contracted_power_kw=self.drill.contract_now_kw(now_s, announced=True),
            base_power_kw=sum(self._base_kw.values()) * self._pue,
            measured_power_kw=self._power,
            forecast=None,
            orders=orders_told(self.drill, self._shared, now_s),
        )
        return Snapshot(
            now=self.now,
            turn_s=self.turn_s,
            workloads=proposed,
            cells=cells,
            grid_zones=(grid,),
            thermal_zones=self.states,
            running=self.jobs.gangs(),
        )

    def loads(self, levels: Mapping[str, int]) -> list[HeatLoad]:
        """Return what runs, for the ladder: in zones that it could look at."""
        watched = self._capped() or self._under_order
        hot = {
            name
            for name, zone in zip(self.site.zones, self.settings, strict=True)
            if watched or levels.get(zone.name) or self._warm(zone)
        }
        return self.jobs.loads(hot) if hot else []

    def _warm(self, zone: ZoneSettings) -> bool:
        """Tell whether a zone is near a limit or out of sight."""
        seen = self.readings[zone.name]
        for role in (Role.INLET, Role.COOLANT_SUPPLY, Role.COOLANT_RETURN):
            hard = zone.limits.hard_c(role)
            if hard is not None and zone.has(role):
                value = seen.value(role)
                if value is None or value > hard - _NEAR_K:
                    return True
        return False

    def apply_caps(self, orders: Sequence[CapOrder], loads: Sequence[HeatLoad], now_s: float) -> None:
        """Write caps; what is not ordered any more is uncapped, and none goes up without fresh readings."""
        if not orders and not self._capped():
            return
        fresh = self._fresh(now_s)
        found = let_up(orders, loads, self.snapshot(now_s)) if fresh else orders
        caps = {order.key: order.watts_per_gpu for order in found}
        for run in list(self.site.running.values()):
            watts = caps.get(self.jobs.key(run))
            if fresh or (watts is not None and watts < (run.cap_w or np.inf)):
                self.site.cap(run.job.id, watts, now_s)

    def _fresh(self, now_s: float) -> bool:
        """Tell whether the zones' states are of this turn or the last: what makes more heat is judged on no others."""
        return now_s - self.stated_s <= self.turn_s

    def refuses(self, zone: str, added_kw: float, run_s: float, now_s: float) -> bool:
        """Tell whether a zone may not make more heat; what may be counts for what is asked later in the same turn."""
        if not self._fresh(now_s):
            return True
        if self._rises is None or self._rises[0] != now_s:
            self._rises = (now_s, Rises(self.snapshot(now_s)))
        return self._rises[1].refusal(self.prefix + zone, added_kw, run_s) is not None
