# SPDX-License-Identifier: Apache-2.0
"""What a facilities engineer says about a thermal zone, in plain numbers: the ThermalZone's spec without Kubernetes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.thermal.readings import Unit


class Role(StrEnum):
    """What a sensor looks at."""

    INLET = "Inlet"
    RETURN = "Return"
    SUPPLY = "Supply"
    COOLANT_SUPPLY = "CoolantSupply"
    COOLANT_RETURN = "CoolantReturn"
    OUTDOOR_DRY_BULB = "OutdoorDryBulb"
    OUTDOOR_WET_BULB = "OutdoorWetBulb"
    RIVER = "River"
    HUMIDITY = "Humidity"
    LOOP_POWER = "LoopPower"
    HEAT_DELIVERED = "HeatDelivered"


MOVED_ROLES = frozenset({Role.INLET, Role.RETURN, Role.COOLANT_RETURN, Role.LOOP_POWER, Role.HEAT_DELIVERED})
"""What the zone's own power warms or shows as: a sensor here that stands still while the power moves is frozen."""


class Measure(StrEnum):
    """What may be done about a zone that heats, gently first."""

    CLOSE = "CloseAdmission"
    CAP = "LowerCaps"
    PAUSE = "Pause"
    TAINT = "Taint"


class Side(StrEnum):
    """What may disagree about how much heat a zone shall make."""

    CEILING = "Ceiling"
    ORDER = "Order"
    FLOOR = "Floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorSettings:
    """One sensor. `scale` is applied before the unit."""

    name: str
    role: Role
    unit: Unit
    max_age_s: float = 120.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What must not be exceeded [degC]; None: no such limit."""

    inlet_hard_c: float
    inlet_soft_c: float | None = None
    margin_k: float = 3.0
    """Kept free below the hard limit when a start is judged; learnt margins never fall below it [K]."""
    return_hard_c: float | None = None
    coolant_supply_hard_c: float | None = None
    coolant_return_hard_c: float | None = None

    def hard_c(self, role: Role) -> float | None:
        """Return the hard limit of a role [degC]."""
        return {
            Role.INLET: self.inlet_hard_c,
            Role.RETURN: self.return_hard_c,
            Role.COOLANT_SUPPLY: self.coolant_supply_hard_c,
            Role.COOLANT_RETURN: self.coolant_return_hard_c,
        }.get(role)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolingSettings:
    """What the cooling can do."""

    capacity_kw: float | None = None
    """With one unit failed (N+1) [kW]."""
    supply_setpoint_c: float = 20.0
    supply_worst_c: float = 27.0
    ambient_approach_k: float = 8.0
    rise_k_per_kw: float = 0.0
    """Prior of how much one kilowatt of the zone's own power warms its inlet in the end [K/kW]."""
    tau_s: float = 600.0
    """Prior of the zone's time constant [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of a permit or a contract: so many kW in these hours (UTC), at these outdoor and river temperatures."""

    kw: float
    from_hour: float = 0.0
    to_hour: float = 24.0
    outdoor_from_c: float = -100.0
    outdoor_to_c: float = 100.0
    river_from_c: float = -100.0
    river_to_c: float = 100.0
    to_outside: bool = False
    """True: a permit for heat that leaves to the outside; what a heat network takes comes on top of it."""


def at_river(zone: "ZoneSettings", river_c: float) -> "ZoneSettings":
    """Return a zone with only the rows that hold at a river's temperature [degC]; an unknown one (NaN) counts.

    A river moves by about a degree in a day, so what it is now stands for the hours ahead.
    """

    def held(rows: tuple[Row, ...]) -> tuple[Row, ...]:
        return tuple(row for row in rows if not (river_c < row.river_from_c or river_c >= row.river_to_c))

    floor = () if zone.delivery is None else zone.delivery.floor
    if held(zone.ceiling) == zone.ceiling and held(floor) == floor:
        return zone
    delivery = None if zone.delivery is None else replace(zone.delivery, floor=held(floor))
    return replace(zone, ceiling=held(zone.ceiling), delivery=delivery)


def lowest_kw(rows: Sequence[Row], hour: FloatArray, outdoor_c: FloatArray) -> FloatArray:
    """Return the tightest of the rows that apply [kW], shape of `hour`; infinite where none does."""
    if not rows:
        return np.full(hour.shape, np.inf)
    found: FloatArray = np.where(_applying(tuple(rows), hour, outdoor_c), _kw(tuple(rows)), np.inf).min(axis=0)
    return found


def highest_kw(rows: Sequence[Row], hour: FloatArray, outdoor_c: FloatArray) -> FloatArray:
    """Return the largest of the rows that apply [kW], shape of `hour`; 0 where none does."""
    if not rows:
        return np.zeros(hour.shape)
    found: FloatArray = np.where(_applying(tuple(rows), hour, outdoor_c), _kw(tuple(rows)), 0.0).max(axis=0)
    return found


def _applying(rows: tuple[Row, ...], hour: FloatArray, outdoor_c: FloatArray) -> np.ndarray:
    """Return where each row holds, shape (rows, slots). Hours may wrap over midnight; an unknown outdoor counts."""
    begin, end, low, high = _edges(rows)
    after, before = hour >= begin, hour < end
    in_hours = np.where(begin <= end, after & before, after | before)
    inside: np.ndarray = in_hours & ~((outdoor_c < low) | (outdoor_c >= high))
    return inside


@lru_cache(maxsize=4096)
def _edges(rows: tuple[Row, ...]) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the rows' hours and outdoor temperatures, each of shape (rows, 1)."""
    table = np.array([(r.from_hour, r.to_hour, r.outdoor_from_c, r.outdoor_to_c) for r in rows])
    return table[:, 0:1], table[:, 1:2], table[:, 2:3], table[:, 3:4]


@lru_cache(maxsize=4096)
def _kw(rows: tuple[Row, ...]) -> FloatArray:
    return np.array([[r.kw] for r in rows])


REPLACED_G_PER_KWH = 224.0
"""Natural gas, 56.1 kg CO2/GJ (2006 IPCC Guidelines, volume 2, table 2.2), in a boiler of 90 %: 202/0.9 g/kWh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """What a heat network is owed."""

    floor: tuple[Row, ...]
    capture_share: float = 0.9
    """Share of the IT power that reaches the loop (0..1)."""
    replaced_g_per_kwh: float = REPLACED_G_PER_KWH
    """What the network emits for each kWh of heat that it makes itself instead [gCO2e/kWh]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderSettings:
    """How a zone that heats in spite of everything is answered.

    The ladder is entered at the soft limit, or `enter_margin_k` below the hard one where there is none, and left
    `leave_margin_k` below that.
    """

    measures: tuple[Measure, ...] = (Measure.CLOSE, Measure.CAP, Measure.PAUSE, Measure.TAINT)
    enter_margin_k: float = 1.5
    leave_margin_k: float = 2.0
    min_dwell_s: float = 300.0
    pause_burst: int = 2
    pauses_per_hour: float = 4.0
    prefer: tuple[Side, ...] = (Side.CEILING, Side.ORDER, Side.FLOOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class PueSettings:
    """Facility power over IT power as a function of the outdoor temperature; one point is a constant."""

    points: tuple[tuple[float, float], ...] = ((20.0, 1.2),)
    """(outdoor [degC], PUE), rising in temperature; between them straight lines, beyond them flat."""

    def at(self, outdoor_c: FloatArray) -> FloatArray:
        """Return the PUE at outdoor temperatures, same shape; the worst point where the temperature is unknown."""
        temperatures, values = zip(*self.points, strict=True)
        between = np.interp(np.nan_to_num(outdoor_c, nan=0.0), temperatures, values)
        found: FloatArray = np.where(np.isnan(outdoor_c), max(values), between)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneSettings:
    """One thermal zone."""

    name: str
    limits: LimitSettings
    cooling: CoolingSettings = field(default_factory=CoolingSettings)
    sensors: tuple[SensorSettings, ...] = ()
    ceiling: tuple[Row, ...] = ()
    """Heat-rejection ceiling: the lowest row that applies holds."""
    delivery: DeliverySettings | None = None
    ladder: LadderSettings = field(default_factory=LadderSettings)
    pue: PueSettings = field(default_factory=PueSettings)
    start_ramp_kw_per_min: float | None = None
    neighbours: tuple[str, ...] = ()
    """Zones whose heat may reach this one's inlets; what really does is learnt."""
    ambient_grid_zone: str | None = None
    base_power_kw: float = 0.0
    topology: int = 0
    """Changes when the zone's nodes do; what was learnt about other nodes is then forgotten."""
    fault: str = ""
    """Why the zone cannot be believed as it is written (names the field and the mend); it then counts at its worst."""

    def has(self, role: Role) -> bool:
        """Tell whether the zone names a sensor of a role."""
        return any(sensor.role is role for sensor in self.sensors)

    @property
    def limited_role(self) -> Role:
        """What the zone's model and its hard inlet limit are about."""
        return Role.COOLANT_SUPPLY if self.liquid else Role.INLET

    @property
    def limited(self) -> tuple[tuple[Role, float], ...]:
        """What has a hard limit, and that limit [degC]; first what the zone's model is about."""
        others = [(role, self.limits.hard_c(role)) for role in (Role.RETURN, Role.COOLANT_RETURN)]
        return (self.limited_role, self.limits.inlet_hard_c), *(
            (role, hard) for role, hard in others if hard is not None
        )

    def learns_like(self, other: "ZoneSettings") -> bool:
        """Tell whether what was learnt about the other holds here too: limits, permits and answers may differ."""
        return self.taught_by == other.taught_by

    @property
    def taught_by(self) -> tuple[object, ...]:
        """What the learning rests on."""
        return self.name, self.cooling, self.sensors, self.neighbours, self.topology

    @property
    def liquid(self) -> bool:
        """Whether what is limited is the coolant that enters the machines."""
        return self.has(Role.COOLANT_SUPPLY) and not self.has(Role.INLET)
