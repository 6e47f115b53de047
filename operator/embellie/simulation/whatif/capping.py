# SPDX-License-Identifier: Apache-2.0
"""Work under a power cap: it runs slower, and draws less."""

from dataclasses import dataclass, replace

import numpy as np

from embellie.simulation.whatif.axis import BoolArray, IntArray
from embellie.simulation.whatif.case import Site, Work

LEAST_KNOWN_PERCENT = 60.0
"""Below it, speed falls faster than power on some GPUs."""
_PERCENT = (60.0, 70.0, 80.0, 90.0, 100.0)
_SPEED = (0.899, 0.941, 0.965, 0.987, 1.0)
_POWER = (0.682, 0.781, 0.867, 0.945, 1.0)
"""Medians of 68 trainings on V100, epochs per hour and mean power over those without a cap (measurements published with
Zeus, NSDI 2023; github.com/ml-energy/zeus, Apache-2.0). Power there holds what an idle GPU draws: above idle it falls
further than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A power limit on all GPUs that run work."""

    percent: float
    """Of the power that they may draw without one."""
    speed: float
    """Work done in an hour, over that without a cap; 1 at most."""
    power: float
    """What work draws above idle, over that without a cap; 1 at most."""


def make_cap(percent: float, speed: float | None = None, power: float | None = None) -> Cap:
    """Return a cap; what is not told of it is what training on V100 had, between its tenths.

    Raises ValueError for a cap that nothing is known of.
    """
    if percent < LEAST_KNOWN_PERCENT and (speed is None or power is None):
        raise ValueError(
            f"--power-cap {percent:g}: trainings were measured down to {LEAST_KNOWN_PERCENT:g} %; below that, give "
            "--cap-speed and --cap-power as you measured them"
        )
    return Cap(
        percent=percent,
        speed=float(np.interp(percent, _PERCENT, _SPEED)) if speed is None else speed,
        power=float(np.interp(percent, _PERCENT, _POWER)) if power is None else power,
    )


def slowed(work: Work, cap: Cap) -> BoolArray:
    """Return which jobs run under a cap, shape (jobs,): those that are in time with it if they begin at once."""
    within: BoolArray = _length(work, cap) - work.length <= work.wait
    return within


def capped(work: Work, site: Site, cap: Cap) -> Work:
    """Return work as it runs under a cap. No bound moves: what runs longer may wait less."""
    rows = slowed(work, cap)
    length: IntArray = np.where(rows, _length(work, cap), work.length)
    idle_kw = np.minimum(work.gpus * site.idle_kw_per_gpu, work.power_kw)
    less_kw = idle_kw + (work.power_kw - idle_kw) * cap.power
    return replace(
        work,
        length=length,
        wait=work.wait - (length - work.length),
        power_kw=np.where(rows, less_kw, work.power_kw),
    )


def _length(work: Work, cap: Cap) -> IntArray:
    longer: IntArray = np.maximum(work.length, np.round(work.length / cap.speed).astype(np.int64))
    return longer
