# SPDX-License-Identifier: Apache-2.0
"""`embellie plan --tenants`: how tenants stand towards each other, and what that does to their plans. Pure.

Made from the same objects by the same functions as in the operator's turn.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from embellie.cluster.plans import read_plan
from embellie.cluster.records import parse_bare_pod, parse_job
from embellie.control.work.tenants import tenant_use
from embellie.domain.snapshot import TenantUse
from embellie.planning.fairness import WAIT_PRICE, standing

Raw = Mapping[str, Any]


def use_of(jobs: Iterable[Raw], pods: Iterable[Raw], plans: Iterable[Raw], now: datetime) -> dict[str, TenantUse]:
    """Return what each tenant had of late, from objects as the API server tells them."""
    records = [record for raw in jobs if (record := parse_job(raw)) is not None]
    records += [record for raw in pods if (record := parse_bare_pod(raw)) is not None]
    known = {raw["spec"]["workloadRef"]["uid"]: plan for raw in plans if (plan := read_plan(raw)) is not None}
    return tenant_use(records, known, now, lambda moment: moment)


def table(tenants: Mapping[str, TenantUse]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells, the tenant that got most for its waiting first."""
    found = standing(tenants)
    header = ["TENANT", "GPU-HOURS", "WAITED GPU-HOURS", "EXCESS", "WHAT IT DOES"]
    lines = [
        [name, f"{use.gpu_h:.1f}", f"{use.waited_gpu_h:.1f}", f"{found.of(name):+.3f}", effect(found.of(name))]
        for name, use in sorted(tenants.items(), key=lambda pair: (-found.of(pair[0]), pair[0]))
    ]
    return header, lines


def effect(excess: float) -> str:
    """Say what an excess does to a tenant's plans.

    >>> effect(-0.5), effect(0.0)
    ('an hour of waiting must save 2.5 % of what an hour of work emits', 'nothing')
    """
    if excess > 0.0:
        return "others go first where room is short"
    if excess < 0.0:
        return f"an hour of waiting must save {-100.0 * excess * WAIT_PRICE:.1f} % of what an hour of work emits"
    return "nothing"


def evenness(tenants: Mapping[str, TenantUse]) -> str:
    """Say how evenly tenants waited."""
    jain = standing(tenants).jain
    if jain is None:
        return "Fewer than two tenants had GPUs or waited of late, so there is nothing to share out."
    return f"An hour of a day ago counts 1/e. Jain's index of waiting per hour of work: {jain:.2f} (1 is even)."
