# SPDX-License-Identifier: Apache-2.0
"""What the room's sensors say: the truth, late, noisy, in steps, and sometimes not at all.

Faults are set per room and signal: `stuck` repeats the last value (with a fresh time stamp, as a dead gateway does),
`silent` gives nothing, `offset` lies by so many kelvin.
"""

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from embellie.simulation.plant.exchange import Array
from embellie.simulation.plant.room import Rooms
from embellie.simulation.plant.spec import PlantSpec

_HISTORY_S = 3600.0


def signal_names(zones: Sequence[str], *, has_loop: bool) -> tuple[str, ...]:
    """Return the sensors of a room, in the order of their columns."""
    rows = [zone for zone in zones if zone != "loop"]
    air = [f"{row}/inlet" for row in rows] + ["hall/supply", "hall/return"]
    water = ["loop/supply", "loop/return", "loop/water"] if has_loop else []
    power = [f"{zone}/power" for zone in zones]
    return (*air, *water, "outdoor", "wet-bulb", *power, "facility/power", "network/power", "rejection/power")


class Sensors:
    """The sensors of several rooms; values have the shape (rooms, signals)."""

    def __init__(self, rooms: Rooms, noise: Callable[[], Array]) -> None:
        """Watch rooms; `noise` draws standard normal numbers of shape (rooms, signals)."""
        self.names = signal_names(rooms.zones, has_loop=rooms.has_loop)
        self.index = {name: k for k, name in enumerate(self.names)}
        self._rooms, self._draw = rooms, noise
        specs: Sequence[PlantSpec] = rooms.specs
        self._delay_s = np.array([s.sensors.delay_s for s in specs])
        self.is_power = np.array([name.endswith("/power") for name in self.names])
        sd = np.array([s.sensors.noise_k for s in specs])[:, None]
        share = np.array([s.sensors.power_noise for s in specs])[:, None]
        self._noise_k = np.where(self.is_power, 0.0, sd)
        self._noise_share = np.where(self.is_power, share, 0.0)
        quantum = np.array([s.sensors.quantum_k for s in specs])[:, None]
        self._quantum = np.where(self.is_power, 0.1, np.maximum(quantum, 1e-6))
        shape = (len(specs), len(self.names))
        self.stuck: npt.NDArray[np.bool_] = np.zeros(shape, dtype=bool)
        self.silent: npt.NDArray[np.bool_] = np.zeros(shape, dtype=bool)
        self.offset: Array = np.zeros(shape)
        self.extra_delay_s: Array = np.zeros(len(specs))
        self._past: deque[tuple[float, Array]] = deque()
        self._last: Array | None = None

    def record(self, outdoor_c: Array, wet_bulb_c: Array) -> None:
        """Remember the truth of this instant, so that it can be seen later."""
        rooms = self._rooms
        rows = rooms.hall.row_inlet_c()
        parts = [rows, rooms.hall.supply_c[:, None], rooms.hall.hot_c[:, None]]
        if rooms.has_loop:
            loop = rooms.loop
            parts += [loop.supply_c[:, None], loop.return_c[:, None], loop.water_cold_c[:, None]]
        parts += [outdoor_c[:, None], wet_bulb_c[:, None], rooms.zone_heat_kw()]
        parts += [rooms.facility_kw[:, None], rooms.loop.delivered_kw[:, None], rooms.rejected_kw[:, None]]
        self._past.append((rooms.time_s, np.concatenate(parts, axis=1)))
        while self._past and rooms.time_s - self._past[0][0] > _HISTORY_S:
            self._past.popleft()

    def read(self) -> tuple[Array, Array]:
        """Return what a scrape brings now: values (NaN where nothing comes) and how old they claim to be [s]."""
        now = self._rooms.time_s
        delay = self._delay_s + self.extra_delay_s
        values = self._delayed(now, delay)
        values = values + self.offset
        noise = self._draw()
        values = values * (1.0 + self._noise_share * noise) + self._noise_k * noise
        values = np.round(values / self._quantum) * self._quantum
        if self._last is not None:
            values = np.where(self.stuck, self._last, values)
        self._last = values
        # Exporters stamp a value when they are asked for it: that it is late does not show.
        return np.where(self.silent, np.nan, values), np.zeros_like(values)

    def _delayed(self, now: float, delay: Array) -> Array:
        """Pick for each room the newest truth that is at least its delay old."""
        shared = float(delay[0])
        if (delay == shared).all():
            return self._at(now - shared).copy()
        out = np.empty_like(self._past[-1][1])
        for value in np.unique(delay):
            chosen = delay == value
            out[chosen] = self._at(now - float(value))[chosen]
        return out

    def _at(self, moment: float) -> Array:
        for at, values in reversed(self._past):
            if at <= moment + 1e-6:
                return values
        return self._past[0][1]
