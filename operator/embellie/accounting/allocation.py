# SPDX-License-Identifier: Apache-2.0
"""Who drew what: a zone's energy of one interval, divided so that it closes against the meter; pure.

The rule (method v1, docs/method.md):

1. A node's energy has an idle floor (what it draws with no work on it) and a dynamic rest.
2. The dynamic rest goes to the gangs on the node, by what their GPUs drew above idle, plus their processors' share
   where that is measured.
3. The idle floor goes to gangs by the GPU-time that they reserved; GPU-time that nobody reserved is `idle`.
4. Overhead (cooling, conversion) comes from a model that has not seen the interval, and is shared by IT energy.
5. What the meter says beyond that is `unexplained`: a number, never spread over anybody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class GangUse:
    """What one gang drew on one node in the interval."""

    gang: str
    gpu_seconds: float
    """GPU-time that it reserved [s]."""
    gpu_kwh: float
    """What its GPUs drew, their idle draw included."""
    cpu_kwh: float = 0.0
    """What its processors drew, where that is measured (Kepler)."""
    estimated: bool = False
    """True where the power was assumed, not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEnergy:
    """One node in one interval."""

    name: str
    seconds: float
    gpus: int
    idle_w: float
    gpu_idle_w: float
    kwh: float | None
    """What its meter said; None where it has none: then it is made up of its parts."""
    host_share: float = 0.03
    """What the host adds to each watt of a GPU above idle, where the node has no meter."""
    uses: tuple[GangUse, ...] = ()


@dataclass(slots=True, kw_only=True)
class Share:
    """What one gang (or the idle rest) has to answer for [kWh]."""

    dynamic_kwh: float = 0.0
    idle_kwh: float = 0.0
    overhead_kwh: float = 0.0
    estimated_kwh: float = 0.0
    """How much of it was not measured."""
    gpu_seconds: float = 0.0

    @property
    def it_kwh(self) -> float:
        """Energy of the machines."""
        return self.dynamic_kwh + self.idle_kwh

    @property
    def kwh(self) -> float:
        """All of it."""
        return self.dynamic_kwh + self.idle_kwh + self.overhead_kwh


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """A zone's interval, divided. `jobs + idle + overhead + unexplained` is the meter, to rounding."""

    gangs: Mapping[str, Share]
    idle: Share
    it_kwh: float
    overhead_kwh: float
    meter_kwh: float | None
    """What the zone's meter said; None where it has none."""
    estimated_kwh: float

    @property
    def jobs_it_kwh(self) -> float:
        """What the machines drew for jobs, their reserved idle draw included."""
        return sum(share.it_kwh for share in self.gangs.values())

    @property
    def facility_kwh(self) -> float:
        """The meter, or where there is none what the parts add up to."""
        return self.it_kwh + self.overhead_kwh if self.meter_kwh is None else self.meter_kwh

    @property
    def unexplained_kwh(self) -> float:
        """What the meter says beyond the parts; negative where the parts say more."""
        return 0.0 if self.meter_kwh is None else self.meter_kwh - self.it_kwh - self.overhead_kwh


@dataclass(slots=True)
class _Book:
    gangs: dict[str, Share] = field(default_factory=dict)
    idle: Share = field(default_factory=Share)

    def of(self, gang: str) -> Share:
        return self.gangs.setdefault(gang, Share())


def allocate(nodes: Sequence[NodeEnergy], *, overhead_kwh: float, meter_kwh: float | None) -> Allocation:
    """Divide a zone's interval.

    Args:
        nodes: All nodes of the zone, busy or not.
        overhead_kwh: What the facility added, by a model that has not seen this interval's meter.
        meter_kwh: The zone's meter, if it has one.
    """
    if overhead_kwh < 0.0 or (meter_kwh is not None and meter_kwh < 0.0):
        raise ValueError("overhead and meter must not be negative")
    book = _Book()
    for node in nodes:
        _divide_node(node, book)
    it_kwh = book.idle.it_kwh + sum(share.it_kwh for share in book.gangs.values())
    for share in (*book.gangs.values(), book.idle):
        share.overhead_kwh = overhead_kwh * share.it_kwh / it_kwh if it_kwh > 0.0 else 0.0
    estimated = book.idle.estimated_kwh + sum(share.estimated_kwh for share in book.gangs.values())
    return Allocation(
        gangs=book.gangs,
        idle=book.idle,
        it_kwh=it_kwh,
        overhead_kwh=overhead_kwh if it_kwh > 0.0 else 0.0,
        meter_kwh=meter_kwh,
        estimated_kwh=estimated,
    )


def _divide_node(node: NodeEnergy, book: _Book) -> None:
    floor_kwh = node.idle_w * node.seconds / 3.6e6
    above: dict[str, float] = {}
    for use in node.uses:
        gpu_floor = node.gpu_idle_w * use.gpu_seconds / 3.6e6
        above[use.gang] = above.get(use.gang, 0.0) + max(0.0, use.gpu_kwh - gpu_floor) + max(0.0, use.cpu_kwh)
    drawn = sum(above.values())
    measured = node.kwh is not None and node.kwh >= 0.0
    whole = node.kwh if node.kwh is not None and measured else floor_kwh + drawn * (1.0 + node.host_share)
    # A node may draw less than its idle figure says (it sleeps, the figure is wrong): then all of it is idle draw.
    idle_kwh = min(whole, floor_kwh)
    dynamic_kwh = whole - idle_kwh
    seats_s = max(node.gpus * node.seconds, sum(use.gpu_seconds for use in node.uses), 1e-9)
    left_idle, left_dynamic = idle_kwh, dynamic_kwh
    guessed = {use.gang for use in node.uses if use.estimated}
    for use in node.uses:
        share = book.of(use.gang)
        part = idle_kwh * use.gpu_seconds / seats_s
        share.idle_kwh += part
        share.gpu_seconds += use.gpu_seconds
        share.estimated_kwh += 0.0 if measured else part
        left_idle -= part
    for gang, amount in above.items():
        part = dynamic_kwh * amount / drawn if drawn > 0.0 else 0.0
        book.of(gang).dynamic_kwh += part
        book.of(gang).estimated_kwh += part if gang in guessed or not measured else 0.0
        left_dynamic -= part
    book.idle.idle_kwh += left_idle
    # Dynamic draw without a gang that drew it: system work, or GPUs without telemetry.
    book.idle.dynamic_kwh += left_dynamic
    book.idle.gpu_seconds += max(0.0, node.gpus * node.seconds - sum(use.gpu_seconds for use in node.uses))
    book.idle.estimated_kwh += 0.0 if measured else left_idle + left_dynamic
