# SPDX-License-Identifier: Apache-2.0
"""What happens in the demo: where, when, and which jobs. Everything is drawn from one seed.

Two days of a real trace of training jobs are set into the western heat wave of June 2021: afternoons of 30 degC, the
mean over California, and evenings on which its grid goes from 140 to 350 g/kWh within hours. The trace says when a job
came, how long it ran and on how many GPUs; nobody published how long its user would have waited, so patience is drawn
here:

====== ============ ========================================================================================
share  label        patience
====== ============ ========================================================================================
70 %   patient      may wait 6, 8, 12 or 16 hours, evenly, said in its annotation `embellie.io/max-delay`
10 %   bonus        may wait 20 hours (the policy's bound)
5 %    rigid        must start at once, and says so
15 %   (none)       never heard of Embellie
====== ============ ========================================================================================

A user states a duration (`embellie.io/duration`) that lies above the real one in nine cases of ten: log-normal around
1.45 times the real duration, rounded up to a quarter of an hour. Three of ten users state nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from statistics import fmean

import numpy as np

from embellie.simulation import TraceJob, sample_trace, shape

NODES_PER_ZONE, GPUS_PER_NODE = 16, 8
GPUS = 2 * NODES_PER_ZONE * GPUS_PER_NODE

BEGIN = datetime(2021, 6, 18, 12, tzinfo=UTC)
"""Five in the morning in California, before the first of the two hot afternoons."""
ARRIVALS = timedelta(hours=48)
TARGET_UTILISATION = 0.55
LONGEST = timedelta(hours=24)
"""Longer jobs are left out: they would outlast the demo."""
TRACE_START = timedelta(days=2, hours=12)
"""Where the two days begin in the carried week: at a noon (UTC), as the demo does, so that the hour of day is kept."""

MAX_DELAYS = tuple(timedelta(hours=hours) for hours in (6, 8, 12, 16))
BONUS_MAX_DELAY = timedelta(hours=20)
_SHARES = (("patient", 0.7), ("bonus", 0.1), ("rigid", 0.05), ("", 0.15))


class Flex(StrEnum):
    """How a job of the demo opted in."""

    PATIENT = "patient"
    BONUS = "bonus"
    RIGID = "rigid"
    UNLABELLED = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneSite:
    """One zone: which grid, and what its site draws and may draw."""

    name: str
    region: str
    place: str
    jurisdiction: str
    latitude_millidegrees: int
    longitude_millidegrees: int
    contracted_kw: int
    pue: float = 1.08
    """As its engineer reads it off the zone's meter and the nodes' own."""
    node_idle_watts: int = 3200
    gpu_idle_watts: int = 140
    gpu_rated_watts: int = 700
    host_overhead_percent: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of racks: a thermal zone. What is here is what its engineer measured at full load and tells the operator.

    inlet = supply + rise x power, supply = max(setpoint, outside + approach). The simulated room knows nothing of these
    figures: its rows are halls of the plant, `hall` says in what they differ from the usual one.

    The limit is the upper end of ASHRAE's allowable range for class A2 servers (35 degC); evaporative cooling brings
    the supply down to the outside temperature and no further. The second row of each zone has the worse containment.
    """

    name: str
    zone: str
    rise_mk_per_kw: int
    inlet_limit_c: int = 35
    margin_k: int = 1
    setpoint_c: int = 22
    supply_worst_c: int = 33
    approach_k: int = 0
    hall: Mapping[str, float] = field(default_factory=dict)


WEST = ZoneSite(
    name="west", region="US-CISO", place="California, US-CISO", jurisdiction="US-CA",
    latitude_millidegrees=36_800, longitude_millidegrees=-119_800, contracted_kw=150,
)  # fmt: skip
EAST = ZoneSite(
    name="east", region="US-PJM", place="Mid-Atlantic, US-PJM", jurisdiction="US-VA",
    latitude_millidegrees=39_000, longitude_millidegrees=-77_500, contracted_kw=150,
)  # fmt: skip
ZONES = (WEST, EAST)
ROWS = tuple(
    Row(name=f"{site.name}-r{number}", zone=site.name, rise_mk_per_kw=rise, hall={"recirculation_share": share})
    for site in ZONES
    for number, rise, share in ((1, 40, 0.13), (2, 70, 0.22))
)


def sites() -> dict[str, ZoneSite]:
    """Return the zones by name."""
    return {site.name: site for site in ZONES}


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoJob:
    """One job as it will be submitted. Times are of the replayed clock."""

    name: str
    submit: datetime
    duration: timedelta
    gpus: int
    flex: Flex
    max_delay: timedelta | None
    """How long it may be held; None where it may not."""
    stated_duration: timedelta | None
    watts_per_gpu: int

    @property
    def pods(self) -> int:
        """Pods of the gang: whole nodes for the big ones."""
        return shape(self.gpus, GPUS_PER_NODE)[0]

    @property
    def gpus_per_pod(self) -> int:
        """GPUs of each pod."""
        return shape(self.gpus, GPUS_PER_NODE)[1]

    @property
    def labelled(self) -> bool:
        """True where the job opted in, whatever it asked for."""
        return self.flex is not Flex.UNLABELLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The whole demo."""

    seed: int
    begin: datetime
    arrivals: timedelta
    jobs: tuple[DemoJob, ...]
    utilisation: float
    """Share of all GPU hours of the two days that the jobs would fill if each started when it came."""
    left_out: int
    """Jobs of the trace's two days that were longer than a day."""
    not_drawn: int
    """Jobs of the trace's two days that the wanted utilisation left no room for."""
    mean_lag_s: float = 0.0
    """How much later than in the trace jobs came [s of the replayed clock]: a busy machine submits them late."""

    @property
    def end_of_arrivals(self) -> datetime:
        """When the last job has come."""
        return self.begin + self.arrivals

    def as_it_came(self, submitted: Mapping[str, datetime]) -> "Scenario":
        """Return the jobs that were submitted, each from when it really was."""
        there = [job for job in self.jobs if job.name in submitted]
        lags_s = [(submitted[job.name] - job.submit).total_seconds() for job in there]
        return replace(
            self,
            jobs=tuple(replace(job, submit=submitted[job.name]) for job in there),
            mean_lag_s=fmean(lags_s) if lags_s else 0.0,
        )


def build(trace: Sequence[TraceJob], *, seed: int = 1) -> Scenario:
    """Draw the demo's jobs from the trace."""
    first_s, window_s = TRACE_START.total_seconds(), ARRIVALS.total_seconds()
    longest_s = LONGEST.total_seconds()
    sampled = sample_trace(
        trace,
        gpus=GPUS,
        utilisation=TARGET_UTILISATION,
        start_s=first_s,
        window_s=window_s,
        max_duration_s=longest_s,
        seed=f"demo-{seed}",
    )
    window = [job for job in trace if first_s <= job.submit_s < first_s + window_s]
    fitting = sum(1 for job in window if job.duration_s <= longest_s)
    rng = np.random.default_rng(seed)
    return Scenario(
        seed=seed,
        begin=BEGIN,
        arrivals=ARRIVALS,
        jobs=tuple(_dress(job, BEGIN + timedelta(seconds=job.submit_s), rng) for job in sampled.jobs),
        utilisation=sampled.utilisation,
        left_out=len(window) - fitting,
        not_drawn=fitting - len(sampled.jobs),
    )


def _dress(job: TraceJob, submit: datetime, rng: np.random.Generator) -> DemoJob:
    """Give a job of the trace what the trace does not know: patience, a stated duration, watts."""
    names = [name for name, _ in _SHARES]
    flex = Flex(str(rng.choice(names, p=[share for _, share in _SHARES])))
    patience = MAX_DELAYS[int(rng.integers(len(MAX_DELAYS)))]
    overstated = float(rng.lognormal(mean=math.log(1.45), sigma=0.29))
    states_nothing = bool(rng.random() < 0.3)
    watts = int(rng.choice((600, 640, 670, 690)))
    quarter = 900
    stated = timedelta(seconds=quarter * math.ceil(job.duration_s * overstated / quarter))
    held_at_most = {Flex.PATIENT: patience, Flex.BONUS: BONUS_MAX_DELAY}.get(flex)
    return DemoJob(
        name=job.id, submit=submit, duration=timedelta(seconds=job.duration_s), gpus=job.gpus, flex=flex,
        max_delay=held_at_most, watts_per_gpu=watts,
        stated_duration=None if states_nothing or flex is Flex.UNLABELLED else stated,
    )  # fmt: skip
