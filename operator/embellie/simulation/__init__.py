# SPDX-License-Identifier: Apache-2.0
"""Replays a job trace through policies: the same planner, shield and accounts as the operator's."""

from embellie.simulation.model import SimCell, SimGridZone, SimJob, SimSite
from embellie.simulation.replay import simulate
from embellie.simulation.trace import TraceJob, load_trace, sample_trace, shape

__all__ = [
    "SimCell",
    "SimGridZone",
    "SimJob",
    "SimSite",
    "TraceJob",
    "load_trace",
    "sample_trace",
    "shape",
    "simulate",
]
