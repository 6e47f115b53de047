# SPDX-License-Identifier: Apache-2.0
"""Everything that is known about one zone in one interval: what an account is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from embellie.accounting.overhead import OverheadModel
from embellie.domain.reasons import SignalKind

NO_ZONE = "(no zone)"
"""Where nodes count that no GridZone selects; no GridZone can have this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Samples of one meter: instants [s since the epoch, operator's clock] and values."""

    at_s: Sequence[float] = ()
    values: Sequence[float] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMeter:
    """One GPU: its energy counter [J] or its power [W], and which gangs held it at each sample, with their weights."""

    node: str
    samples: Samples
    counter: bool
    holders: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One node."""

    name: str
    gpus: int
    idle_w: float
    gpu_idle_w: float
    host_share: float
    product: str = ""
    power: Samples = Samples()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """Pods of one gang on one node; seconds since the epoch, operator's clock."""

    node: str
    gpus: int
    start_s: float
    end_s: float
    """Infinite while they are there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """A gang that held GPUs in the interval."""

    uid: str
    namespace: str
    name: str
    kind: str = "Job"
    team: str = ""
    stays: tuple[Stay, ...]
    watts_per_gpu: float
    """What one of its GPUs is taken to draw where nothing measures it [W]."""
    cpu: Mapping[str, tuple[Samples, ...]] = field(default_factory=dict)
    """Node -> energy counters of its pods' processors there [J]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Solar panels or wind turbines behind the zone's own meter."""

    name: str
    kind: str
    """Solar or Wind."""
    peak_kw: float
    meter: Samples = Samples()
    """What it delivers [W]."""
    unread: str = ""
    """Why it has no meter that could count; empty where it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The carbon intensity of the interval by one kind of signal."""

    kind: SignalKind
    g_per_kwh: float
    quality: str
    """`measured`, or `estimated` (a forecast's present hour, or a value that its source flags)."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What electricity cost in the interval."""

    per_mwh: float
    """Price [currency/MWh]; below zero is a price too."""
    currency: str
    """ISO 4217."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneInterval:
    """Everything that is known about one zone in one interval."""

    zone: str
    start: datetime
    end: datetime
    machines: tuple[Machine, ...]
    gpus: tuple[GpuMeter, ...]
    gangs: tuple[Gang, ...]
    meter: Samples = Samples()
    """Power at the zone's meter [W]."""
    ambient_c: float | None = None
    overhead: OverheadModel = field(default_factory=OverheadModel)
    prices: tuple[Price, ...] = ()
    tariff: Tariff | None = None
    plants: tuple[Plant, ...] = ()
