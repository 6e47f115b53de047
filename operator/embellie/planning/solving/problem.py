# SPDX-License-Identifier: Apache-2.0
"""What the planner solves, as arrays: jobs x zones x slots, and what it answers.

Slots tile the time ahead and may differ in length: fine near, coarse far. Slot t covers [edges_h[t], edges_h[t+1]);
`edges_h[0]` is now. A run that starts at slot s begins at `edges_h[s]`; it takes every slot that it touches whole, so
that rounding never overbooks, and it pays for exactly its own hours. What runs past the last edge pays the last slot's
rate and takes no room there.

Rows (zone or group, slot), each with a capacity: GPUs by zone, facility power by power group, heat by heat group. A job
takes `gpus` of its zone while it is expected to run, and `limit_kw` (worst case) of its groups for its `limit_h` (P90).
Start ramps are a fourth kind of row, in the slot of each start (and restart) only; they have no price.

Wanted power is no limit: what is short of it costs the objective. A heat network wants what makes the heat that it is
owed, a site wants its own sun and wind to be used. A job counts with its expected power, in each slot for the part of
it that it runs.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from embellie.domain.forecast import FloatArray

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """A further way to run: GPUs capped to `power` of their power do `speed` of their work, both in 0..1."""

    power: float = 1.0
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Zones:
    """Where work may run. Z zones, T slots."""

    cost_per_kwh: FloatArray
    """What a kWh of IT energy costs the objective, overheads (PUE) included, shape (Z, T); may be negative."""
    gpus: FloatArray
    """Free GPUs, shape (Z, T)."""
    power_group: IntArray
    """Row of `power_kw` that a zone draws from, -1 for none, shape (Z,)."""
    power_kw: FloatArray
    """Facility power still free, shape (power groups, T); infinite for no limit."""
    power_factor: FloatArray
    """Facility power per kW of IT power (PUE), shape (Z,)."""
    heat_group: IntArray
    """Row of `heat_kw` that a zone's heat goes to, -1 for none, shape (Z,)."""
    heat_kw: FloatArray
    """Heat that can still be removed, shape (heat groups, T) [kW of IT power]; infinite for no limit."""
    ramp_group: IntArray
    """Row of `ramp_kw` that a zone's starts count in, -1 for none, shape (Z,)."""
    ramp_kw: FloatArray
    """Worst-case power that may start within a slot: the start ramp times the slot's length, shape (ramp groups, T)
    [kW]; infinite for no limit. A gang larger than that takes the whole of it."""
    wanted_share: FloatArray
    """By how many kW a kW of IT power in a zone serves each row of `wanted_kw`; 0 where not, shape (rows, Z)."""
    wanted_kw: FloatArray
    """Expected power that is still wanted: by a heat network for its heat, by a site for its own sun and wind, shape
    (rows, T) [kW]."""
    wanted_cost_per_kwh: FloatArray
    """What the objective pays for each kWh that is short of it, shape (rows, T)."""

    def serves(self) -> list[list[tuple[int, float]]]:
        """Return for each zone the rows of wanted power that it serves, each with its share."""
        return [[(int(row), float(share[row])) for row in np.flatnonzero(share)] for share in self.wanted_share.T]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Jobs:
    """What wants to run. J jobs; every array has shape (J,) unless told otherwise."""

    gpus: FloatArray
    """GPUs of the whole gang."""
    power_kw: FloatArray
    """Expected IT power of the whole gang: what the objective pays for [kW]."""
    limit_kw: FloatArray
    """Its power at worst: what the power and heat rows see [kW]."""
    duration_h: FloatArray
    """Expected duration: what the objective and the GPU rows see [h]."""
    limit_h: FloatArray
    """Duration at P90: what the power and heat rows see [h]; at least `duration_h`."""
    release: IntArray
    """First slot that it may start in."""
    latest_start: IntArray
    """Last slot that it may start in (the bound); before `release` there is none. Pausable work keeps `deadline`."""
    deadline: IntArray
    """Pausable work may use slots before this one only; also bounds slower modes. T where there is none."""
    zones: BoolArray
    """Zones that it may use (residency is a hard filter), shape (J, Z)."""
    pausable: BoolArray
    """May run in several parts. Needs `limit_h` = `duration_h`."""
    unplaced_cost: FloatArray
    """What the objective pays for a job that gets no place."""
    pause_h: FloatArray
    """What each pause costs: so many hours of the gang at full power, in the slot of the restart [h]."""
    min_run_h: FloatArray
    """Each part but the last lasts at least so long [h]."""
    delay_cost_per_h: FloatArray
    """What an hour of delay costs the objective: of the mean lateness of its work against running at once."""
    priority: FloatArray
    """Higher goes first where room is short; the objective does not see it."""
    tenant_rank: FloatArray
    """Of equal priority the lower rank goes first where room is short: who got less of it for more waiting."""
    weighing: IntArray
    """How the objective weighs its kWh: 0 as `Zones.cost_per_kwh` says, k as row k - 1 of `Problem.weighings`."""
    previous_zone: IntArray
    """Zone of the last plan, -1 for none."""
    previous_start: IntArray
    """Slot of the last plan's start on today's axis, -1 for none."""
    churn_cost: FloatArray
    """What the objective pays when zone or start differ from the last plan's."""

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.gpus.shape[0])

    def take(self, rows: npt.ArrayLike) -> "Jobs":
        """Return some of the jobs, in the order asked for."""
        return Jobs(**{name: getattr(self, name)[rows] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """An instance. `validated` refuses what no plan may rest on."""

    edges_h: FloatArray
    """Edges of the slots, hours from now, shape (T + 1,), rising from 0."""
    zones: Zones
    jobs: Jobs
    modes: tuple[Mode, ...] = (Mode(),)
    """Ways to run; the first is full power."""
    modes_allowed: BoolArray | None = None
    """Which jobs may use which modes, shape (J, modes); None: all jobs the first only."""
    weighings: FloatArray | None = None
    """What a kWh costs those who weigh it otherwise than `zones.cost_per_kwh`, shape (W, Z, T); None for nobody."""

    @property
    def n_slots(self) -> int:
        """How many slots there are."""
        return int(self.edges_h.shape[0]) - 1

    @property
    def n_zones(self) -> int:
        """How many zones there are."""
        return int(self.zones.gpus.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prices:
    """Prices of the rows, all at least 0: per GPU and slot, per facility kW and slot, per kW of heat and slot.

    The price of wanted power is what a kW in the slot earns; at most what a kW short costs there.
    """

    gpu: FloatArray
    """Shape (Z, T)."""
    power: FloatArray
    """Shape (power groups, T)."""
    heat: FloatArray
    """Shape (heat groups, T)."""
    wanted: FloatArray
    """Shape (rows of wanted power, T)."""


class Binding(IntEnum):
    """What keeps a job from its own cheapest start: the row whose price makes the difference."""

    NONE = 0
    """It starts at its first slot."""
    CHEAPER = 1
    """It waits for cheaper (cleaner) hours, and gets its own cheapest start."""
    GPUS = 2
    POWER = 3
    HEAT = 4
    UNPLACED = 5
    """There is no room for it before its bound."""
    RAMP = 6
    """Its zone's power may not rise faster."""
    WANTED = 7
    """It runs when a heat network needs its heat, or the site has power of its own."""


class Place(NamedTuple):
    """Where one job runs."""

    option: int
    zone: int
    where: slice | IntArray
    """Slots whose GPUs it takes: a slice for runs, slot numbers for work in parts."""
    limit_where: slice | IntArray
    cost: float
    """What it was chosen for: prices included."""
    earned: float = 0.0
    """What it earns there by wanted power; taken off the cost."""


class Stage(IntEnum):
    """How a plan was made: the last stage that the time budget allowed."""

    FIFO = 0
    GREEDY = 1
    IMPROVED = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """A plan and its proof."""

    zone: IntArray
    """Zone of each job, -1 where it got no place, shape (J,)."""
    start: IntArray
    """Slot of its (first) start, -1 where it got no place, shape (J,)."""
    mode: IntArray
    """How it runs, shape (J,)."""
    part_job: IntArray
    """Parts of all placed jobs by job and time: whose, shape (parts,). Unpausable work has exactly one."""
    part_start: IntArray
    """First slot of each part."""
    part_end: IntArray
    """Slot after its last one."""
    cost: FloatArray
    """What each job adds to the objective, shape (J,)."""
    binding: IntArray
    """A `Binding` for each job, shape (J,)."""
    prices: Prices
    """Warm start for the next turn, and the certificate."""
    shortfall_cost: float
    """What the wanted power that is short costs the objective."""
    objective: float
    """What the jobs and the shortfall cost together."""
    lower_bound: float
    """No plan of this problem costs less (proof: docs/planner.md)."""
    stage: Stage
    first_seconds: float
    """When the first complete plan was there [s on the caller's clock]."""
    first_objective: float
    seconds: float
    iterations: int
    """Steps of the price search."""
    restarts: int
    """Plans that were made anew after the first improved one, to their end."""

    @property
    def gap(self) -> float:
        """How far the plan can be from the best one: (objective - lower bound) / |lower bound|."""
        if self.objective <= self.lower_bound:
            return 0.0
        return (self.objective - self.lower_bound) / abs(self.lower_bound) if self.lower_bound else float("inf")

    @property
    def unplaced(self) -> int:
        """How many jobs got no place."""
        return int((self.zone < 0).sum())
