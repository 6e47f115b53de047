# SPDX-License-Identifier: Apache-2.0
"""How a zone sheds heat: caps, the same for all ranks of a job and never below its knee, and pauses.

Pauses go by priority, then by the work that they lose for each kilowatt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from embellie.thermal.power import WORST_CASE_FACTOR, added_power_kw

KNEE_SHARE = 0.6
"""Below this share of the rated power work gets slower faster than it gets cheaper, where no better is known."""

CAP_LEASE_S = 600.0
"""So long a cap holds unless it is given again [s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatLoad:
    """Work that runs in a zone and what can be done about it."""

    key: str
    zone: str
    nodes: tuple[str, ...]
    gpus: int
    power_kw: float
    """What it adds now [kW]."""
    priority: int = 0
    """Lower goes first."""
    pausable: bool = False
    checkpoint_s: float = 0.0
    last_checkpoint: datetime | None = None
    started_at: datetime
    cap_w: float | None = None
    rated_w: float
    knee_w: float
    idle_w: float = 0.0
    host_share: float = 0.0
    """What the host adds for each watt of its GPUs above idle."""
    capable: bool = False
    """Whether a node agent carries caps out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CapOrder:
    """A cap for all GPUs of a job; it lapses unless it is given again."""

    key: str
    nodes: tuple[str, ...]
    watts_per_gpu: float
    expires: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseOrder:
    """A workload to be paused once its checkpoint is acknowledged."""

    key: str
    reason: str


def worst_kw(load: HeatLoad, cap_w: float | None, overshoot: float = WORST_CASE_FACTOR) -> float:
    """Return what a job may draw above idle under a cap [kW]; a cap holds on average only, hence the overshoot."""
    watts = load.rated_w if cap_w is None else min(cap_w, load.rated_w)
    return added_power_kw(load.gpus, overshoot * watts, load.idle_w, 100.0 * load.host_share)


def caps_for(loads: Sequence[HeatLoad], wanted_kw: float, overshoot: float = WORST_CASE_FACTOR) -> float:
    """Return the share of the rated power (0..1) at which all capable jobs together settle at `wanted_kw`.

    Evenly: the same share for all, held at each job's knee. What cannot be capped counts as it draws now.
    """
    fixed = sum(load.power_kw for load in loads if not load.capable)
    capable = [load for load in loads if load.capable]

    def total(share: float) -> float:
        limits = [(load, max(load.knee_w, share * load.rated_w)) for load in capable]
        return fixed + sum(min(load.power_kw, worst_kw(load, cap, overshoot)) for load, cap in limits)

    if total(1.0) <= wanted_kw:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2.0
        low, high = (middle, high) if total(middle) <= wanted_kw else (low, middle)
    floor = min((load.knee_w / load.rated_w for load in capable), default=1.0)
    return max(low, floor)


def lost_gpu_s(load: HeatLoad, now: datetime) -> float:
    """Return the work that a pause throws away, the checkpoint's own time included [GPU s]."""
    since = load.last_checkpoint or load.started_at
    again = (now - since).total_seconds() if load.checkpoint_s <= 0 else load.checkpoint_s
    return load.gpus * max(0.0, again)


def pauses_for(loads: Sequence[HeatLoad], shed_kw: float, most: int, now: datetime) -> list[HeatLoad]:
    """Return which of the pausable jobs to pause so that at least `shed_kw` goes away, at most `most` of them."""
    chosen: list[HeatLoad] = []
    ranked = sorted(
        (load for load in loads if load.pausable),
        key=lambda load: (load.priority, lost_gpu_s(load, now) / max(load.power_kw, 1e-9), load.key),
    )
    left = shed_kw
    for load in ranked:
        if left <= 0 or len(chosen) >= most:
            break
        chosen.append(load)
        left -= load.power_kw
    return chosen
