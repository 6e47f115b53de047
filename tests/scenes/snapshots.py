# SPDX-License-Identifier: Apache-2.0
"""Parts of snapshots that tests of the planner and of the shield share."""

from dataclasses import replace
from datetime import datetime, timedelta

from embellie.domain.snapshot import Flex, Workload, WorkloadKey, WorkloadKind


def workload_at(now: datetime, name: str = "a", **changes: object) -> Workload:
    """A patient Job of one pod and 8 GPUs for two hours, created five minutes ago, that may wait for twelve hours."""
    base = Workload(
        key=WorkloadKey(namespace="team", name=name, kind=WorkloadKind.JOB, uid=name),
        created_at=now - timedelta(minutes=5),
        latest_start=now + timedelta(hours=12),
        pods=1,
        gpus_per_pod=8,
        power_kw=4.0,
        worst_power_kw=5.0,
        duration_p50_s=7200.0,
        duration_p90_s=7200.0,
        flex=Flex.PATIENT,
        tenant="team",
        policy="default",
        enforced=True,
        allowed_cells=frozenset({"west"}),
        minimum_saving_percent=2.0,
    )
    return replace(base, **changes)  # type: ignore[arg-type]
