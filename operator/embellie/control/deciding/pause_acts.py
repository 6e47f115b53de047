# SPDX-License-Identifier: Apache-2.0
"""What a turn may do about pauses, as plain values."""

from dataclasses import dataclass
from datetime import timedelta

from embellie.cluster.records import PodRecord, WorkloadRecord
from embellie.domain.snapshot import WorkloadKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Tell a Job and those of its pods that listen that it is paused when a checkpoint has had its time."""

    key: WorkloadKey
    takes: timedelta
    listeners: tuple[PodRecord, ...]
    """Those that have not heard of it."""
    told: tuple[PodRecord, ...] = ()
    """Those that heard of it in an earlier turn, which did not suffice for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reminder:
    """Tell pods that came, or listen, only since their Job was told."""

    key: WorkloadKey
    announced: str
    listeners: tuple[PodRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """Take an announcement back."""

    key: WorkloadKey
    listeners: tuple[PodRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """Suspend a Job whose announcement is acknowledged or over."""

    key: WorkloadKey
    announced: str
    acknowledged: bool
    cell: str
    """Where it runs, so that it goes on there; empty where it runs in none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """Let a paused Job go on, where it ran."""

    record: WorkloadRecord
    cell: str
    """Empty where what is noted lies outside of its border."""
    why: str
    may_roam: bool
    """Whether it may go on elsewhere rather than not at all: its pause is over, and it is bound to no border."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """What a turn does about pauses."""

    announce: tuple[Announcement, ...] = ()
    remind: tuple[Reminder, ...] = ()
    suspend: tuple[Suspension, ...] = ()
    withdraw: tuple[Withdrawal, ...] = ()
    resume: tuple[Resumption, ...] = ()
    standing: tuple[WorkloadRecord, ...] = ()
    """Jobs that stay paused."""
    under_way: frozenset[str] = frozenset()
    """uids of what stays paused or is told to pause; whatever else heat asked for will not come."""
