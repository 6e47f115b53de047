# SPDX-License-Identifier: Apache-2.0
"""What the live view shows at one instant: plain values, gathered by the observer and drawn by the view.

Nothing here knows Kubernetes or rich, so that the view is tested without a cluster and the cluster without a view.
"""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hour:
    """One past hour of a grid, as it really was."""

    start: datetime
    carbon_g_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastHour:
    """One coming hour of a grid, as the forecast sees it."""

    start: datetime
    low_g_per_kwh: float
    median_g_per_kwh: float
    high_g_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ZonePicture:
    """One grid zone."""

    name: str
    place: str
    carbon_g_per_kwh: float
    ambient_c: float
    past: tuple[Hour, ...]
    forecast: tuple[ForecastHour, ...] = ()
    rung: str = ""
    renewable_percent: int | None = None
    power_kw: float | None = None
    contracted_kw: float = 0.0
    power_history_kw: tuple[float, ...] = ()
    gpus: int = 0
    gpus_flexible: int = 0
    """GPUs that labelled work runs on."""
    gpus_other: int = 0
    """GPUs that rigid and unlabelled work runs on."""
    gpus_planned: int = 0
    """GPUs of held work that is planned to start here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPicture:
    """One thermal zone."""

    name: str
    inlet_c: float | None
    limit_c: float
    margin_k: float
    inlet_history_c: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPicture:
    """One held workload."""

    name: str
    flex: str
    gpus: int
    zone: str
    planned_start: datetime | None
    latest_start: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One decision, in words."""

    when: datetime
    workload: str
    state: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """How many jobs are where."""

    of_all: int
    submitted: int = 0
    held: int = 0
    queued: int = 0
    running: int = 0
    finished: int = 0
    past_bound: int = 0
    over_limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Everything the view draws."""

    now: datetime
    begin: datetime
    end_of_arrivals: datetime
    factor: float
    zones: tuple[ZonePicture, ...]
    rows: tuple[RowPicture, ...]
    held: tuple[HeldPicture, ...] = ()
    said: tuple[Said, ...] = ()
    counters: Counters = field(default_factory=lambda: Counters(of_all=0))
    note: str = ""
    """What the demo is doing besides: `arrivals have ended, draining`."""
