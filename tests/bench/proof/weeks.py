# SPDX-License-Identifier: Apache-2.0
"""Weeks of a cluster whose true power, durations and grid the accounting does not see.

What is hidden: each job's power, what it would have drawn and how long it would have run at another time, the overhead
of the building (it rises with the heat), and the grid's true intensity. What is seen: when jobs came, began and ended,
a metered power per job that is a few per cent off, a stated PUE, and the published intensity.

The schedule that was comes from the product's planner and shield, turn by turn, by forecasts with errors and lengths
that were told wrongly. It looks at new work every three hours, not within seconds as the operator does: otherwise
hundreds of weeks would take hours.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from planned.model import PlannedJob, PlannedSite, PlannedZone
from planned.replay import simulate_planned

from embellie.accounting import Run, Signal
from embellie.accounting.curves import power_curve
from embellie.accounting.draws import Uncertainty, Window, intensities
from embellie.accounting.onsite import OnSite
from embellie.accounting.ranges import Range
from embellie.accounting.savings import Savings, savings
from embellie.domain.forecast import FloatArray, Forecast
from embellie.domain.onsite import G_PER_KWH
from embellie.domain.reasons import Rung, SignalKind
from embellie.domain.snapshot import Flex
from embellie.simulation import SimCell, SimSite, TraceJob, sample_trace, shape, simulate
from embellie.simulation.counterfactual import Observed, replay_counterfactual
from proof.past import past, trace

REGIONS = ("US-CISO", "US-PJM")
NODES_PER_ZONE = 4
GPUS = 2 * NODES_PER_ZONE * 8
WEEK = timedelta(days=7)
SPAN_HOURS = 24 * 45
LOADS = {"half-empty": 0.5, "full": 0.95, "saturated": 1.5, "sunny half-empty": 0.5, "sunny full": 0.95}
"""GPU-hours that come, of those that there are. In sunny weeks each zone has a roof behind its meter."""
ROOF_KW = 45.0
"""At noon more than a zone draws with no work (15 kW), and now and then more than with all its work."""
STATED_PUE = 1.2
TRUTHS = 16
"""Worlds in which a week that ends is looked at: its plan and its arrivals are one, what is hidden differs.

A saturated one, which goes on when it is reported, is looked at in one."""
HOUR = timedelta(hours=1)
TURN = timedelta(hours=3)
FORECAST_ERROR = 0.07
"""Standard deviation of the forecast's relative error of an hour, drawn anew each day."""
TOLD_LENGTH_ERROR = 0.25
"""Standard deviation of the logarithm of told over true length."""
SPREAD = 1.2816 * FORECAST_ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One week: what was true and what the accounting said."""

    truths_g: tuple[float, ...]
    """What was truly saved; where there are several, in as many worlds that all look the same to the accounting."""
    said: Range
    base_g: float
    jobs: int
    by_hours_g: float = 0.0
    """What other hours within the week truly saved, whatever was moved between zones or left to do."""

    @property
    def truth_g(self) -> float:
        """The truth, of several the first."""
        return self.truths_g[0]

    @property
    def covered(self) -> bool:
        """Whether the interval holds the truth."""
        return self.said.low <= self.truth_g <= self.said.high

    @property
    def share_covered(self) -> float:
        """Which share of the truths the interval holds."""
        return float(np.mean([self.said.low <= truth <= self.said.high for truth in self.truths_g]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Week:
    """What came, and what ran."""

    begin: datetime
    published: Mapping[str, Signal]
    ambient: Mapping[str, FloatArray]
    jobs: Sequence[PlannedJob]
    site: PlannedSite
    ours: tuple[Run, ...]
    roofs: OnSite | None
    """What its zones' roofs delivered by their meters, hour by hour from `begin` on."""


def _week(rng: np.random.Generator, seed: int, load: str) -> _Week:
    begin = _begin(rng)
    published, ambient = published_in(begin)
    jobs = jobs_of(rng, begin, LOADS[load], seed)
    site = site_on(published)
    ours = planned(rng, jobs, site, published, begin)
    roofs = _roofs(begin) if load.startswith("sunny") else None
    return _Week(begin=begin, published=published, ambient=ambient, jobs=jobs, site=site, ours=ours, roofs=roofs)


def draw(seed: int, load: str) -> Outcome:
    """Make a week of a load."""
    return _draw_saturated_week(seed) if load == "saturated" else _draw_week(seed, load)


def _draw_week(seed: int, load: str) -> Outcome:
    """Make a week, let it happen, and let the accounting look at what it may see of it, to the end of the last job.

    What is hidden is drawn `TRUTHS` times: that tells what an interval holds with much less luck than one world.
    """
    rng = np.random.default_rng(seed)
    week = _week(rng, seed, load)
    worlds = []
    for of_world in (rng, *(np.random.default_rng([seed, k]) for k in range(1, TRUTHS))):
        truth = _Truth(of_world, week.site, week.published, week.ambient, week.roofs)
        worlds.append((truth, simulate(truth.elsewhen(week.jobs), week.site).runs))
    end = max(run.end for runs in (week.ours, *(fifo for _, fifo in worlds)) for run in runs)
    base_g = [truth.grams(fifo, week.begin, end) for truth, fifo in worlds]
    truths_g = [base - truth.grams(week.ours, week.begin, end) for base, (truth, _) in zip(base_g, worlds, strict=True)]
    said = account(week.ours, week.site, week.published, week.begin, end, rng, seed, roofs=week.roofs)
    return Outcome(truths_g=tuple(truths_g), said=said.saved_g, base_g=base_g[0], jobs=len(week.jobs))


def _draw_saturated_week(seed: int) -> Outcome:
    """Make a week in which half as much work again came as there is room for.

    The report ends with the week: it has not seen the end of what runs then, and of what waits only what was told. The
    truth goes on until all work is done, either way.
    """
    rng = np.random.default_rng(seed)
    week = _week(rng, seed, "saturated")
    end = week.begin + WEEK
    said = account(week.ours, week.site, week.published, week.begin, end, rng, seed)
    truth = _Truth(rng, week.site, week.published, week.ambient)
    true_fifo = simulate(truth.elsewhen(week.jobs), week.site).runs
    last = max(run.end for run in (*week.ours, *true_fifo))
    truth_g = truth.grams(true_fifo, week.begin, last) - truth.grams(week.ours, week.begin, last)
    base_g = truth.grams(true_fifo, week.begin, end)
    by_hours_g = truth.by_hours(true_fifo, week.begin, end) - truth.by_hours(week.ours, week.begin, end)
    return Outcome(truths_g=(truth_g,), said=said.saved_g, base_g=base_g, jobs=len(week.jobs), by_hours_g=by_hours_g)


def account(
    ours: Sequence[Run],
    site: SimSite,
    published: Mapping[str, Signal],
    begin: datetime,
    end: datetime,
    rng: np.random.Generator,
    seed: int,
    uncertainty: Uncertainty | None = None,
    roofs: OnSite | None = None,
) -> Savings:
    """Do what a report does, with what may be seen."""
    unsure = uncertainty or Uncertainty()
    metered = np.exp(0.03 * rng.standard_normal(len(ours)))
    metered_runs = [
        replace(run, start=_scraped(run.start), end=_scraped(run.end), power_kw=run.power_kw * float(off))
        for run, off in zip(ours, metered, strict=True)
    ]
    window = whole_hours(begin, end)
    seen = [_seen(run, window.end, seed) for run in metered_runs if run.submitted_at < window.end]
    replayed = replay_counterfactual(seen, site, window, uncertainty=unsure, seed=seed)
    ci = intensities(published, site.zone_powers(), window)
    own = None if roofs is None else _first(roofs, window.slots)
    return savings(replayed.draws, ci, SignalKind.AVERAGE_LIFECYCLE, uncertainty=unsure, seed=seed, on_site=own)


def _first(roofs: OnSite, hours: int) -> OnSite:
    return OnSite(kwh=roofs.kwh[:, :hours], g_per_kwh=roofs.g_per_kwh[:, :hours])


def _seen(run: Run, until: datetime, seed: int) -> Observed:
    """Return a run as a report sees it that ends at an instant."""
    if run.end <= until:
        return Observed(run=run)
    if run.start < until:
        so_far = until - run.start
        return Observed(run=replace(run, end=until + so_far), so_far_s=so_far.total_seconds())
    # It waits, and its length is what was told.
    told = np.exp(TOLD_LENGTH_ERROR * np.random.default_rng([seed, *run.job.encode()]).standard_normal())
    start = max(until, run.latest_start or until)
    return Observed(run=replace(run, start=start, end=start + (run.end - run.start) * float(told)), so_far_s=0.0)


def whole_hours(start: datetime, end: datetime) -> Window:
    """Return the hours that cover a stretch of time."""
    first = start.replace(minute=0, second=0, microsecond=0)
    slots = -((first - end) // timedelta(hours=1))
    return Window(start=first, step=timedelta(hours=1), slots=max(1, slots))


def _scraped(moment: datetime) -> datetime:
    """Round up to the scrape that would have shown it."""
    return datetime.fromtimestamp(-(-moment.timestamp() // 15) * 15, UTC)


def _begin(rng: np.random.Generator) -> datetime:
    last = min(past(region).first_hour + past(region).ci.size for region in REGIONS) - SPAN_HOURS
    start = max(past(region).first_hour for region in REGIONS)
    hour = int(rng.integers(start, last))
    return datetime.fromtimestamp(hour * 3600, UTC)


def _hour(moment: datetime) -> int:
    return int(moment.timestamp()) // 3600


def published_in(begin: datetime) -> tuple[dict[str, Signal], dict[str, FloatArray]]:
    signals, ambient = {}, {}
    for region in REGIONS:
        hours, part = past(region), _part(region, begin)
        signals[region] = Signal(start=begin, step=HOUR, values=hours.ci[part], kind=SignalKind.AVERAGE_LIFECYCLE)
        ambient[region] = hours.ambient_c[part]
    return signals, ambient


def _part(region: str, begin: datetime) -> slice:
    first = _hour(begin) - past(region).first_hour
    return slice(first, first + SPAN_HOURS)


def _roofs(begin: datetime) -> OnSite:
    kwh = ROOF_KW * np.stack([past(region).sun[_part(region, begin)] for region in REGIONS])
    return OnSite(kwh=kwh, g_per_kwh=np.full_like(kwh, G_PER_KWH[SignalKind.AVERAGE_LIFECYCLE]["Solar"]))


def site_on(published: Mapping[str, Signal]) -> PlannedSite:
    return PlannedSite(
        cells=tuple(SimCell(name=r, grid_zone=r, nodes=NODES_PER_ZONE, pue=STATED_PUE) for r in REGIONS),
        grid_zones=tuple(PlannedZone(name=r, signal=published[r]) for r in REGIONS),
    )


def jobs_of(rng: np.random.Generator, begin: datetime, load: float, seed: int) -> list[PlannedJob]:
    rows = trace()
    last_s = max(job.submit_s for job in rows)
    start_s = float(rng.uniform(0.0, max(0.0, last_s - WEEK.total_seconds())))
    found: list[PlannedJob] = []
    share = min(load, 1.0)
    # Above a load of one, a second draw comes on top of the first.
    for part in range(1 if load <= 1.0 else 2):
        sampled = sample_trace(
            rows, gpus=GPUS, utilisation=share if part == 0 else min(1.0, load - 1.0), start_s=start_s,
            window_s=WEEK.total_seconds(), max_gpus=16, max_duration_s=48 * 3600.0, seed=f"week-{seed}-{part}",
        )  # fmt: skip
        found += [_job(job, f"{job.id}-{part}", begin, rng) for job in sampled.jobs]
    return found


def _job(job: TraceJob, name: str, begin: datetime, rng: np.random.Generator) -> PlannedJob:
    pods, gpus_per_pod = shape(job.gpus)
    submit = begin + timedelta(seconds=job.submit_s)
    power_kw = job.gpus * float(rng.uniform(0.25, 0.6))
    return PlannedJob(
        id=name, submit=submit, duration_s=job.duration_s, pods=pods, gpus_per_pod=gpus_per_pod,
        power_kw=power_kw, worst_power_kw=power_kw, latest_start=submit,
    )  # fmt: skip


def planned(
    rng: np.random.Generator,
    jobs: Sequence[PlannedJob],
    site: PlannedSite,
    published: Mapping[str, Signal],
    begin: datetime,
) -> tuple[Run, ...]:
    """Return the schedule that the planner makes: three jobs in ten may not wait, the others 6 to 16 hours."""
    came = {job.id: job for job in jobs}
    seen = []
    for job in jobs:
        patience = int(rng.choice((0, 6, 8, 12, 16), p=(0.3, 0.175, 0.175, 0.175, 0.175)))
        told_s = job.duration_s * float(np.exp(TOLD_LENGTH_ERROR * rng.standard_normal()))
        looked = begin - -(job.submit - begin) // TURN * TURN
        as_told = replace(job, flex=Flex.RIGID, expected_duration_s=told_s)
        if patience:
            bound = max(job.submit + HOUR * patience, looked)
            as_told = replace(as_told, submit=looked, latest_start=bound, flex=Flex.PATIENT)
        seen.append(as_told)
    made = simulate_planned(seen, site, turn_s=TURN.total_seconds(), forecast_at=_Forecasts(rng, published))
    return tuple(replace(run, submitted_at=came[run.job].submit) for run in made.runs)


class _Forecasts:
    """What the planner is told of the grid: two days ahead, wrong in every hour, and otherwise wrong each day."""

    def __init__(self, rng: np.random.Generator, published: Mapping[str, Signal]) -> None:
        self._rng, self._published = rng, published
        self._issued: dict[tuple[str, int], FloatArray] = {}

    def __call__(self, zone: str, now: datetime) -> Forecast | None:
        signal = self._published[zone]
        first = int((now - signal.start) // HOUR)
        day = first // 24
        if (zone, day) not in self._issued:
            truth = signal.values[day * 24 : day * 24 + 72]
            self._issued[zone, day] = truth * np.exp(FORECAST_ERROR * self._rng.standard_normal(truth.size))
        mean = self._issued[zone, day][first - day * 24 :][:48]
        if mean.size == 0:
            return None
        levels = np.exp(SPREAD * np.array([[-1.0], [0.0], [1.0]]))
        return Forecast(
            zone=zone,
            issued_at=now,
            start=signal.start + HOUR * first,
            step=HOUR,
            quantile_levels=(0.1, 0.5, 0.9),
            carbon_intensity_g_per_kwh=mean * levels,
            carbon_intensity_mean_g_per_kwh=mean,
            renewable_share=np.zeros((3, mean.size)),
            signal_kind=signal.kind,
            rung=Rung.LIVE,
            model_id="with-errors",
        )


class _Truth:
    """What is so, and is never shown to the accounting."""

    def __init__(
        self,
        rng: np.random.Generator,
        site: SimSite,
        published: Mapping[str, Signal],
        ambient: Mapping[str, FloatArray],
        roofs: OnSite | None = None,
    ) -> None:
        self._rng, self._site = rng, site
        sigma = float(rng.uniform(0.02, 0.07))
        self._run_to_run = float(rng.uniform(0.01, 0.04))
        days = SPAN_HOURS // 24 + 1
        self._ci = {
            region: signal.values * np.repeat(np.exp(sigma * rng.standard_normal(days)), 24)[: signal.values.size]
            for region, signal in published.items()
        }
        base, slope, free = float(rng.uniform(0.08, 0.2)), float(rng.uniform(0.0, 0.008)), float(rng.uniform(10, 20))
        self._overhead = {region: base + slope * np.maximum(0.0, warm - free) for region, warm in ambient.items()}
        # What the roofs' meters say is off by a few per cent.
        self._roofs = roofs
        if roofs is not None:
            off = np.exp(float(rng.uniform(0.01, 0.05)) * rng.standard_normal((len(published), 1)))
            self._roofs = replace(roofs, kwh=roofs.kwh * off)

    def elsewhen(self, jobs: Sequence[PlannedJob]) -> list[PlannedJob]:
        """Return the jobs as they would have been at another time."""
        lengths = np.exp(self._run_to_run * self._rng.standard_normal(len(jobs)))
        powers = np.exp(0.02 * self._rng.standard_normal(len(jobs)))
        return [
            replace(job, duration_s=job.duration_s * float(a), power_kw=job.power_kw * float(b))
            for job, a, b in zip(jobs, lengths, powers, strict=True)
        ]

    def grams(self, runs: Sequence[Run], begin: datetime, end: datetime) -> float:
        """Return what a schedule really emitted."""
        kwh, ci = (np.stack(rows) for rows in zip(*self._hours(runs, begin, end), strict=True))
        spared = 0.0 if self._roofs is None else _first(self._roofs, kwh.shape[1]).spared_g(kwh, ci)
        return float((kwh * ci - spared).sum())

    def by_hours(self, runs: Sequence[Run], begin: datetime, end: datetime) -> float:
        """Return how much more it really emitted than the same energy would have at its zones' mean intensity."""
        return sum(float(np.dot(kwh, ci - ci.mean())) for kwh, ci in self._hours(runs, begin, end))

    def _hours(self, runs: Sequence[Run], begin: datetime, end: datetime) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield each zone's energy by hour, and its intensity."""
        window = whole_hours(begin, end)
        for zone in self._site.zone_powers():
            it = power_curve(runs, replace(zone, pue=1.0), window.start, window.end).energy_between(window.edges_s)
            yield it * (1.0 + self._overhead[zone.name][: it.size]), self._ci[zone.name][: it.size]
