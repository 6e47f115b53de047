# SPDX-License-Identifier: Apache-2.0
"""From a trace and a history to a case, and from a case to what a policy made of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from embellie.domain.forecast import FloatArray
from embellie.simulation.whatif.ahead import Ahead
from embellie.simulation.whatif.axis import Axis, BoolArray, extended
from embellie.simulation.whatif.baselines import (
    THRESHOLD_G_PER_KWH,
    CarbonTime,
    Clairvoyant,
    EcovisorThreshold,
    FixedThreshold,
    LowestSlot,
    LowestWindow,
)
from embellie.simulation.whatif.capping import Cap, capped, slowed
from embellie.simulation.whatif.case import Case, Schedule, Site, Work
from embellie.simulation.whatif.engine import Engine, EveryJob, Rule
from embellie.simulation.whatif.jobs_file import JobRow
from embellie.simulation.whatif.lengths import Lengths, Predicted, QueueMeans, TrueLengths, size_class
from embellie.simulation.whatif.ours import WAIT_PRICE, Embellie
from embellie.simulation.whatif.outcome import Outcome, judge, window
from embellie.simulation.whatif.outlook import Outlook
from embellie.simulation.whatif.planned import Planned
from embellie.simulation.whatif.prices import OwnPower, Windows, search
from embellie.simulation.whatif.slack import SHORT_JOB_S, Slack

POLICIES = (
    "fifo",
    "embellie",
    "lowest-slot",
    "lowest-window",
    "carbon-time",
    "ecovisor-threshold",
    "wait-awhile",
    "threshold",
)
BOUND_STEPS = 160
"""With half of them the most that can be saved comes out 0.6 % too high on a cluster that is used to 75 %."""
_TAIL_H = 24.0 * 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What jobs draw."""

    watts_per_gpu: float = 900.0
    """GPU with its share of the node, at work."""
    watts_per_job: float | None = None
    """The same for every job, whatever its size."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setup:
    """A case with what policies may be told about it."""

    case: Case
    duration_s: FloatArray
    past: FloatArray
    """Intensity before the replay, newest last, on the axis's slots."""
    earlier: tuple[JobRow, ...] = ()
    """Jobs that had ended before: what predictions of lengths begin with."""
    left_out_late: int = 0
    """Jobs that would end after the history even if they started at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a policy decides."""

    policy: str
    lengths: str = "true"
    horizon_h: float = 96.0
    wait_price: float = WAIT_PRICE
    threshold_g_per_kwh: float = THRESHOLD_G_PER_KWH
    cap: Cap | None = None
    """Under which all work runs that can be in time with it; first come first served always runs without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What the site's own power is measured by: emissions over the same window without it [kg], and what it offers."""

    delivered_kwh: float
    """What the plants deliver."""
    fifo_kg: float
    """First come first served, on the grid alone."""
    policy_kg: float
    """The policy, on the grid alone."""
    blind_kg: float
    """What the policy does on the grid alone, behind the plants."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """A policy beside first come first served, over one window."""

    how: How
    work: Work
    """As it would run without a cap."""
    drawn: Case
    """The case with what work draws under the policy: less where that caps it."""
    schedule: Schedule
    outcome: Outcome
    fifo: Schedule
    fifo_outcome: Outcome
    span: tuple[int, int]
    bound_carbon_kg: float
    refused: int
    worth: Worth | None = None
    """Only where the site has power of its own."""

    @property
    def normalised_carbon(self) -> float:
        """The cluster's emissions over first come first served's."""
        base = self.fifo_outcome.carbon_kg
        return self.outcome.carbon_kg / base if base else 1.0

    @property
    def capped_jobs(self) -> int:
        """How many jobs run under the policy's cap."""
        return int(slowed(self.work, self.how.cap).sum()) if self.how.cap is not None else 0

    @property
    def past_bound_as_fifo(self) -> int:
        """How many jobs are past their bound that first come first served would have delayed past it too."""
        return int((self._past(self.schedule) & self._past(self.fifo)).sum())

    def _past(self, schedule: Schedule) -> BoolArray:
        work = self.work
        late: BoolArray = schedule.finish(work.count) - work.arrival - work.length > work.wait
        return late

    @property
    def share_of_bound(self) -> float:
        """The part that it gets of the most that anybody could save."""
        most = self.fifo_outcome.carbon_kg - self.bound_carbon_kg
        saved = self.fifo_outcome.carbon_kg - self.outcome.carbon_kg
        return saved / most if most > 1e-12 * max(1.0, self.fifo_outcome.carbon_kg) else 0.0

    @property
    def naive_saving_pct(self) -> float:
        """What the sum over jobs would claim against each job started when it came."""
        base = self.fifo_outcome.naive_at_once_kg
        return 100.0 * (1.0 - self.outcome.naive_kg / base) if base else 0.0


def make_setup(
    jobs: Sequence[JobRow],
    axis: Axis,
    site: Site,
    *,
    slack: Slack,
    power: Power,
    pausable: float,
    anchor: datetime | None,
    past: FloatArray,
    earlier: Sequence[JobRow] = (),
    seed: int = 0,
) -> Setup:
    """Return the case of a trace on an axis whose first slot is submit time 0.

    Args:
        jobs: The trace, sorted by submission.
        axis: Intensity from submit time 0 on.
        site: GPUs and overheads.
        slack: The bound on waiting.
        power: What jobs draw.
        pausable: Share of the jobs that may be paused, 0..1; which ones is drawn.
        anchor: The moment of submit time 0, for calendar rules.
        past: Intensity before.
        earlier: Jobs that had ended before.
        seed: Of the draw.
    """
    submit = np.array([job.submit_s for job in jobs], dtype=np.float64)
    duration = np.array([job.duration_s for job in jobs], dtype=np.float64)
    arrival = (submit / axis.tick_s).astype(np.int64)
    length = np.maximum(1, (duration / axis.tick_s).astype(np.int64))
    wait = (slack.seconds(submit, duration, anchor) / axis.tick_s).astype(np.int64)
    keep = arrival + length <= axis.known_slots * axis.ticks_per_slot
    gpus = np.array([job.gpus for job in jobs], dtype=np.float64)
    watts = gpus * power.watts_per_gpu if power.watts_per_job is None else np.full(gpus.size, power.watts_per_job)
    drawn = np.random.default_rng(seed).random(gpus.size) < pausable if 0.0 < pausable < 1.0 else pausable >= 1.0
    work = Work(
        ids=tuple(job.id for job in jobs),
        tenants=tuple(job.tenant for job in jobs),
        kinds=tuple(job.kind for job in jobs),
        arrival=arrival,
        length=length,
        wait=wait,
        gpus=gpus,
        power_kw=watts / 1000.0,
        pausable=np.broadcast_to(drawn, gpus.shape).copy(),
    ).take(keep)
    late = int(keep.size - keep.sum())
    return Setup(
        case=Case(work=work, axis=axis, site=site),
        duration_s=duration[keep],
        past=past,
        earlier=tuple(earlier),
        left_out_late=late,
    )


def make_lengths(name: str, setup: Setup) -> Lengths:
    """Return what is known of lengths."""
    work, tick_s = setup.case.work, setup.case.axis.tick_s
    if name == "queue-mean":
        return QueueMeans(setup.duration_s, tick_s)
    if name == "predicted":
        groups = [
            (tenant, kind, size_class(float(gpus)))
            for tenant, kind, gpus in zip(work.tenants, work.kinds, work.gpus, strict=True)
        ]
        predicted = Predicted(groups, setup.duration_s < SHORT_JOB_S, tick_s)
        for job in sorted(setup.earlier, key=lambda job: job.submit_s + job.duration_s):
            group = (job.tenant, job.kind, size_class(job.gpus))
            predicted.learn_group(group, short=job.duration_s < SHORT_JOB_S, hours=job.duration_s / 3600.0)
        return predicted
    return TrueLengths(work.length)


def make_rule(how: How, setup: Setup, outlook: Outlook, own: Outlook | None = None) -> Rule:
    """Return a policy, ready to run; `own` is what it is told of the site's own power, which only `embellie` minds."""
    case, lengths = setup.case, make_lengths(how.lengths, setup)
    planned: dict[str, Any] = {
        "lowest-slot": LowestSlot,
        "lowest-window": LowestWindow,
        "carbon-time": CarbonTime,
        "wait-awhile": Clairvoyant,
    }
    if how.policy in planned:
        rule: Rule = planned[how.policy](case, outlook, lengths)
        return rule
    if how.policy == "ecovisor-threshold":
        return EcovisorThreshold(case, outlook)
    if how.policy == "threshold":
        return FixedThreshold(case, how.threshold_g_per_kwh)
    if how.policy == "embellie":
        ahead = Ahead(case.axis, outlook, horizon_h=how.horizon_h, past=setup.past, own=own)
        ours = Embellie if case.site.capacity_gpus is None else Planned
        return ours(case, ahead, lengths, wait_price=how.wait_price)
    if how.policy == "fifo":
        return EveryJob(case.work.count)
    raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {how.policy!r}")


def run_fifo(case: Case) -> Schedule:
    """Replay arrivals with their true lengths first come first served."""
    return Engine(case, EveryJob(case.work.count)).run()


def replay(how: How, setup: Setup, outlook: Outlook, own: Outlook | None = None) -> Result:
    """Replay a policy and first come first served on the same case, and judge both over the same window.

    Where the site has power of its own, `own` is what the policy is told of it, and it is replayed without, too.
    """
    setup = _with_room_at_the_end(setup)
    case, slower = setup.case, _under(how.cap, setup)
    engine = Engine(slower.case, make_rule(how, slower, outlook, own))
    schedule = engine.run()
    fifo = schedule if how.policy == "fifo" and slower is setup else run_fifo(case)
    blind = schedule if own is None else Engine(slower.case, make_rule(how, slower, outlook)).run()
    span = window(case, schedule, fifo, blind)
    # Delays count against the length without a cap: to run slower is to come later.
    drawn = replace(case, work=replace(case.work, power_kw=slower.case.work.power_kw))
    ours, base = judge(schedule, drawn, span), judge(fifo, case, span)
    return Result(
        how=how,
        work=case.work,
        drawn=drawn,
        schedule=schedule,
        outcome=ours,
        fifo=fifo,
        fifo_outcome=base,
        span=span,
        bound_carbon_kg=bound_carbon_kg(slower.case, (fifo, schedule), base.carbon_kg, span),
        refused=len(engine.refused),
        worth=_worth(drawn, case, blind, fifo, span),
    )


def _worth(drawn: Case, case: Case, blind: Schedule, fifo: Schedule, span: tuple[int, int]) -> Worth | None:
    on_site, axis = case.on_site, case.axis
    if on_site is None:
        return None
    first, last = (tick // axis.ticks_per_slot for tick in span)
    return Worth(
        delivered_kwh=float(on_site.kw[first:last].sum()) * axis.slot_h,
        fifo_kg=judge(fifo, replace(case, on_site=None), span).carbon_kg,
        policy_kg=judge(blind, replace(drawn, on_site=None), span).carbon_kg,
        blind_kg=judge(blind, drawn, span).carbon_kg,
    )


def bound_carbon_kg(case: Case, known: Sequence[Schedule], upper_kg: float, span: tuple[int, int]) -> float:
    """Return what no schedule can go below, knowing everything: true lengths, all arrivals, the true intensity.

    Each job may wait as long as it is allowed, or as long as it did in one of the known schedules. With a capacity the
    bound is Lagrangian (see `prices`), and idle GPUs are counted: work replaces idle power.
    """
    work, axis, site = case.work, case.axis, case.site
    ran = known[0].finish(work.count) >= 0
    some = work.take(ran)
    wait = some.wait
    for schedule in known:
        wait = np.maximum(wait, schedule.finish(work.count)[ran] - some.arrival - some.length)
    if not axis.known_slots < axis.n_slots and site.capacity_gpus is None:
        wait = np.minimum(wait, np.maximum(0, axis.end - some.arrival - some.length))
    idle_kw = site.idle_kw_per_gpu if site.capacity_gpus is not None else 0.0
    net_kw = (some.power_kw - some.gpus * idle_kw) * site.pue
    slots = max(axis.n_slots, -(-int((some.arrival + some.length + wait).max(initial=0)) // axis.ticks_per_slot))
    grams = extended(axis, slots).values * axis.slot_h
    own, base_g = _own_power(case, grams, span)
    windows = Windows(
        release=some.arrival,
        length=some.length,
        wait=wait,
        pausable=some.pausable,
        gpus=some.gpus,
        grams_kw=net_kw,
        ticks_per_slot=axis.ticks_per_slot,
        n_slots=slots,
        own_power=own is not None,
    )
    constant = 0.0
    if site.capacity_gpus is None:
        least = float(windows.evaluate(grams, np.zeros(slots))[0].sum())
    else:
        constant = site.capacity_gpus * idle_kw * site.pue * float(axis.grams(span[0], span[1])) - base_g
        capacity = np.full(slots, site.capacity_gpus)
        least = search(windows, grams, capacity, upper=upper_kg * 1000.0 - constant, steps=BOUND_STEPS, own=own)
    return (least + constant) / 1000.0


def _own_power(case: Case, grams: FloatArray, span: tuple[int, int]) -> tuple[OwnPower | None, float]:
    """Return what the site's own plants leave where all GPUs idle, and what those spare that idle [g]."""
    if case.on_site is None:
        return None, 0.0
    axis, site = case.axis, case.site
    on_site = case.on_site.extended(grams.size, axis.slot_h)
    slot = np.arange(grams.size) * axis.ticks_per_slot
    # What is delivered outside of the window counts for nobody.
    kw = np.where((slot >= span[0]) & (slot < span[1]), on_site.kw[: grams.size], 0.0)
    spares_g = np.where(kw > 0.0, np.maximum(grams - on_site.g_per_kwh[: grams.size] * axis.slot_h, 0.0), 0.0)
    used_kw = np.minimum(kw, (site.capacity_gpus or 0.0) * site.idle_kw_per_gpu * site.pue)
    return OwnPower(kw=kw - used_kw, spares_g=spares_g), float((used_kw * spares_g).sum())


def _under(cap: Cap | None, setup: Setup) -> Setup:
    """Return the setup as it is under a cap; what was learnt of lengths is slower too."""
    if cap is None:
        return setup
    case = setup.case
    return replace(
        setup,
        case=replace(case, work=capped(case.work, case.site, cap)),
        duration_s=np.where(slowed(case.work, cap), setup.duration_s / cap.speed, setup.duration_s),
        earlier=tuple(replace(job, duration_s=job.duration_s / cap.speed) for job in setup.earlier),
    )


def _with_room_at_the_end(setup: Setup) -> Setup:
    """Return the setup with slots after its history, for work that a full cluster pushes out of it."""
    case = setup.case
    if case.site.capacity_gpus is None or case.work.count == 0:
        return setup
    load = float((case.work.gpus * case.work.length).sum()) / max(case.site.capacity_gpus, 1e-9)
    slots = int(load / case.axis.ticks_per_slot) + case.axis.n_slots + int(_TAIL_H / case.axis.slot_h)
    axis, on_site = extended(case.axis, slots), case.on_site
    return replace(
        setup,
        case=replace(
            case,
            axis=axis,
            on_site=on_site.extended(axis.n_slots, axis.slot_h) if on_site is not None else None,
        ),
    )
