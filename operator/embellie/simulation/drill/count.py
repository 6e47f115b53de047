# SPDX-License-Identifier: Apache-2.0
"""What a drill counts: time over hard limits, whose fault it was, utilisation, flapping, heat delivered.

A violation is a stretch of time in which the truth (not a reading) stands over one hard limit of one zone or of the
room; stretches less than five minutes apart are one. Contracts and permits are metered as means of a quarter of an
hour, counted from the moment at which they begin to hold.
"""

from dataclasses import dataclass

import numpy as np

from embellie.simulation.drill.rig import METERED_S, Drill, Log
from embellie.simulation.drill.scenarios import PHYSICAL, Kind
from embellie.simulation.plant.exchange import Array

_JOIN_S = 300.0
_AFTERMATH_S = 1800.0
"""A trouble's consequences may come so long after its end."""
_REOPENED_S = 900.0
"""A measure that is taken again this soon after it was lifted flaps."""
FLOOR_TOLERANCE = 0.99
CONTRACTED = "contracted power"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One stretch over one hard limit."""

    what: str
    begin_s: float
    end_s: float

    @property
    def minutes(self) -> float:
        """Length [min]."""
        return (self.end_s - self.begin_s) / 60.0

    def overlaps(self, other: "Violation") -> bool:
        """Tell whether another one is the same limit at nearly the same time."""
        return (
            self.what == other.what
            and self.begin_s <= other.end_s + METERED_S
            and other.begin_s <= self.end_s + METERED_S
        )


def violations(drill: Drill, log: Log, b: int, zones: tuple[str, ...]) -> list[Violation]:
    """Return a room's violations, in order of time."""
    limits = drill.room.limits
    found: list[Violation] = []
    for k, zone in enumerate(zones):
        if zone == "loop":
            over = log.inlet_c[:, b, k] > limits.coolant_supply_hard_c
            found += _stretches("loop coolant supply", over, log.turn_s)
            over = log.return_c[:, b] > limits.coolant_return_hard_c
            found += _stretches("loop coolant return", over, log.turn_s)
        else:
            found += _stretches(f"{zone} inlet", log.inlet_c[:, b, k] > limits.inlet_hard_c, log.turn_s)
    times = np.arange(len(log.facility_kw)) * log.turn_s
    contract = np.array([drill.contract_now_kw(float(t)) for t in times])
    found += _stretches(CONTRACTED, _metered(log.facility_kw[:, b], contract, log.turn_s), log.turn_s)
    ceiling = np.array([drill.ceiling_now_kw(float(t)) for t in times])
    if np.isfinite(ceiling).any():
        found += _stretches("rejection ceiling", _metered(log.rejected_kw[:, b], ceiling, log.turn_s), log.turn_s)
    return sorted(found, key=lambda v: v.begin_s)


def _metered(power_kw: Array, limit_kw: Array, turn_s: float) -> np.ndarray:
    """Return when the mean of the last quarter of an hour under one and the same limit stands over it."""
    window = max(1, round(METERED_S / turn_s))
    total = np.concatenate([[0.0], np.cumsum(power_kw.astype(np.float64))])
    mean = np.full(len(power_kw), -np.inf)
    mean[window - 1 :] = (total[window:] - total[:-window]) / window
    change = np.flatnonzero(limit_kw[1:] != limit_kw[:-1]) + 1
    for edge in change:
        mean[edge : edge + window - 1] = -np.inf
    return np.asarray(mean > limit_kw + 1e-6)


def _stretches(what: str, over: np.ndarray, turn_s: float) -> list[Violation]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], over.astype(np.int8), [0]])))
    found: list[Violation] = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if found and begin * turn_s - found[-1].end_s < _JOIN_S:
            found[-1] = Violation(what=what, begin_s=found[-1].begin_s, end_s=end * turn_s)
        else:
            found.append(Violation(what=what, begin_s=begin * turn_s, end_s=end * turn_s))
    return found


def later_than_s(drill: Drill, violation: Violation) -> float:
    """Return from when on our starts can be blamed for a violation [s].

    While something that strikes running work is going on (cooling lost, contract cut), its onset; what was started in
    good order before is not ours to blame. An order strikes power alone, from when it was told. Otherwise everything
    that was ever started.
    """
    onsets = [
        trouble.begin_s - trouble.notice_s
        for trouble in drill.course.troubles
        if (trouble.kind in PHYSICAL or (trouble.kind is Kind.ORDER and violation.what == CONTRACTED))
        and trouble.begin_s - trouble.notice_s <= violation.end_s
        and violation.begin_s <= trouble.end_s + _AFTERMATH_S
    ]  # fmt: skip
    return min(onsets, default=0.0)


def worst_margin_c(drill: Drill, log: Log, b: int, zones: tuple[str, ...]) -> float:
    """Return how near any temperature came to its hard limit; negative when over [K]."""
    limits = drill.room.limits
    margins = [
        (limits.coolant_supply_hard_c if zone == "loop" else limits.inlet_hard_c) - float(log.inlet_c[:, b, k].max())
        for k, zone in enumerate(zones)
    ]
    if "loop" in zones:
        margins.append(limits.coolant_return_hard_c - float(log.return_c[:, b].max()))
    return min(margins)


def flaps(log: Log, b: int) -> int:
    """Return how often a measure was taken again within a quarter of an hour of being lifted."""
    count = 0
    window = round(_REOPENED_S / log.turn_s)
    for k in range(log.level.shape[2]):
        level = log.level[:, b, k]
        moves = np.flatnonzero(np.diff(level) != 0) + 1
        eased: dict[int, int] = {}
        for at in moves:
            before, after = int(level[at - 1]), int(level[at])
            if after < before:
                eased.update(dict.fromkeys(range(after + 1, before + 1), int(at)))
            else:
                count += any(at - eased[rung] <= window for rung in range(before + 1, after + 1) if rung in eased)
    return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Hours in which the heat network's floor could be met, and in how many of them it was."""

    possible: int
    met: int
    delivered_kwh: float


def delivery(drill: Drill, log: Log, b: int, work_waits: np.ndarray) -> Delivery:
    """Count the hours of the heat network.

    An hour counts as one in which the floor can be met when the network would take it, and either work waited or the
    floor was met anyway; without work there is no heat to give.

    Args:
        drill: The drill.
        log: Its truth.
        b: The room.
        work_waits: Whether work waited for the loop, by turn.
    """
    hour = max(1, round(3600.0 / log.turn_s))
    floor = drill.room.network.floor_kw
    turns = len(log.delivered_kw) // hour * hour
    given = log.delivered_kw[:turns, b].reshape(-1, hour).mean(axis=1)
    asked = np.minimum(log.demand_kw[:turns, b].reshape(-1, hour).min(axis=1), floor)
    could = (asked >= floor) & (work_waits[:turns].reshape(-1, hour).all(axis=1) | (given >= floor * FLOOR_TOLERANCE))
    if floor <= 0.0:
        could[:] = False
    met = could & (given >= floor * FLOOR_TOLERANCE)
    total = float(log.delivered_kw[:, b].sum()) * log.turn_s / 3600.0
    return Delivery(possible=int(could.sum()), met=int(met.sum()), delivered_kwh=total)


def has_ceiling(drill: Drill) -> bool:
    """Tell whether the drill holds a permit for heat to the outside."""
    return drill.room.limits.ceiling_kw is not None or any(t.kind is Kind.CEILING for t in drill.course.troubles)
