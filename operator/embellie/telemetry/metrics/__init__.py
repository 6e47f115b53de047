# SPDX-License-Identifier: Apache-2.0
"""What the operator tells about itself: Prometheus metrics, liveness and readiness, on one port."""

from embellie.telemetry.metrics import accounts, grid, heat, work
from embellie.telemetry.metrics.metric import REGISTRY, TABLE, Kind, Metric, Topic, Value, catalogue
from embellie.telemetry.metrics.server import Server
from embellie.telemetry.metrics.work import FAILED_RELEASES, LEADER, RELEASES, SWITCH, TURN_SECONDS, TURNS

__all__ = [
    "FAILED_RELEASES",
    "LEADER",
    "REGISTRY",
    "RELEASES",
    "SWITCH",
    "TABLE",
    "TURNS",
    "TURN_SECONDS",
    "Kind",
    "Metric",
    "Server",
    "Topic",
    "Value",
    "accounts",
    "catalogue",
    "grid",
    "heat",
    "work",
]
