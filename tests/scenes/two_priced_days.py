# SPDX-License-Identifier: Apache-2.0
"""Replays of a few jobs, one every half hour, on days of 18 dirty and six clean hours."""

import numpy as np

from embellie.simulation.whatif.axis import Axis
from embellie.simulation.whatif.case import Site
from embellie.simulation.whatif.jobs_file import JobRow
from embellie.simulation.whatif.slack import Slack
from embellie.simulation.whatif.study import Power, Setup, make_setup


def setup(
    *hours_gpus: tuple[float, float], slack_h: float = 24.0, capacity: float | None = None, pausable: float = 1.0
) -> Setup:
    """Return the case of jobs of so many hours on so many GPUs."""
    return make_setup(
        [
            JobRow(id=f"j{i}", tenant="", kind="", submit_s=1800.0 * i, duration_s=3600.0 * hours, gpus=gpus)
            for i, (hours, gpus) in enumerate(hours_gpus)
        ],
        Axis(values=np.array(([400.0] * 18 + [100.0] * 6) * 10), tick_s=1.0, ticks_per_slot=3600),
        Site(capacity_gpus=capacity, idle_kw_per_gpu=0.4, pue=1.2, embodied_g_per_gpu_h=4.0),
        slack=Slack(short_h=slack_h, long_h=slack_h),
        power=Power(watts_per_gpu=900.0),
        pausable=pausable,
        anchor=None,
        past=np.full(168, 250.0),
    )
