# SPDX-License-Identifier: Apache-2.0
"""Heat as a hard limit, whatever the zones, the sensors and the work: starts, resumes, the ladder, permits ahead."""

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

from drawn_rooms import NOW, TURN_S, ZONES, rooms
from hypothesis import given, settings
from hypothesis import strategies as st

from embellie.domain.limits import fresh_value
from embellie.domain.plan import Action, Decision, Plan
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import (
    Quality,
    Reading,
    RunningGang,
    Snapshot,
    ThermalZoneState,
)
from embellie.thermal import Rises, shield
from embellie.thermal.duties import duty_of
from embellie.thermal.ladder import LadderMemory, Response, respond
from embellie.thermal.relief import HeatLoad
from embellie.thermal.rungs import Level, ZoneHeat
from embellie.thermal.settings import LadderSettings, LimitSettings, Row, ZoneSettings


def most_kw(zone: ThermalZoneState) -> float:
    """The most heat that a zone may make now, written down once more from what each limit means."""
    inlet, supply = fresh_value(zone.inlet), fresh_value(zone.supply)
    if not zone.admission_open or (inlet is not None and inlet > zone.inlet_limit_c - zone.margin_c):
        return 0.0
    coolant, air = fresh_value(zone.coolant_return), fresh_value(zone.air_return)
    for returned, limit in ((coolant, zone.coolant_return_limit_c), (air, zone.air_return_limit_c)):
        if returned is not None and limit is not None and returned > limit - zone.margin_c:
            return 0.0
    limited_air = None if zone.air_return_limit_c is None else zone.air_return
    named = [r for r in (zone.supply, zone.inlet, zone.coolant_return, limited_air) if r is not None]
    if supply is None or any(r.quality is not Quality.FRESH for r in named):
        supply = max(zone.supply_worst_c, zone.supply_setpoint_c)
    gain, taken, margin, model = zone.rise_k_per_kw, 0.0, zone.margin_c, zone.model
    if model is not None and (model.trusted or model.drifted):
        margin, taken = max(margin, model.margin_k), max(0.0, model.bias_k)
        learnt = model.own_k_per_kw + 2 * model.own_sd_k_per_kw
        gain = learnt if model.trusted else max(gain, learnt)
        taken += model.offset_k if model.trusted else 0.0
    free = zone.inlet_limit_c - margin - supply - zone.arriving_k - taken
    most = [kw for kw in (zone.cooling_capacity_kw, zone.ceiling_kw, zone.barrier_kw) if kw is not None]
    if free < 0 or gain > 0:
        most.append(max(0.0, free) / gain if gain > 0 else 0.0)
    return min(most, default=float("inf"))


def shares(snapshot: Snapshot, zone: str) -> dict[str, float]:
    """What a kilowatt of a zone's heat counts for in each zone."""
    found = {zone: 1.0}
    for other in snapshot.thermal_zones:
        if other.model is None:
            continue
        model = other.model
        own = model.own_k_per_kw + 2 * model.own_sd_k_per_kw if model.trusted else other.rise_k_per_kw
        if own > 0 and zone in model.neighbours_k_per_kw:
            found[other.name] = model.neighbours_k_per_kw[zone] / own
    return found


def _factor(gang: RunningGang) -> float:
    return gang.overrun if gang.expected_end_p90 > NOW else max(1.5, gang.overrun)


@dataclass
class Loads:
    """What all zones make at worst, as an onlooker adds it up."""

    snapshot: Snapshot
    heat: dict[str, float] = field(default_factory=dict)
    lasting: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By zone: heat [kW], and for how long it counts from now on [s]: as long as its like takes by what was said, half
    as long again where it is overdue; what is a guess, or starts in the same turn, for always."""

    def __post_init__(self) -> None:
        for zone in self.snapshot.thermal_zones:
            inside = [g for g in self.snapshot.running if g.cell == zone.name]
            self.heat[zone.name] = zone.base_power_kw + sum(g.worst_power_kw for g in inside)
            self.lasting[zone.name] = [
                (
                    g.worst_power_kw,
                    (g.started_at + _factor(g) * (max(NOW, g.expected_end_p90) - g.started_at) - NOW).total_seconds()
                    if g.length_stated
                    else math.inf,
                )
                for g in inside
            ]

    def add(self, cell: str, kw: float) -> None:
        for name, share in shares(self.snapshot, cell).items():
            self.heat[name] += share * kw
            self.lasting[name].append((share * kw, math.inf))

    def check(self, cell: str, run_s: float) -> None:
        for name in shares(self.snapshot, cell):
            zone = next(z for z in self.snapshot.thermal_zones if z.name == name)
            assert self.heat[name] <= most_kw(zone) + 1e-3, name
            if zone.outlook is not None:
                for hour, removable_kw in enumerate(zone.outlook.removable_kw[: max(1, int(-(-run_s // 3600)))]):
                    still = sum(kw for kw, lasts_s in self.lasting[name] if hour == 0 or lasts_s > 3600.0 * hour)
                    assert zone.base_power_kw + still <= removable_kw + 1e-3, (name, hour)
                known_s = 3600.0 * zone.outlook.removable_kw.size
                if run_s > known_s:
                    still = sum(kw for kw, lasts_s in self.lasting[name] if lasts_s > known_s)
                    assert zone.base_power_kw + still <= zone.outlook.removable_kw[-24:].min() + 1e-3, name


@given(rooms(), st.data())
@settings(max_examples=80, deadline=None)
def test_no_start_before_its_bound_takes_any_zone_past_a_limit_at_worst_case(snapshot: Snapshot, data: st.DataObject):
    cells = [cell.name for cell in snapshot.cells]
    decisions = tuple(
        Decision(
            key=w.key, action=Action.RELEASE, reason=Reason.BEST_NOW, message="Starts now.",
            cell=data.draw(st.sampled_from(cells)), start=NOW, likely_start_p90=NOW, latest_start=w.latest_start,
            now=None, best=None,
        )
        for w in snapshot.workloads
    )  # fmt: skip
    checked = shield(Plan(decisions=decisions, objective_g=0.0), snapshot)
    loads = Loads(snapshot)
    started = [(w, d) for w, d in zip(snapshot.workloads, checked.decisions, strict=True) if d.action is Action.RELEASE]
    for w, d in started:
        loads.add(d.cell or "", w.worst_power_kw)
    for w, d in started:
        if w.latest_start > NOW + timedelta(seconds=2 * TURN_S):
            loads.check(d.cell or "", max(w.duration_p50_s, w.duration_p90_s))


@given(rooms(), st.lists(st.tuples(st.sampled_from(ZONES), st.floats(0.5, 60), st.floats(600, 20 * 3600)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_resumes_and_raised_caps_of_one_turn_stay_under_every_limit_together(
    snapshot: Snapshot, asked: list[tuple[str, float, float]]
):
    rises, loads = Rises(snapshot), Loads(snapshot)
    (grid,) = snapshot.grid_zones
    power = grid.base_power_kw + 1.2 * sum(g.worst_power_kw for g in snapshot.running)
    for cell, kw, run_s in asked:
        if not any(c.name == cell for c in snapshot.cells) or rises.refusal(cell, kw, run_s) is not None:
            continue
        loads.add(cell, kw)
        loads.check(cell, run_s)
        power += 1.2 * kw
        assert grid.contracted_power_kw is None or power <= grid.contracted_power_kw + 1e-3


# --- the ladder -------------------------------------------------------------------------------------------------------

POLICY = LadderSettings(min_dwell_s=300.0, pause_burst=2, pauses_per_hour=4.0)
ENTER_C, LEAVE_C, HARD_C = 30.5, 28.5, 32.0


def load(name: str, *, capable: bool = True, pausable: bool = True, power_kw: float = 10.0, checkpoint_s: float = 60.0):
    return HeatLoad(
        key=name, zone="row", nodes=(), gpus=20, power_kw=power_kw, pausable=pausable, checkpoint_s=checkpoint_s,
        started_at=NOW - timedelta(hours=3), rated_w=600.0, knee_w=360.0, idle_w=100.0, capable=capable,
    )  # fmt: skip


@dataclass
class Ladder:
    """A zone under the ladder, turn by turn."""

    loads: list[HeatLoad]
    memory: LadderMemory = field(default_factory=LadderMemory)
    now: datetime = NOW

    def turn(self, celsius: float | None, target_kw: float = 30.0) -> Response:
        self.now += timedelta(seconds=TURN_S)
        quality = Quality.FRESH if celsius is not None else Quality.FROZEN
        zone = ZoneHeat(
            name="row", temperature=Reading(value=celsius, age_s=5.0, quality=quality), hard_c=HARD_C, enter_c=ENTER_C,
            leave_c=LEAVE_C, pause_c=HARD_C - 1.0, target_kw=target_kw, heat_kw=sum(one.power_kw for one in self.loads),
        )  # fmt: skip
        self.memory, answer = respond(self.memory, [zone], self.loads, {"row": POLICY}, self.now)
        return answer


temperatures = st.lists(
    st.tuples(st.none() | st.floats(24.0, 33.5), st.integers(1, 30), st.sampled_from([30.0, 55.0, 90.0])),
    min_size=1,
    max_size=12,
)  # held for so many turns


@given(temperatures, st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_ladder_eases_only_after_long_cool_and_trusted_readings_and_one_rung_at_a_time(steps, capable):
    ladder = Ladder([load(name, capable=capable) for name in "abcdef"])
    cool_s, level, share, eased_at, since, paused = 0.0, Level.NORMAL, 600.0, None, NOW, set()
    for celsius, turns, target_kw in steps:
        for _ in range(turns):
            answer = ladder.turn(celsius, target_kw)
            new = answer.zones["row"].level
            cool_s = cool_s + TURN_S if celsius is not None and celsius <= LEAVE_C else 0.0
            if celsius is None:
                assert new is level
            if new < level:
                assert new == max(r for r in Level if r < level)
                assert cool_s >= 3 * POLICY.min_dwell_s
                assert (ladder.now - since).total_seconds() >= POLICY.min_dwell_s
            if new != level:
                since = ladder.now
            watts = min((order.watts_per_gpu for order in answer.caps), default=600.0)
            assert watts >= 360.0
            assert len({order.watts_per_gpu for order in answer.caps}) <= 1
            if watts > share + 1e-6:
                assert celsius is not None
                normal = new is Level.NORMAL
                assert watts - share <= (0.1 if normal else 0.05) * 600.0 + 1e-6
                waited_s = 60.0 if normal else POLICY.min_dwell_s
                assert eased_at is None or (ladder.now - eased_at).total_seconds() >= waited_s
                eased_at = ladder.now
            for order in answer.pauses:
                assert order.key not in paused
                assert celsius is not None
                assert celsius > LEAVE_C
                paused.add(order.key)
            if answer.resumes:
                assert new is Level.NORMAL
                assert set(answer.resumes) <= paused
            level, share = new, watts


@given(st.lists(st.floats(-0.4, 0.4), min_size=40, max_size=200))
@settings(max_examples=20, deadline=None)
def test_a_temperature_that_swings_around_a_mark_makes_no_measure_come_and_go(swings):
    ladder = Ladder([load(name) for name in "abc"])
    levels = [ladder.turn(ENTER_C + swing).zones["row"].level for swing in swings]
    assert all(after >= before for before, after in pairwise(levels))


# --- permits and orders, ahead of time --------------------------------------------------------------------------------


@given(
    st.lists(
        # Twenty GPUs draw at most 10 kW above idle.
        st.tuples(st.floats(1, 10), st.booleans(), st.booleans(), st.sampled_from([60.0, 240.0, 400.0])),
        min_size=1,
        max_size=12,
    ),
    st.floats(0, 120),
    st.sampled_from([0.0, 10.0]),
)
@settings(max_examples=25, deadline=None)
def test_a_zone_is_down_when_a_permit_begins_or_everything_that_may_be_done_was_done(jobs, permit_kw, idle_kw):
    zone = ZoneSettings(
        name="row",
        limits=LimitSettings(inlet_hard_c=32.0),
        ceiling=(Row(kw=permit_kw, from_hour=15.0, to_hour=18.0, to_outside=True),),
    )
    works = {
        f"j{k}": load(f"j{k}", capable=capable, pausable=pausable, power_kw=kw, checkpoint_s=checkpoint_s)
        for k, (kw, capable, pausable, checkpoint_s) in enumerate(jobs)
    }
    full = {name: work.power_kw for name, work in works.items()}
    gone_at: dict[str, datetime] = {}
    memory, now, lowered, rungs = LadderMemory(), NOW.replace(hour=14), NOW, []
    begins = NOW.replace(hour=15)
    caps: dict[str, float] = {}
    clear_since, eased = None, False
    while now < begins + timedelta(minutes=30):
        works = {n: w for n, w in works.items() if gone_at.get(n, now + timedelta(1)) > now}
        heat = idle_kw + sum(work.power_kw for work in works.values())
        if now == begins:
            # As much as is left could not be helped: all caps at the knee, all that may be paused is gone.
            left = [w for w in works.values() if w.pausable or (w.capable and caps.get(w.key, 600.0) > 360.0)]
            assert heat <= permit_kw + 1e-6 or not left
        duty = duty_of(zone, now, 20.0, None, lambda kw, _: kw)
        seen = ZoneHeat(
            name="row", temperature=Reading(value=25.0, age_s=5.0, quality=Quality.FRESH), hard_c=32.0, enter_c=30.5,
            leave_c=28.5, target_kw=None, heat_kw=heat, duty=duty,
        )  # fmt: skip
        memory, answer = respond(memory, [seen], list(works.values()), {"row": LadderSettings()}, now)
        admits = answer.zones["row"].admits
        if now < begins - timedelta(minutes=45, seconds=300):
            assert admits
            assert not answer.caps
            assert not answer.pauses
        staying = heat - sum(work.power_kw for name, work in works.items() if name in gone_at)
        clear_since = (clear_since or now) if staying <= 0.85 * permit_kw else None
        eased = eased or (clear_since is not None and now - clear_since >= timedelta(minutes=30))
        if staying > permit_kw + 1e-6 and begins - timedelta(minutes=40) <= now < begins:
            assert not admits
        rungs.append(answer.zones["row"].level)
        for order in answer.caps:
            if order.watts_per_gpu > caps.get(order.key, 600.0) + 1e-6:
                assert staying <= permit_kw
            if order.watts_per_gpu > caps.get(order.key, 600.0) + 1e-6 and not eased:
                assert now - lowered >= timedelta(seconds=900)
                assert order.watts_per_gpu <= caps[order.key] + 0.05 * 600.0 + 1e-6
                assert heat <= 0.95 * permit_kw
            if order.watts_per_gpu < caps.get(order.key, 600.0) - 1e-6:
                lowered = now
            caps[order.key] = order.watts_per_gpu
            work = works[order.key]
            drawn = min(full[order.key], work.gpus * (order.watts_per_gpu - work.idle_w) / 1000.0)
            works[order.key] = replace(work, power_kw=drawn)
        for pause in answer.pauses:
            assert pause.key not in gone_at
            gone_at[pause.key] = now + timedelta(seconds=works[pause.key].checkpoint_s + 120.0)
            works[pause.key] = replace(works[pause.key], pausable=False)
        now += timedelta(seconds=TURN_S)
    if heat > 0.9 * permit_kw and not eased:
        assert all(after >= before for before, after in pairwise(rungs))
