# SPDX-License-Identifier: Apache-2.0
"""The operator in a drill: its own sensing, heat models, shield and ladder, turn by turn, on what the sensors say.

All that decides is the code that runs in a cluster: `SensorBank`, `HeatController`, `shield`, `Rises`.
"""

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.drill.desk import SHIELD_EVERY, Desk
from embellie.simulation.drill.resumes import back_s, resume
from embellie.simulation.drill.rig import Rig, Seen
from embellie.simulation.drill.starts import Starts
from embellie.thermal.controller import HeatController
from embellie.thermal.relief import CapOrder
from embellie.thermal.sensing import SensorBank, ZoneReadings
from embellie.thermal.weather import AmbientForecast


class OperatorPolicy:
    """The operator of every room of a rig.

    For reruns: with `starts_until_s` a room starts nothing from then on, with `no_forced_from_s` nothing that only a
    bound forces, with `hands_off_from_s` it does nothing at all.
    """

    def __init__(
        self,
        rig: Rig,
        *,
        starts_until_s: list[float] | None = None,
        no_forced_from_s: list[float] | None = None,
        hands_off_from_s: list[float] | None = None,
    ) -> None:
        self._rig = rig
        self._hands_off_s = hands_off_from_s or [np.inf] * len(rig.sites)
        until_s = hands_off_from_s or starts_until_s or [np.inf] * len(rig.sites)
        unforced_s = no_forced_from_s or [np.inf] * len(rig.sites)
        self.rooms = [
            Desk(b, drill, rig, starts_until_s=until_s[b], no_forced_from_s=unforced_s[b])
            for b, drill in enumerate(rig.drills)
        ]
        self._starts = [Starts(room) for room in self.rooms]
        self.controller = HeatController([zone for room in self.rooms for zone in room.settings])
        self.bank = SensorBank()
        self._level = np.zeros((len(rig.sites), len(rig.zones)), dtype=np.int8)
        self._rungs: dict[str, int] = {}

    def turn(self, now_s: float, seen: Seen) -> None:
        """Read, learn, start what may start, answer heat."""
        readings: dict[str, ZoneReadings] = {}
        heat: dict[str, float] = {}
        ambient: dict[str, AmbientForecast] = {}
        orders: dict[str, FloatArray] = {}
        worst: dict[str, float] = {}
        for room in self.rooms:
            room.look(now_s, seen, self.bank)
            room.jobs.meter(now_s)
            readings.update(room.readings)
            heat.update(room.heat_kw)
            ambient.update(room.ambient(now_s))
            orders.update(room.orders(now_s))
            if round(now_s / self._rig.turn_s) % SHIELD_EVERY == 0:
                worst.update(room.worst_kw())
        # One clock for all rooms: only differences and the hour of day matter, and all drills begin at the same hour.
        now = self._rig.clock(0, now_s)
        self.controller.observe(now, readings, heat, ambient)
        zones = len(self._rig.zones)
        if round(now_s / self._rig.turn_s) % SHIELD_EVERY == 0:
            asking = [b for b, room in enumerate(self.rooms) if room.eases or self._starts[b].ask(now_s)]
            only = {zone.name for b in asking for zone in self.rooms[b].settings}
            states = self.controller.states(ambient, worst_kw=worst, only=only)
            for k, b in enumerate(asking):
                self.rooms[b].know(now_s, now, states[k * zones : (k + 1) * zones])
                self._starts[b].turn(now_s)
        loads = [room.loads(self._rungs) for room in self.rooms]
        back_by = {key: self._rig.clock(0, at_s) for room in self.rooms for key, at_s in back_s(room, now_s)}
        response = self.controller.respond(now, [load for some in loads for load in some], orders, back_by)
        self._rungs = {name: int(answer.level) for name, answer in response.zones.items()}
        caps: list[list[CapOrder]] = [[] for _ in self.rooms]
        for order in response.caps:
            caps[_split(order.key)[0]].append(order)
        for pause in response.pauses:
            b, key = _split(pause.key)
            if now_s < self._hands_off_s[b]:
                self.rooms[b].site.pause(key, now_s)
        resumes: list[list[str]] = [[] for _ in self.rooms]
        for name in response.resumes:
            b, key = _split(name)
            resumes[b].append(key)
        for b, room in enumerate(self.rooms):
            if now_s < self._hands_off_s[b]:
                room.apply_caps(caps[b], loads[b], now_s)
            resume(room, resumes[b], now_s, self.controller)
            for k, zone in enumerate(room.settings):
                self._level[b, k] = response.zones[zone.name].level if zone.name in response.zones else 0

    def level(self) -> np.ndarray:
        """Return the rung of the ladder of each zone."""
        return self._level

    def blocked_starts(self, b: int) -> int:
        """Return how many jobs the shield kept waiting at least once."""
        return len(self._starts[b].blocked)

    def foresaw_s(self, b: int, job: str, at_s: float) -> float:
        """Return how long before a promised start its collision with a limit was seen [s]; 0: not before."""
        return max(0.0, at_s - self._starts[b].foreseen.get(job, np.inf))


def _split(name: str) -> tuple[int, str]:
    room, _, key = name.partition("|")
    return int(room), key
