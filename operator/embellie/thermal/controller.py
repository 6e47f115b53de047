# SPDX-License-Identifier: Apache-2.0
"""Everything that is done about heat between two turns, without I/O: learn, look ahead, answer.

The operator and the drills drive the same object: `observe` what the sensors say, put the `states` into the snapshot,
plan and shield, then carry out what `respond` orders.
"""

import math
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from datetime import datetime
from functools import partial

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.domain.heat import ZoneHeatModel
from embellie.domain.snapshot import ThermalZoneState
from embellie.thermal import ladder, zone_now
from embellie.thermal.delivery import HeatTaken
from embellie.thermal.duties import Duty, duty_of
from embellie.thermal.jumps import Jumps
from embellie.thermal.ladder import LadderMemory, Response
from embellie.thermal.outlook import ReachedSupply, look_ahead
from embellie.thermal.relief import HeatLoad
from embellie.thermal.rungs import Level
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import Role, ZoneSettings, at_river
from embellie.thermal.warming import Warming
from embellie.thermal.weather import AmbientForecast, SiteWeather, SupplyModels
from embellie.thermal.zone_models import ZoneModels
from embellie.thermal.zone_now import ZoneNow, ZoneReport


class HeatController:
    """All thermal zones of a cluster; settings may change while it runs."""

    def __init__(self, settings: Sequence[ZoneSettings]) -> None:
        self._set_up(settings)
        self._ladder = LadderMemory()
        self._warming = Warming()
        self._jumps = Jumps()
        self._readings: Mapping[str, ZoneReadings] = {}
        self._heat_kw: dict[str, float] = {}
        self._response = Response(zones={})
        self._orders: Mapping[str, FloatArray] = {}
        self._arriving: dict[str, float] = {}
        self._outdoor_c: dict[str, float] = {}
        self._reports: dict[str, ZoneReport] | None = None
        self._to_report: dict[str, Callable[[], ZoneReport]] = {}
        self._cached: Mapping[str, ZoneHeatModel] = self.models.heat_models()

    def _set_up(self, settings: Sequence[ZoneSettings]) -> None:
        self._settings = tuple(settings)
        self.models = ZoneModels(self._settings)
        self._supply = SupplyModels(self._settings)
        self._taken = HeatTaken(self._settings)
        self._weather = SiteWeather(len(self._settings))

    def configure(self, settings: Sequence[ZoneSettings]) -> None:
        """Take new settings; zones that stayed the same keep what they learnt."""
        if tuple(settings) == self._settings:
            return
        old = self.models
        same_zones = len(settings) == len(old.settings) and all(
            zone.learns_like(before) for zone, before in zip(settings, old.settings, strict=True)
        )
        supply, weather, taken = self._supply, self._weather, self._taken
        self._set_up(settings)
        self.models.transplant(old)
        if same_zones:
            self._supply, self._taken = supply, taken
        if tuple(z.name for z in settings) == old.names:
            self._weather = weather
        self._cached = self.models.heat_models()

    def adopt(self, learnt: "HeatController") -> None:
        """Take over what another controller of the same settings has learnt; readings and the ladder stay."""
        self.models = learnt.models
        self._supply, self._weather, self._taken = learnt.supply, learnt.weather, learnt.taken
        self._cached = self.models.heat_models()

    @property
    def supply(self) -> SupplyModels:
        """What the cooling is known to reach."""
        return self._supply

    @property
    def taken(self) -> HeatTaken:
        """What heat networks take."""
        return self._taken

    @property
    def weather(self) -> SiteWeather:
        """How the sites differ from their forecasts."""
        return self._weather

    @property
    def settings(self) -> tuple[ZoneSettings, ...]:
        """What the zones are set up with."""
        return self._settings

    @property
    def reports(self) -> Mapping[str, ZoneReport]:
        """What the last `states` found out, by zone."""
        if self._reports is None:
            self._reports = {name: tell() for name, tell in self._to_report.items()}
        return self._reports

    def observe(
        self,
        now: datetime,
        readings: Mapping[str, ZoneReadings],
        heat_kw: Mapping[str, float],
        ambient: Mapping[str, AmbientForecast] | None = None,
        regime: Mapping[str, int] | None = None,
    ) -> None:
        """Take what all zones show and learn from it.

        Args:
            now: The time of the readings.
            readings: By zone name; a zone that is missing shows nothing.
            heat_kw: IT heat that each zone makes now: measured where it is, else expected [kW].
            ambient: Outdoor forecasts by zone name, from which the site's adder is learnt.
            regime: A number by zone that changes when fans, flow or throttling do.
        """
        names, now_s = self.models.names, now.timestamp()
        self._readings, self._heat_kw = dict(readings), dict(heat_kw)
        self._warming.observe(now, self._settings, readings)
        self._jumps.observe(now, self._settings, readings)
        jumped = np.array([n in self._jumps.zones for n in names], dtype=bool)
        temperature = self._values(lambda zone: zone.limited_role)
        outdoor = self._values(lambda _: Role.OUTDOOR_DRY_BULB)
        forecast = np.array([ambient[n].at(now)[0] if ambient and n in ambient else math.nan for n in names])
        self._weather.observe(now_s, outdoor, forecast)
        outdoor = np.where(np.isfinite(outdoor), outdoor, forecast + self._weather.adder_k)
        self._outdoor_c = dict(zip(names, outdoor.tolist(), strict=True))
        heat = np.array([heat_kw.get(n, math.nan) for n in names])
        supply = self._values(lambda _: Role.SUPPLY)
        self._supply.observe(now_s, np.where(jumped, math.nan, supply), outdoor, heat)
        self._taken.observe(now_s, self._values(lambda _: Role.HEAT_DELIVERED), heat, outdoor)
        reference = np.where(np.isfinite(supply), supply, self._supply.expected_c(outdoor, heat))
        # A supply that is named but not believed tells nothing about the zone either.
        believed = np.array([not z.has(Role.SUPPLY) for z in self._settings], dtype=bool) | np.isfinite(supply)
        self.models.observe(
            now_s,
            temperature,
            reference,
            heat,
            np.isfinite(temperature) & believed,
            None if regime is None else np.array([regime.get(n, 0) for n in names]),
            jumped,
        )
        self._cached = self.models.heat_models()

    def states(
        self,
        ambient: Mapping[str, AmbientForecast],
        *,
        worst_kw: Mapping[str, float] | None = None,
        pue: Callable[[str, FloatArray, FloatArray], FloatArray] | None = None,
        only: Container[str] | None = None,
    ) -> tuple[ThermalZoneState, ...]:
        """Return what the snapshot holds about each zone.

        Args:
            ambient: Outdoor forecasts by zone name.
            worst_kw: Each zone's heat with all that runs at its worst case, base included; the present heat without it.
            pue: Learnt PUE from a zone's name, outdoor temperatures [degC] and what the settings say at them.
            only: Zones that anybody asks about; None: all.
        """
        loads = {**self._heat_kw, **(worst_kw or {})}
        setpoints, a0, a1 = self._supply.parameters()
        adders = self._weather.adder_k
        found = []
        self._reports, self._to_report = None, {}
        for i, zone in enumerate(self._settings):
            model = self._cached[zone.name]
            reached = ReachedSupply(setpoint_c=float(setpoints[i]), a0_k=float(a0[i]), a1_k_per_kw=float(a1[i]))
            arriving = sum(k * loads.get(name, 0.0) for name, k in model.neighbours_k_per_kw.items())
            self._arriving[zone.name] = arriving
            if only is not None and zone.name not in only:
                continue
            weather = ambient.get(zone.name)
            ahead = (
                None
                if weather is None
                else look_ahead(
                    at_river(zone, self._role(zone, Role.RIVER)),
                    model,
                    reached,
                    weather,
                    float(adders[i]),
                    arriving,
                    None if pue is None else _pue_ahead(zone, weather.p50_c + float(adders[i]), pue),
                    partial(self._taken.allowed_kw, i),
                )
            )
            now, answer = self._now(zone), self._response.zones.get(zone.name)
            found.append(zone_now.snapshot_state(now, reached, ahead, answer))
            self._to_report[zone.name] = partial(
                zone_now.report, now, reached, ahead, self._orders.get(zone.name), answer, weather, float(adders[i])
            )
        return tuple(found)

    def respond(
        self,
        now: datetime,
        loads: Sequence[HeatLoad],
        order_kw: Mapping[str, FloatArray] | None = None,
        back_by: Mapping[str, datetime] | None = None,
    ) -> Response:
        """Return what is to be done about zones that heat in spite of everything, or more than they are allowed.

        Args:
            now: The present.
            loads: What runs.
            order_kw: What orders to cut leave each zone at each of `duties.AHEAD_S`; a zone that is missing has none.
            back_by: When paused work goes on at the latest, by its key.
        """
        self._orders = order_kw or {}
        zones = [
            heat
            for i, zone in enumerate(self._settings)
            if (heat := zone_now.heat_of(self._now(zone), self._duty(i, now, self._orders.get(zone.name)))) is not None
        ]
        self._ladder, self._response = ladder.respond(
            self._ladder, zones, loads, {z.name: z.ladder for z in self._settings}, now, back_by
        )
        return self._response

    def taints(self) -> frozenset[str]:
        """Return the zones whose nodes shall take nothing new: none that no fresh reading shows to be hot still."""
        return frozenset(z.name for z in self._settings if z.name in self._response.taints and self._is_hot(z))

    def recall(self, paused: Mapping[str, Collection[str]], tainted: Collection[str]) -> None:
        """Take over what a leader before this one told to pause or paused, by zone, and which zones it tainted.

        Only in the zones that are hot still. They begin on the first rung, or on the last where they are tainted: what
        was done stays until they have cooled, as it would have under that leader.
        """
        for zone in self._settings:
            name = zone.name
            if name in {*paused, *tainted} and name in self._response.zones and self._is_hot(zone):
                level = Level.TAINTED if name in tainted else Level.CLOSED
                self._ladder = self._ladder.recalled(name, paused.get(name, ()), level)

    def resumed(self, key: str) -> None:
        """Forget a workload that we paused: it runs again, or is gone."""
        self._ladder = self._ladder.resumed(key)

    def paused(self, zone: str) -> tuple[str, ...]:
        """Return what we paused in a zone."""
        return self._ladder.paused(zone)

    def _is_hot(self, zone: ZoneSettings) -> bool:
        """Tell whether a fresh reading shows a zone over its leave mark."""
        heat = zone_now.heat_of(self._now(zone))
        return heat is not None and heat.is_hot

    def _role(self, zone: ZoneSettings, role: Role) -> float:
        found = self._readings.get(zone.name)
        value = found.value(role) if found is not None else None
        return math.nan if value is None else value

    def _values(self, role_of: Callable[[ZoneSettings], Role]) -> FloatArray:
        return np.array([self._role(zone, role_of(zone)) for zone in self._settings], dtype=np.float64)

    def _now(self, zone: ZoneSettings) -> ZoneNow:
        return ZoneNow(
            settings=zone,
            model=self._cached[zone.name],
            readings=self._readings.get(zone.name),
            heat_kw=self._heat_kw.get(zone.name),
            arriving_k=self._arriving.get(zone.name, 0.0),
            warming=zone.name in self._warming.zones,
        )

    def _duty(self, i: int, now: datetime, order_kw: FloatArray | None) -> Duty | None:
        zone = self._settings[i]
        outdoor = self._outdoor_c.get(zone.name, math.nan)
        zone = at_river(zone, self._role(zone, Role.RIVER))
        return duty_of(zone, now, outdoor, order_kw, partial(self._taken.allowed_kw, i, blind=True))


def _pue_ahead(
    zone: ZoneSettings, outdoor_c: FloatArray, pue: Callable[[str, FloatArray, FloatArray], FloatArray]
) -> FloatArray:
    return pue(zone.name, outdoor_c, zone.pue.at(outdoor_c))
