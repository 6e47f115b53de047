# SPDX-License-Identifier: Apache-2.0
"""The catalogue of Events: one constructor for each, so that no reason or sentence is made up on the spot."""

from datetime import datetime

from embellie.cluster.events import Event, EventType
from embellie.domain import names
from embellie.domain.snapshot import WorkloadKey
from embellie.domain.times import format_time

HELD = "Held"


def held(key: WorkloadKey, message: str) -> Event:
    """A workload waits; the message names its bound."""
    return Event(regarding=key, reason=HELD, action="Hold", note=message)


def would_hold(key: WorkloadKey, message: str) -> Event:
    """A policy in shadow mode would have held a workload."""
    return Event(regarding=key, reason="WouldHold", action="Observe", note=message)


def released(key: WorkloadKey, reason: str, message: str) -> Event:
    """A workload was let go."""
    return Event(regarding=key, reason="Released", action="Release", note=message, sameness=reason)


def held_by_limit(key: WorkloadKey, message: str) -> Event:
    """A workload is past its bound, and a fresh reading stands over a hard limit."""
    return Event(regarding=key, type=EventType.WARNING, reason="HeldByLimit", action="Hold", note=message)


def plan_refused(key: WorkloadKey, message: str) -> Event:
    """A workload has no WorkloadPlan, because a quota or an admission policy refuses it."""
    return Event(
        regarding=key,
        type=EventType.WARNING,
        reason=names.PLAN_REFUSED,
        action="Record",
        note=f"Its WorkloadPlan was refused and is tried again: {message}",
    )


def handed_off(key: WorkloadKey, message: str) -> Event:
    """Somebody else decides about a workload that we held."""
    return Event(regarding=key, reason="HandedOff", action="HandOff", note=message)


def release_failed(key: WorkloadKey, message: str) -> Event:
    """A release was refused by RBAC or an admission policy."""
    return Event(
        regarding=key,
        type=EventType.WARNING,
        reason="ReleaseFailed",
        action="Release",
        note=f"The release was refused and is tried again: {message}",
    )


def invalid_annotation(key: WorkloadKey, annotation: str, problem: str) -> Event:
    """An annotation cannot be read."""
    return Event(
        regarding=key,
        type=EventType.WARNING,
        reason="InvalidAnnotation",
        action="Read",
        note=f"{annotation}: {problem}",
        sameness=annotation,
    )


def deadline_moved_back(key: WorkloadKey, wanted: datetime, kept: datetime) -> Event:
    """An edit would have moved the latest start to a later time."""
    return Event(
        regarding=key,
        type=EventType.WARNING,
        reason=names.DEADLINE_MOVED_BACK,
        action="KeepBound",
        note=f"The latest start only ever moves earlier: {kept:%Y-%m-%d %H:%M} UTC stays, {wanted:%Y-%m-%d %H:%M} UTC "
        "is refused. To wait longer, create the workload again.",
        sameness=format_time(wanted),
    )


def pause_announced(key: WorkloadKey, by: datetime) -> Event:
    """A running Job shall write its checkpoint."""
    return Event(
        regarding=key,
        reason="PauseAnnounced",
        action="Announce",
        note=f"Its thermal zone has to make less heat: it is paused once its checkpoint is acknowledged (copy the "
        f"annotation {names.PAUSE_BY} to {names.CHECKPOINTED}), at the latest {format_time(by)}.",
        sameness=format_time(by),
    )


def pause_withdrawn(key: WorkloadKey) -> Event:
    """The zone has cooled before the pause came."""
    return Event(
        regarding=key,
        reason="PauseWithdrawn",
        action="Withdraw",
        note="Its thermal zone has cooled; it goes on without a pause.",
    )


def paused(key: WorkloadKey, message: str, *, acknowledged: bool) -> Event:
    """A running Job was suspended."""
    word = "after its checkpoint was acknowledged" if acknowledged else "without an acknowledged checkpoint"
    return Event(
        regarding=key,
        type=EventType.NORMAL if acknowledged else EventType.WARNING,
        reason="Paused",
        action="Pause",
        note=f"{message} It was suspended {word}.",
        sameness=message,
    )
