# SPDX-License-Identifier: Apache-2.0
"""What is, at one instant: everything a plan may look at, and nothing else.

Power has two parts: what nodes draw whether or not they work (`base_power_kw`), and what a gang adds while it runs
(`power_kw`, expected; `worst_power_kw`, at its cap or 1.1 times its rated power). Limits are checked on the sum of
base and worst case, emissions are planned on the added part, accounts are made on all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from embellie.domain.durations import OVERRUN
from embellie.domain.forecast import Forecast
from embellie.domain.heat import HeatOutlook, ZoneHeatModel
from embellie.domain.power_orders import PowerOrder, limit_at


class WorkloadKind(StrEnum):
    """The kinds that we hold."""

    JOB = "Job"
    POD = "Pod"

    @property
    def api_version(self) -> str:
        """Under which the API server has its objects."""
        return "batch/v1" if self is WorkloadKind.JOB else "v1"

    @property
    def plural(self) -> str:
        """What the API server calls several of them."""
        return f"{self.lower()}s"


class Flex(StrEnum):
    """How a workload opted in (label `embellie.io/flex`)."""

    RIGID = "rigid"
    PATIENT = "patient"
    BONUS = "bonus"


class Quality(StrEnum):
    """How far a reading may be trusted."""

    FRESH = "Fresh"
    STALE = "Stale"
    FROZEN = "Frozen"
    ABSURD = "Absurd"
    JUMPING = "Jumping"
    MISSING = "Missing"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class WorkloadKey:
    """Which object. The uid is part of it: a recreated object of the same name is another workload."""

    namespace: str
    name: str
    kind: WorkloadKind
    uid: str

    def __hash__(self) -> int:
        """Hash the uid alone: it tells objects apart, and a turn hashes keys some ten times for each workload."""
        return hash(self.uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much carbon, cost and renewable share count, as parts of their sum; all at least 0, one above."""

    carbon: float = 1.0
    cost: float = 0.0
    renewable: float = 0.0

    @property
    def carbon_only(self) -> bool:
        """Whether emissions alone count."""
        return self.cost == 0.0 and self.renewable == 0.0


CARBON = Weights()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A workload to be decided about: held by us, or labelled and observed in shadow."""

    key: WorkloadKey
    created_at: datetime
    latest_start: datetime
    pods: int
    gpus_per_pod: int
    power_kw: float
    worst_power_kw: float
    duration_p50_s: float
    duration_p90_s: float
    flex: Flex
    tenant: str
    policy: str
    enforced: bool
    """True: held by us, decisions are carried out. False: shadow."""
    allowed_cells: frozenset[str]
    """Cells inside the residency and the user's own node constraints."""
    minimum_saving_percent: float = 0.0
    weights: Weights = CARBON
    start_now: str | None = None
    """A `Reason` value that ends the wait whatever the forecast says; None lets the planner decide."""
    start_now_message: str = ""

    @property
    def gpus(self) -> int:
        """GPUs of the whole gang."""
        return self.pods * self.gpus_per_pod


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Nodes that share one grid zone and one thermal zone: the unit of placement."""

    name: str
    grid_zone: str
    thermal_zone: str | None
    gpus_total: int
    node_free_gpus: tuple[int, ...]
    """Free GPUs of each schedulable node now, work that is released but not bound yet already taken off."""
    pue: float = 1.2

    @property
    def gpus_free(self) -> int:
        """Free GPUs now."""
        return sum(self.node_free_gpus)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One sensor's value with its trust. `value` is None where nothing readable came."""

    value: float | None
    age_s: float
    quality: Quality


@dataclass(frozen=True, slots=True, kw_only=True)
class GridZoneState:
    """A GridZone as it is now."""

    name: str
    contracted_power_kw: float | None
    base_power_kw: float
    """What its nodes draw without work, facility overhead included [kW]."""
    measured_power_kw: Reading | None
    """Facility power from a sensor; None where the zone has none."""
    forecast: Forecast | None
    jurisdiction: str = ""
    orders: tuple[PowerOrder, ...] = ()
    """To draw less for some hours; those that are past hold no more."""

    def limit_kw(self, moment: datetime) -> float:
        """Return the most that it may draw at a moment [kW]; may be inf."""
        return limit_at(self.contracted_power_kw, self.orders, moment)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalZoneState:
    """A ThermalZone as it is now.

    Steady state of the inlet: T_in = T_supply + rise_k_per_kw * P (row-wise form of Tang, Gupta and Varsamopoulos,
    IEEE TPDS 2008). A zone without `rise_k_per_kw` is limited by its cooling capacity alone.
    """

    name: str
    inlet_limit_c: float
    margin_c: float
    rise_k_per_kw: float
    supply: Reading | None
    """Supply air or coolant temperature [degC]; None where the zone names no such sensor."""
    supply_worst_c: float
    """What the supply counts as when no fresh reading tells [degC]."""
    supply_setpoint_c: float
    ambient_approach_k: float
    """The plant reaches max(setpoint, ambient + approach); used to look ahead."""
    inlet: Reading | None
    cooling_capacity_kw: float | None
    start_ramp_kw_per_min: float | None
    base_power_kw: float
    ambient_grid_zone: str | None
    """The grid zone whose forecast tells the ambient temperature."""
    outlook: HeatOutlook | None = None
    """What the learnt heat model lets the planner use ahead; None: the steady-state rule looks ahead."""
    model: ZoneHeatModel | None = None
    """How the zone heats, as learnt; only a trusted one replaces `rise_k_per_kw` and `margin_c`."""
    coolant_return: Reading | None = None
    coolant_return_limit_c: float | None = None
    air_return: Reading | None = None
    air_return_limit_c: float | None = None
    arriving_k: float = 0.0
    """What the neighbours' heat adds to the inlet at their worst case [K]."""
    ceiling_kw: float | None = None
    """What may be rejected now by permit [kW]; None without one."""
    barrier_kw: float | None = None
    """Most heat now with which the zone still nears its limit slowly enough to be answered [kW]; None without one."""
    proven_kw: tuple[Mapping[str, float], ...] = ()
    """Heat of the zone and its neighbours, by name, of which any may come back after it overheated [kW]; empty where it
    did not, or long ago."""
    admission_open: bool = True
    """False: the ladder closed the zone, because it heats in spite of everything."""
    closed_because: str = ""
    overheats: bool = False
    """The ladder holds the zone back because of its temperature, not of a permit or an order."""
    neighbours: tuple[str, ...] = ()
    """Zones whose heat may reach this one's inlets, as its owner says; how much of it does is the model's to learn."""

    @property
    def returns(self) -> tuple[tuple[str, Reading | None, float], ...]:
        """What comes back from the machines and has a hard limit: in a word, its reading, and the limit [degC]."""
        both = (
            ("coolant", self.coolant_return, self.coolant_return_limit_c),
            ("air", self.air_return, self.air_return_limit_c),
        )
        return tuple((what, reading, limit_c) for what, reading, limit_c in both if limit_c is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGang:
    """Work that holds GPUs: running, or released and on its way."""

    cell: str
    gpus: int
    power_kw: float
    worst_power_kw: float
    expected_end_p50: datetime
    expected_end_p90: datetime
    started_at: datetime
    """Bind time of the first pod, else the release."""
    uid: str = ""
    """Of the workload; empty for work that is nobody's but its pod's."""
    length_stated: bool = False
    """Its user said how long it runs; all else is a guess from other work, or from none."""
    overrun: float = OVERRUN
    """Times its stated length that nearly all work like it takes at most, 1 or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantUse:
    """What a tenant had of late; older hours count less, by the same weight for both."""

    gpu_h: float
    """GPU-hours that its work ran [h]."""
    waited_gpu_h: float
    """GPU-hours that its work was held for cleaner hours, not for want of room [h]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a turn decides from. Equal snapshots give equal plans."""

    now: datetime
    turn_s: float
    """Time between two turns in this clock [s]; a bound that falls inside the next two counts as reached."""
    workloads: tuple[Workload, ...]
    cells: tuple[Cell, ...]
    grid_zones: tuple[GridZoneState, ...]
    thermal_zones: tuple[ThermalZoneState, ...]
    running: tuple[RunningGang, ...]
    period_s: float | None = None
    """Plain time between two turns [s], which start ramps are reckoned with; None: `turn_s`."""
    max_limit_hold_s: float = 4 * 3600.0
    max_held_gpus: dict[str, float] = field(default_factory=dict)
    """Policy name -> most GPUs that it may hold at once; absent means no limit."""
    tenants: dict[str, TenantUse] = field(default_factory=dict)
    """Tenant -> what it had of late; who is absent had nothing."""
