# SPDX-License-Identifier: Apache-2.0
"""What a turn may want written about a workload."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from embellie.cluster.plan_objects import PlanRecord
from embellie.domain.reasons import Reason, State
from embellie.domain.snapshot import WorkloadKey

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def plan_record(key: WorkloadKey, **changes: Any) -> PlanRecord:
    """Held work of 8 GPUs that waits for the night: nine hours at even odds, a day at most."""
    made = PlanRecord(
        key=key,
        latest_start=NOW + timedelta(hours=24),
        policy="default",
        mode="enforce",
        state=State.HELD,
        reason=Reason.CLEANER_WINDOW,
        message="Waits for the wind of the night.",
        cell="west",
        grid_zone="west",
        planned_start=NOW + timedelta(hours=9),
        likely_start_p50=NOW + timedelta(hours=9),
        likely_start_p90=NOW + timedelta(hours=11),
        now_g=1000.0,
        planned_g=700.0,
        planned_low_g=600.0,
        planned_high_g=800.0,
        energy_wh=5000.0,
        gpus=8,
    )
    return replace(made, **changes)
