# SPDX-License-Identifier: Apache-2.0
"""What an operator process is started with; the flags of `embellie operator run`."""

import socket
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Durations are in the operator's clock, except where the name says wall."""

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
    relist_wall_seconds: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what would make the loop stand still."""
        if not 0 <= self.max_limit_hold_seconds < 1e7:
            raise ValueError(f"--max-limit-hold-seconds must be 0 or more, got {self.max_limit_hold_seconds}")
        for name in (
            "turn_seconds",
            "release_rate",
            "relist_wall_seconds",
            "ledger_interval_seconds",
            "ledger_retention_days",
        ):
            value = getattr(self, name)
            if not 0 < value < 1e7:
                raise ValueError(f"--{name.replace('_', '-')} must be greater than 0, got {value}")
