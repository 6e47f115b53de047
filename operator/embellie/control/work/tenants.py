# SPDX-License-Identifier: Apache-2.0
"""What each tenant had of late: GPU-hours that ran, and waiting that was imposed for energy. Pure.

Nothing is kept: both are read each turn from what the cluster still knows, Jobs with their times and the history in
their WorkloadPlans, so that a restart changes nothing. Work whose objects are deleted is forgotten with them.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from embellie.cluster.plans import KnownPlan
from embellie.cluster.records import WorkloadRecord
from embellie.domain.reasons import BY_CHOICE, State
from embellie.domain.snapshot import TenantUse
from embellie.domain.times import parse_time

MEMORY = timedelta(hours=24)
"""An hour that lies so far back counts 1/e of the present one."""
_MARKS = tuple(reason.encode() for reason in sorted(BY_CHOICE))


def tenant_use(
    workloads: Iterable[WorkloadRecord],
    known: Mapping[str, KnownPlan],
    now: datetime,
    from_wall: Callable[[datetime], datetime],
) -> dict[str, TenantUse]:
    """Return what each namespace with work that opted in had; `now` is in the operator's clock."""
    ran: dict[str, float] = defaultdict(float)
    waited: dict[str, float] = defaultdict(float)
    for record in workloads:
        if not record.gpus or not (record.opted_in or record.held):
            continue
        tenant = record.key.namespace
        ran[tenant] += 0.0
        # A pod without an end that is told, or a Job that failed, counts nothing rather than for ever.
        if record.started_at is not None and not record.waiting and (record.completed_at or not record.finished):
            end = from_wall(record.completed_at) if record.completed_at is not None else now
            ran[tenant] += record.gpus * weighted_h(from_wall(record.started_at), end, now)
        plan = known.get(record.key.uid)
        if plan is not None and any(mark in plan.kept for mark in _MARKS):
            waited[tenant] += record.gpus * math.fsum(
                weighted_h(begin, end or now, now) for begin, end in imposed_waits(plan.kept)
            )
    return {name: TenantUse(gpu_h=hours, waited_gpu_h=waited.get(name, 0.0)) for name, hours in ran.items()}


def weighted_h(begin: datetime, end: datetime, now: datetime) -> float:
    """Return the hours from begin to end, each weighted by exp(-age / MEMORY) [h]; none of the future counts.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 7, 1, 12, tzinfo=UTC)
    >>> round(weighted_h(noon - timedelta(hours=1), noon, noon), 3)
    0.979
    """
    memory_h = MEMORY.total_seconds() / 3600.0
    until = min(end, now)
    if begin >= until:
        return 0.0
    near, far = ((now - moment).total_seconds() / 3600.0 / memory_h for moment in (until, begin))
    return memory_h * (math.exp(-near) - math.exp(-far))


@lru_cache(maxsize=20_000)
def imposed_waits(kept: bytes) -> tuple[tuple[datetime, datetime | None], ...]:
    """Return when a workload was held for better hours, by what its plan keeps; an end of None is still open."""
    history = json.loads(kept).get("history") or ()
    found = []
    for entry, after in zip(history, [*history[1:], {}], strict=True):
        begin = parse_time(entry.get("time"))
        if begin is not None and entry.get("state") == State.HELD and entry.get("reason") in BY_CHOICE:
            found.append((begin, parse_time(after.get("time"))))
    return tuple(found)
