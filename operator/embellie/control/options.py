# SPDX-License-Identifier: Apache-2.0
"""What an operator process is started with; the flags of `embellie operator run`."""

import socket
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Durations are in the operator's clock. The command line refuses what would make the loop stand still."""

    namespace: str = "embellie-system"
    name: str = "embellie"
    identity: str = field(default_factory=socket.gethostname)
    prometheus_url: str = ""
    """Empty: no Prometheus, every sensor is missing."""
    forecast_dir: Path = Path("/var/lib/embellie")
    turn_seconds: float = 15.0
    max_limit_hold_seconds: float = 4 * 3600.0
    release_rate: float = 400.0
    """Most releases per wall second."""
    metrics_port: int = 8080
    workload_metrics: bool = False
    """Whether each held workload has a series of its own."""
    ledger_path: Path | None = None
    """None: nothing is recorded."""
    ledger_interval_seconds: float = 900.0
    ledger_retention_days: float = 400.0
    team_label: str = ""
    log_level: str = "info"
    clock: str = "system"
    kubeconfig: str | None = None
