# SPDX-License-Identifier: Apache-2.0
"""Replays job traces: the counterfactual of the accounts, what-if studies, and drills of the operator's own code."""

from embellie.simulation.model import SimCell, SimGridZone, SimJob, SimResult, SimSite
from embellie.simulation.replay import simulate
from embellie.simulation.trace import TraceJob, load_trace, sample_trace, shape

__all__ = [
    "SimCell",
    "SimGridZone",
    "SimJob",
    "SimResult",
    "SimSite",
    "TraceJob",
    "load_trace",
    "sample_trace",
    "shape",
    "simulate",
]
