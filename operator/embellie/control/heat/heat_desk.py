# SPDX-License-Identifier: Apache-2.0
"""Heat in the loop: what sensors and meters say goes into the controller, the zones' states come out.

Reading Prometheus' tables takes longer than a turn may, so it happens beside the loop: once at the start to learn from
what Prometheus remembers, then every minute for the power of nodes and jobs. Whatever fails there, the turn goes on
with what the sensors say.
"""

import logging
import threading
import time
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np

from embellie.api.thermalzone import ThermalZone
from embellie.cluster.records import WorkloadRecord
from embellie.control.acting.heat_acts import HeatActs
from embellie.control.assembly.assemble import Assembly
from embellie.control.assembly.sensors import Readings
from embellie.control.assembly.zone_settings import settings_of
from embellie.control.deciding.pausing import noted_pauses, pauses_end
from embellie.control.heat.identify import STEP_S, ZoneHistory, read_history, read_power, replay
from embellie.control.heat.orders import contract_orders
from embellie.control.heat.power import PowerBook
from embellie.control.heat.pue import PueBook
from embellie.domain.clock import Clock
from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.snapshot import Reading, ThermalZoneState
from embellie.telemetry.tables import QueryError, TableSource, TooLongError
from embellie.thermal.controller import HeatController
from embellie.thermal.headroom import worst_load_kw
from embellie.thermal.raising import let_up
from embellie.thermal.relief import CapOrder, HeatLoad
from embellie.thermal.settings import ZoneSettings
from embellie.thermal.weather import AmbientForecast
from embellie.thermal.zone_now import ZoneReport

logger = logging.getLogger(__name__)

REFRESH_S = 60.0
LEARN_FROM_S = 3.0 * 86400.0
"""How far back Prometheus is asked at the start [s]."""
HEAT_LEVEL = 0.9


class HeatDesk:
    """Keeps the heat controller over the turns."""

    def __init__(
        self, tables: TableSource | None = None, clock: Clock | None = None, acts: HeatActs | None = None
    ) -> None:
        self._tables = tables
        self._clock = clock
        self._acts = acts
        self._controller = HeatController(())
        self._last: Assembly | None = None
        self._loads: tuple[HeatLoad, ...] = ()
        self.wanted: frozenset[str] = frozenset()
        """uids of what the ladder asks to be paused, or to stay so."""
        self._back_by: Mapping[str, datetime] = {}
        """When paused work goes on at the latest, by uid."""
        self.why: Mapping[str, str] = {}
        """Why, in words, by uid."""
        self._noted: Mapping[str, Collection[str]] = {}
        """What a leader before this one paused, by zone, until the ladder knows it."""
        self._tainted: frozenset[str] = frozenset()
        """Zones whose nodes that leader tainted, until then."""
        self._zones: tuple[ThermalZone, ...] = ()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._learnt = False
        self._failed = False
        self._trouble = ""
        self.power = PowerBook()
        self._pue = PueBook()

    @property
    def reports(self) -> Mapping[str, ZoneReport]:
        """What the last turn found out about each zone."""
        return self._controller.reports

    def start(self) -> None:
        """Begin to read tables beside the loop, where there is a Prometheus."""
        if self._tables is not None:
            threading.Thread(target=self._run, name="heat-tables", daemon=True).start()

    def stop(self) -> None:
        """Stop reading."""
        self._stop.set()

    def turn(
        self,
        now: datetime,
        zones: Sequence[ThermalZone],
        readings: Readings,
        expected_kw: Mapping[str, float],
        forecasts: Mapping[str, Forecast],
    ) -> dict[str, ThermalZoneState]:
        """Learn from what the sensors say, and return the zones' states for the snapshot, by name.

        Where learning fails there are none, and each zone is judged by its spec alone.

        Args:
            now: In the operator's clock.
            zones: All ThermalZones.
            readings: This turn's.
            expected_kw: What runs in each zone should draw, where no meter says [kW].
            forecasts: By GridZone.
        """
        try:
            states, caps, hot = self._respond(now, zones, readings, expected_kw, forecasts)
        except Exception:  # a boundary: what is learnt is a help, and the shield stands without it
            if not self._failed:
                logger.exception("what was learnt about heat cannot be used; each zone is judged by its spec alone")
            self._failed = True
            states, caps, hot = (), (), frozenset()
        else:
            self._failed = False
        if self._acts is not None and self._last is not None:
            # Also where learning failed: what was done to nodes is then taken back.
            enforced = bool(self._last.table.enforced_namespaces())
            self._acts.turn(now, self._last.layout, hot, caps, self._loads, enforced=enforced)
        return {state.name: state for state in states}

    def _respond(
        self,
        now: datetime,
        zones: Sequence[ThermalZone],
        readings: Readings,
        expected_kw: Mapping[str, float],
        forecasts: Mapping[str, Forecast],
    ) -> tuple[Sequence[ThermalZoneState], Sequence[CapOrder], frozenset[str]]:
        """Learn, and return the zones' states, the caps that are wanted, and the zones that are to be tainted."""
        settings = self._settings(zones)
        ambient = {
            s.name: weather
            for s in settings
            if (found := forecasts.get(s.ambient_grid_zone or "")) is not None
            and (weather := ambient_of(found, now)) is not None
        }
        heat = {s.name: kw for s in settings if (kw := self._heat_kw(s, expected_kw)) is not None}
        self._pue.observe(
            readings.grid_power_kw, self.power, self._nodes_of_grids(), self._outdoor_c(now, settings, ambient)
        )
        with self._lock:
            self._zones = tuple(zones)
            self._controller.configure(settings)
            regime = {s.name: self.power.regime(self._nodes(s.name)) for s in settings}
            self._controller.observe(now, readings.zones, heat, ambient, regime)
            orders = contract_orders(None if self._last is None else self._last.snapshot, heat, now)
            loads = self._loads
            if self._acts is not None:
                loads, self.power.capped = self._acts.as_capped(loads, now), self._acts.capped(now)
            self._controller.recall(self._noted, self._tainted)
            self._noted, self._tainted = {}, frozenset()
            response = self._controller.respond(now, loads, orders, self._back_by)
            paused = {uid for s in settings for uid in self._controller.paused(s.name)}
            self.wanted = frozenset(paused.difference(response.resumes))
            asked = {**self.why, **{order.key: order.reason for order in response.pauses}}
            self.why = {uid: asked[uid] for uid in self.wanted if uid in asked}
            hot = self._controller.taints()
            states = self._controller.states(ambient, worst_kw=self._worst_kw(), pue=self._pue_ahead)
            caps = self._let_up(response.caps, loads, states, readings.grid_power_kw, now)
            return states, caps, hot

    def _let_up(
        self,
        orders: Sequence[CapOrder],
        loads: Sequence[HeatLoad],
        states: Sequence[ThermalZoneState],
        power: Mapping[str, Reading],
        now: datetime,
    ) -> Sequence[CapOrder]:
        """Ask whether the zones, as they are now, carry what raised caps would let back."""
        if self._last is None:
            return orders
        grids = tuple(replace(g, measured_power_kw=power.get(g.name)) for g in self._last.snapshot.grid_zones)
        seen = replace(self._last.snapshot, now=now, grid_zones=grids, thermal_zones=tuple(states))
        return let_up(orders, loads, seen)

    def remember(
        self, assembly: Assembly, loads: Sequence[HeatLoad] = (), workloads: Sequence[WorkloadRecord] = ()
    ) -> None:
        """Keep what the turn knew about nodes and loads for the next; what the first finds done is another leader's."""
        if self._last is None:
            self._tainted = frozenset(assembly.layout.overheated.values())
            self._noted = noted_pauses(assembly, workloads)
            self.wanted = frozenset().union(*self._noted.values())
        self._last = assembly
        self._back_by = pauses_end(assembly, workloads)
        self._loads = tuple(loads)

    def keep_pauses(self, under_way: Container[str]) -> None:
        """Forget what was asked to pause but is neither told to nor paused: it runs, and its heat stays or comes back.

        It may not be paused any more today, its announcement was taken back, its user started it, or it is gone.
        """
        with self._lock:
            for zone in self._controller.settings:
                for uid in self._controller.paused(zone.name):
                    if uid not in under_way:
                        self._controller.resumed(uid)

    def learn(self, now_s: float) -> None:
        """Learn from what Prometheus remembers up to now (Unix time); raises QueryError."""
        if self._tables is None or not self._zones or self._last is None:
            return
        grid = np.arange(now_s - LEARN_FROM_S, now_s, STEP_S)
        power = read_power(self._tables, grid)
        settings = self._settings(self._zones)
        histories: dict[str, ZoneHistory] = {}
        for zone, one in zip(self._zones, settings, strict=True):
            queries = {s.name: s.query for s in zone.spec.sensors or ()}
            histories[one.name] = read_history(one, queries, power, self._nodes(one.name), self._tables, grid)
        fresh = HeatController(settings)
        replay(fresh, histories)
        with self._lock:
            # What was seen live since goes on from what was remembered.
            if fresh.settings == self._controller.settings:
                self._controller.adopt(fresh)
        self._learnt = True

    def _run(self) -> None:
        while not self._stop.wait(REFRESH_S if self._learnt else 5.0):
            try:
                if not self._learnt and self._plain_clock():
                    self.learn(time.time())
                if self._tables is not None:
                    self.power.refresh(self._tables)
                self._trouble = ""
            except QueryError as error:
                if str(error) != self._trouble:
                    self._trouble = str(error)
                    logger.warning("the power of nodes and jobs cannot be read: %s", error)
                self._learnt = self._learnt or isinstance(error, TooLongError)
            except Exception:  # a task boundary: learning is a help, never a reason to stop
                logger.exception("learning from Prometheus failed")
                self._learnt = True

    def _plain_clock(self) -> bool:
        """Tell whether the operator lives in the world's time: a replayed clock's past is not in Prometheus."""
        if self._clock is None:
            return True
        return abs(self._clock.now().timestamp() - time.time()) < REFRESH_S

    def _settings(self, zones: Sequence[ThermalZone]) -> tuple[ZoneSettings, ...]:
        before = {s.name: s for s in self._last.snapshot.thermal_zones} if self._last is not None else {}
        found = []
        for zone in zones:
            name = zone.metadata.name
            state = before.get(name)
            found.append(
                settings_of(
                    zone,
                    base_power_kw=0.0 if state is None else state.base_power_kw,
                    topology=hash(self._nodes(name)),
                    ambient_grid_zone=None if state is None else state.ambient_grid_zone,
                    default_pue=self._said_pue(name),
                )
            )
        return tuple(found)

    def _said_pue(self, zone: str) -> float:
        cells = () if self._last is None else self._last.snapshot.cells
        return max((cell.pue for cell in cells if cell.thermal_zone == zone), default=1.2)

    def _pue_ahead(self, zone: str, outdoor_c: FloatArray, said: FloatArray) -> FloatArray:
        """Return a thermal zone's PUE over outdoor temperatures: the highest of the GridZones that it lies in."""
        cells = () if self._last is None else self._last.snapshot.cells
        grids = sorted({cell.grid_zone for cell in cells if cell.thermal_zone == zone})
        learnt = [self._pue.ahead(grid, outdoor_c, said) for grid in grids]
        return np.max(learnt, axis=0) if learnt else said

    def _nodes_of_grids(self) -> dict[str, tuple[str, ...]]:
        grids = {} if self._last is None else self._last.layout.nodes_of_grid_zone
        return {name: tuple(node.name for node in nodes) for name, nodes in grids.items()}

    def _outdoor_c(
        self, now: datetime, settings: Sequence[ZoneSettings], ambient: Mapping[str, AmbientForecast]
    ) -> dict[str, float]:
        """Return the outdoor temperature of each GridZone that a thermal zone has weather of [degC]."""
        adders = dict(zip(self._controller.models.names, self._controller.weather.adder_k, strict=True))
        return {
            s.ambient_grid_zone: ambient[s.name].at(now)[0] + float(adders.get(s.name, 0.0))
            for s in settings
            if s.ambient_grid_zone is not None and s.name in ambient
        }

    def _nodes(self, zone: str) -> tuple[str, ...]:
        if self._last is None:
            return ()
        return tuple(sorted(node.name for node in self._last.layout.nodes_of_thermal_zone.get(zone, ())))

    def _heat_kw(self, zone: ZoneSettings, expected_kw: Mapping[str, float]) -> float | None:
        measured = self.power.zone_kw(self._nodes(zone.name))
        return measured if measured is not None else expected_kw.get(zone.name)

    def _worst_kw(self) -> dict[str, float]:
        if self._last is None:
            return {}
        snapshot = self._last.snapshot
        return {z.name: worst_load_kw(z, snapshot.cells, snapshot.running) for z in snapshot.thermal_zones}


def ambient_of(forecast: Forecast, now: datetime) -> AmbientForecast | None:
    """Return the outdoor temperatures from the present slot on; None where the forecast has none."""
    table = forecast.ambient_temperature_c
    if table is None:
        return None
    first = forecast.slot_of(now)
    high = next((row for row, level in enumerate(forecast.quantile_levels) if level >= HEAT_LEVEL - 1e-9), -1)
    return AmbientForecast(
        start=forecast.start + first * forecast.step,
        step=forecast.step,
        p50_c=table[forecast.median, first:],
        p90_c=table[high, first:],
    )
