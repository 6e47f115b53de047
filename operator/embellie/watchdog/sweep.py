# SPDX-License-Identifier: Apache-2.0
"""Release everything that is held: earliest latest start first, in pace, until nothing is left.

A sweep may be run by anybody at any time: each patch is guarded by a fresh read, so two sweeps side by side, or a
sweep beside a live operator, release nothing twice.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from embellie.watchdog import names
from embellie.watchdog.api import Api, ApiError, NoAnswerError, Object, UnreachableError, parse_time
from embellie.watchdog.events import tell
from embellie.watchdog.log import log
from embellie.watchdog.release import JOB, POD, Held, now_rfc3339, release_patch

MINIMUM_RATE_PER_SECOND = 5.0
WRITERS = 4
SPREAD = 0.85
"""The part of the time that the planned pace takes; the rest is for conflicts and late comers."""
EMPTY_LISTS = 2
"""Creations race the switch: one empty list does not prove that nothing comes any more."""
BETWEEN_LISTS_SECONDS = 1.0
LONGEST_BACK_OFF_SECONDS = 10.0

_NEVER = datetime.max.replace(tzinfo=UTC)
_SELECTOR = f"{names.HELD_LABEL}=true"


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a sweep has done so far."""

    released: int = 0
    empty_lists: int = 0
    left: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @property
    def clean(self) -> bool:
        """Whether enough consecutive lists were empty."""
        return self.empty_lists >= EMPTY_LISTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How a sweep is to be made.

    `keep_going` is asked before each release; `stop` ends every wait at once.
    """

    reason: str
    identity: str
    release_seconds: float
    event_reason: str = names.EVENT_REASON
    note: str = "Released, because the operator is gone: it may start now, wherever its own constraints allow."
    keep_going: Callable[[], bool] = lambda: True
    on_release: Callable[[Held], None] = lambda _held: None
    stop: threading.Event = field(default_factory=threading.Event)


def list_held(api: Api) -> list[Held]:
    """Return everything that carries the marker, in all namespaces."""
    jobs = api.list("/apis/batch/v1/jobs", labelSelector=_SELECTOR)
    pods = api.list("/api/v1/pods", labelSelector=_SELECTOR)
    return [Held(kind=JOB, obj=j) for j in jobs] + [Held(kind=POD, obj=p) for p in pods]


def latest_starts(api: Api) -> dict[str, datetime]:
    """Return uid -> latest start from the WorkloadPlans; empty where they cannot be read."""
    try:
        plans = api.list(f"/apis/{names.GROUP}/{names.VERSION}/workloadplans")
    except ApiError as error:  # the order is a courtesy, the release is the promise
        log("plans-unreadable", error=str(error))
        return {}
    found: dict[str, datetime] = {}
    for plan in plans:
        spec = plan.get("spec") or {}
        uid, latest = (spec.get("workloadRef") or {}).get("uid"), parse_time(spec.get("latestStartTime"))
        if uid and latest:
            found[str(uid)] = latest
    return found


def in_order(held: Iterable[Held], latest: Mapping[str, datetime]) -> list[Held]:
    """Sort: without a plan first, by creation (the API server writes it in UTC); then by latest start."""
    return sorted(held, key=lambda h: (h.uid in latest, latest.get(h.uid, _NEVER), h.created, h.namespace, h.name))


def rate_per_second(count: int, seconds_left: float) -> float:
    """Return the pace that brings `count` releases out within `seconds_left`, and never less than the minimum."""
    return max(count / max(seconds_left * SPREAD, 1.0), MINIMUM_RATE_PER_SECOND)


def grid_zones(api: Api, held: Iterable[Held]) -> list[Object] | None:
    """Return the GridZones if any of the workloads must stay somewhere; None where they cannot be read.

    Raises ApiError where they could be a little later.
    """
    if not any(h.residency for h in held):
        return None
    try:
        return api.list(f"/apis/{names.GROUP}/{names.VERSION}/gridzones")
    except ApiError as error:
        log("gridzones-unreadable", error=str(error))
        if error.transient:
            raise
        return None


def sweep(api: Api, order: Order, *, give_up_after_seconds: float | None = None) -> Progress:
    """Release until consecutive lists are empty, `keep_going` says no, or the time is up.

    An API server that is away or overloaded is waited for; that is why only the caller's limit ends a sweep early.
    """
    begun = time.monotonic()
    progress = Progress()
    back_off = BETWEEN_LISTS_SECONDS

    def going() -> bool:
        expired = give_up_after_seconds is not None and time.monotonic() - begun > give_up_after_seconds
        return not expired and not order.stop.is_set() and order.keep_going()

    while going():
        try:
            held = list_held(api)
            progress.left = len(held)
            progress.empty_lists = 0 if held else progress.empty_lists + 1
            if progress.clean:
                break
            before = progress.released
            if held:
                seconds_left = order.release_seconds - (time.monotonic() - begun)
                _release_all(api, order, held, max(seconds_left, 1.0), progress, going)
            moved = not held or progress.released > before
        except (ApiError, UnreachableError) as error:
            log("sweep-waits", error=str(error))
            moved = False
        back_off = BETWEEN_LISTS_SECONDS if moved else min(back_off * 2, LONGEST_BACK_OFF_SECONDS)
        order.stop.wait(back_off)
    return progress


def _release_all(
    api: Api, order: Order, held: list[Held], seconds_left: float, progress: Progress, going: Callable[[], bool]
) -> None:
    """Release one list of workloads in pace. Raises UnreachableError when the API server goes away."""
    try:
        zones = grid_zones(api, held)
    except ApiError as error:
        # Released without them it would stay Pending for good: it waits for the next list, and nobody waits for it.
        progress.failures[f"GridZones: {error.message}"[:120]] += 1
        zones, held = None, [h for h in held if not h.residency]
    queue = in_order(held, latest_starts(api))
    rate = rate_per_second(len(queue), seconds_left)
    log("sweep", held=len(queue), rate_per_second=round(rate, 2), reason=order.reason)
    begun = time.monotonic()
    unreachable = threading.Event()
    free = threading.Semaphore(WRITERS)

    def one(workload: Held) -> bool:
        try:
            return release_one(api, order, workload, zones, progress.failures)
        except UnreachableError as error:
            log("release-failed", workload=workload.label, error=str(error))
            if isinstance(error, NoAnswerError):
                progress.failures["the API server gave no answer"] += 1
            else:
                unreachable.set()
            return False
        finally:
            free.release()

    with ThreadPoolExecutor(max_workers=WRITERS, thread_name_prefix="release") as writers:
        running: list[Future[bool]] = []
        for index, workload in enumerate(queue):
            if order.stop.wait(max(0.0, begun + index / rate - time.monotonic())):
                break
            free.acquire()  # nothing is queued, so that a heartbeat that comes back stops the next release
            if unreachable.is_set() or not going():
                free.release()
                break
            running.append(writers.submit(one, workload))
    progress.released += sum(f.result() for f in running)
    if unreachable.is_set():
        raise UnreachableError("the API server went away in the middle of a sweep")


def release_one(
    api: Api, order: Order, workload: Held, zones: list[Object] | None, failures: Counter[str] | None = None
) -> bool:
    """Release one workload; return whether it was us. A lost race is none: the next list shows what is left."""
    annotations = {names.RELEASED_AT: now_rfc3339(), names.RELEASE_REASON: order.reason}
    try:
        api.json_patch(workload.path, release_patch(workload, annotations, zones))
    except ApiError as error:
        if error.status != 404:
            log("release-failed", workload=workload.label, error=str(error))
        if failures is not None and error.status != 404 and not error.conflict:
            failures[str(error.message)[:120]] += 1
        return False
    log("released", workload=workload.label, uid=workload.uid, reason=order.reason)
    order.on_release(workload)
    note = (
        f"Left to the Kueue queue {workload.queue[:80]}, which decides when and where it starts."
        if workload.queue
        else order.note
    )
    tell(api, workload, reason=order.event_reason, note=note, identity=order.identity)
    return True
