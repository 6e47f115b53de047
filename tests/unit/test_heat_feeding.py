# SPDX-License-Identifier: Apache-2.0
"""What is learnt of power, regimes and PUE reaches the snapshot, and what the ladder orders for nodes is bounded."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from switches import switch

from embellie.api.thermalduties import Claim, LadderMeasure
from embellie.api.thermalspec import SensorRole, SensorUnit
from embellie.cluster.client import ApiError
from embellie.cluster.node_taints import NodeTaints
from embellie.cluster.power_caps import Cap, PowerCaps
from embellie.cluster.records import parse_node
from embellie.cluster.switch import Switch
from embellie.control.heat import HeatDesk
from embellie.control.heat_acts import HeatActs, by_node
from embellie.control.layout import lay_out
from embellie.control.pausing import heat_loads
from embellie.control.power import IDLE_SAMPLES, PowerBook
from embellie.control.pue import PueBook
from embellie.control.sensors import Readings
from embellie.domain import names
from embellie.domain.snapshot import Quality, Reading
from embellie.domain.times import format_time
from embellie.telemetry.exporters import Measurement
from embellie.telemetry.tables import QueryError, TooLongError
from embellie.thermal.job_power import MEMORY, WORST_SAMPLES, JobPower
from embellie.thermal.power import WORST_CASE_FACTOR
from embellie.thermal.readings import Unit
from embellie.thermal.regime import Regimes
from embellie.thermal.relief import CapOrder, HeatLoad
from embellie.thermal.sensing import ZoneReadings
from embellie.thermal.settings import CoolingSettings, LimitSettings, Measure, Role, Side, ZoneSettings
from embellie.thermal.zone_models import ZoneModels
from embellie_testbed.views import NOW, ROW, assembled, bare_pod, job, node, nodes, running_pod, thermal_zone, view


def told(quantity: str, value: float, on: str, pod: str = "", device: str = "g0") -> Measurement:
    return Measurement(quantity=quantity, unit="W", value=value, node=on, device=device, namespace="research", pod=pod)


# --- regimes ----------------------------------------------------------------------------------------------------------


def test_fans_that_follow_the_load_are_one_regime_and_fans_that_change_gear_alone_are_another():
    regimes = Regimes()
    for rpm, watts in ((5000, 1000), (7500, 4000), (5100, 1050), (5200, 1040)):
        regimes.observe("a", rpm, watts)
    assert regimes.of(["a"]) == 0
    regimes.observe("a", 9000, 1040)
    assert regimes.of(["a"]) > 0
    assert regimes.of(["a", "unknown"]) == regimes.of(["a"])
    regimes.observe("a", float("nan"), 1040)
    assert regimes.of([]) == 0


def test_gpus_that_heat_slows_down_are_a_regime_until_they_run_free_again():
    regimes = Regimes()
    seen = []
    for throttle_s in (10.0, 10.0, 40.0, 70.0, 70.0, 0.0):
        regimes.observe("a", float("nan"), 1000.0, throttle_s)
        seen.append(regimes.of(["a"]))
    assert seen == [0, 0, 2, 2, 4, 4]


def test_one_node_of_many_is_no_other_regime_of_the_zone():
    regimes = Regimes()
    names_ = [f"n{i}" for i in range(8)]
    for name in names_:
        regimes.observe(name, 5000, 1000)
    regimes.observe("n0", 9000, 1000)
    assert regimes.of(names_) == 0
    for name in names_[1:5]:
        regimes.observe(name, 9000, 1000)
    assert regimes.of(names_) == 1


# --- power of jobs and idle nodes -------------------------------------------------------------------------------------


def test_a_worst_case_is_learnt_from_what_ran_with_its_margin_and_peaks_are_kept_in_mind():
    power = JobPower()
    for k in range(WORST_SAMPLES):
        power.observe("lab/train", {"train-1": 400.0 if k % 10 else 520.0})
    learnt = power.of("lab/train")
    assert learnt is not None
    assert learnt.worst_w("train-1") == pytest.approx(
        WORST_CASE_FACTOR * max(learnt.peak_w, learnt.mean_w + 3.0 * learnt.sd_w)
    )
    assert learnt.worst_w("train-1") > WORST_CASE_FACTOR * 500.0
    assert learnt.worst_w("train-2") is None, "one run says nothing of the next"
    for run in ("train-2", "train-3"):
        power.observe("lab/train", {run: 400.0})
    assert power.of("lab/train").worst_w("train-9") is not None
    for _ in range(int(6 * MEMORY)):
        power.observe("lab/train", {"train-4": 300.0})
    assert power.of("lab/train").worst_w() == pytest.approx(WORST_CASE_FACTOR * 300.0, rel=0.1), "peaks are forgotten"


def test_a_gang_whose_pods_all_tell_for_minutes_has_shown_no_more_than_one_run_in_these_minutes():
    book = PowerBook()
    pods = [f"train-{k}-x7k2p" for k in range(64)]
    for _ in range(WORST_SAMPLES - 1):
        book.take([told("gpu_power", 110.0 + k, "west-0", pod) for k, pod in enumerate(pods)])
        power = book.class_power("research", "train")
        assert power is None or power.worst_w(pods[0]) is None
    book.take([told("gpu_power", 110.0, "west-0", pod) for pod in pods])
    power = book.class_power("research", "train")
    assert power is not None
    assert power.worst_w(pods[0]) >= WORST_CASE_FACTOR * (110.0 + 63) * 0.9, "the hottest of its pods counts"
    assert power.worst_w("train-99-x7k2p") is None, "that one gang says nothing of the next"


def learnt_book() -> PowerBook:
    book = PowerBook()
    for k in range(WORST_SAMPLES):
        pod = f"train-{k % 3}-x7k2p"
        book.take([
            told("gpu_power", 400.0, "west-0", pod), told("node_power", 5000.0, "west-0"),
            told("gpu_power", 60.0, "west-1", device="g1"), told("node_power", 1500.0, "west-1"),
        ])  # fmt: skip
    return book


def test_what_runs_counts_at_what_its_class_was_seen_to_draw_and_never_above_its_rating():
    pod = running_pod("train-1-x7k2p", "west-0", gpus=8, started=NOW - timedelta(hours=3))
    before = assembled(view=view(pods=[pod])).snapshot.running[0]
    after = assembled(view=view(pods=[pod]), learnt=learnt_book()).snapshot.running[0]
    assert after.power_kw < before.power_kw
    assert after.worst_power_kw < before.worst_power_kw
    assert after.worst_power_kw >= after.power_kw
    hotter = PowerBook()
    for _ in range(WORST_SAMPLES):
        hotter.take([told("gpu_power", 1500.0, "west-0", "train-1-x7k2p")])
    assert assembled(view=view(pods=[pod]), learnt=hotter).snapshot.running[0].worst_power_kw == before.worst_power_kw


def test_a_pod_that_was_submitted_again_under_its_old_name_is_not_the_one_that_was_metered():
    book = PowerBook()
    for _ in range(WORST_SAMPLES):
        book.take([told("gpu_power", 400.0, "west-0", "train")])

    def worst_kw(ran: timedelta, learnt: PowerBook) -> float:
        pod = running_pod("train", "west-0", gpus=8, started=NOW - ran)
        return assembled(view=view(pods=[pod]), learnt=learnt).snapshot.running[0].worst_power_kw

    rated_kw = worst_kw(timedelta(hours=3), PowerBook())
    assert worst_kw(timedelta(hours=3), book) < rated_kw
    assert worst_kw(timedelta(minutes=1), book) == rated_kw
    on_its_way = bare_pod("train", gpus=8, held=False, cell="west")
    made = assembled(view=view(on_its_way), learnt=book, bounds={on_its_way.key.uid: NOW})
    assert [gang.worst_power_kw for gang in made.snapshot.running] == [rated_kw]


def test_what_is_planned_counts_at_its_class_once_enough_runs_of_it_were_seen():
    declared = assembled(job("train-9")).snapshot.workloads[0]
    learnt = assembled(job("train-9"), learnt=learnt_book()).snapshot.workloads[0]
    assert learnt.power_kw < declared.power_kw
    assert learnt.worst_power_kw < declared.worst_power_kw
    other = assembled(job("evaluate"), learnt=learnt_book()).snapshot.workloads[0]
    assert other.worst_power_kw == declared.worst_power_kw


def test_what_idle_nodes_draw_is_learnt_and_reaches_both_zones():
    zone = thermal_zone("west-r1", cooling={"capacityKilowatts": 50})
    before, after = (
        assembled(job(), thermal_zones=(zone,), **more).snapshot for more in ({}, {"learnt": learnt_book()})
    )
    stated_w = 1000.0 * before.thermal_zones[0].base_power_kw / 4
    told_w = 1000.0 * (before.thermal_zones[0].base_power_kw - after.thermal_zones[0].base_power_kw)
    assert told_w == pytest.approx(stated_w - 1500.0)
    west = [next(z for z in s.grid_zones if z.name == "west").base_power_kw for s in (before, after)]
    assert west[1] < west[0]


def test_where_no_exporter_names_pods_no_node_is_taken_for_idle():
    book = PowerBook()
    for _ in range(2 * IDLE_SAMPLES):
        book.take([told("gpu_power", 700.0, "a"), told("node_power", 6000.0, "a")])
    assert book.idle_watts("a") is None


# --- learning survives what does not touch it -------------------------------------------------------------------------


def test_other_limits_or_another_idle_power_forget_nothing_and_another_topology_does():
    zone = ZoneSettings(name="row", limits=LimitSettings(inlet_hard_c=32.0), cooling=CoolingSettings(capacity_kw=100.0))
    old = ZoneModels([zone])
    old.fit.weight[:] = 500.0
    for change, kept in (
        ({"base_power_kw": 7.0}, True),
        ({"limits": LimitSettings(inlet_hard_c=35.0)}, True),
        ({"start_ramp_kw_per_min": 5.0}, True),
        ({"topology": 1}, False),
        ({"cooling": CoolingSettings(capacity_kw=80.0)}, False),
    ):
        fresh = ZoneModels([replace(zone, **change)])
        fresh.transplant(old)
        assert bool((fresh.fit.weight == 500.0).all()) is kept, change


# --- PUE --------------------------------------------------------------------------------------------------------------


def test_pue_is_learnt_from_the_meters_and_holds_only_where_the_weather_was_seen():
    book, power = PueBook(), PowerBook()
    random = np.random.default_rng(0)
    said = np.array([1.5, 1.5, 1.5])
    ahead = np.array([8.0, 35.0, np.nan])
    for _ in range(400):
        it_kw, outdoor = random.uniform(40, 60), random.uniform(5, 12)
        power.take([told("node_power", 1000.0 * it_kw, "a")])
        meter = {"west": Reading(value=1.1 * it_kw, age_s=1.0, quality=Quality.FRESH)}
        for _ in range(3):
            # Turns come faster than the nodes are read.
            book.observe(meter, power, {"west": ("a",)}, {"west": outdoor})
    assert book.ahead("west", ahead, said) == pytest.approx([1.1, 1.5, 1.5], abs=0.02)
    assert list(book.ahead("east", ahead, said)) == list(said)
    power.take([told("node_power", 50_000.0, "a")])
    book.observe({"east": replace(meter["west"], quality=Quality.STALE)}, power, {"east": ("a",)}, {})
    assert list(book.ahead("east", ahead, said)) == list(said)


# --- what is done to nodes --------------------------------------------------------------------------------------------


class Desk(NodeTaints):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.wanted: list[dict[str, str]] = []

    def turn(self, wanted: Any, standing: Any, now: Any) -> None:  # noqa: ARG002
        self.wanted.append(dict(wanted))


class Caps(PowerCaps):
    """Keeps what it was told."""

    def __init__(self, standing: Mapping[str, int] | None = None) -> None:
        self.wanted: list[dict[str, Cap]] = []
        self._standing = dict(standing or {})

    def standing(self, now: Any) -> dict[str, int]:  # noqa: ARG002 - that of PowerCaps
        return self._standing

    def turn(self, wanted: Any, now: Any) -> None:  # noqa: ARG002 - that of PowerCaps
        self.wanted.append(dict(wanted))


def acts(held_by: Switch) -> tuple[HeatActs, Desk, Caps]:
    desk, caps = Desk(), Caps()
    return HeatActs(caps=caps, taints=desk, switch=held_by, max_taint_s=3600.0), desk, caps


LAYOUT = lay_out((), (thermal_zone("west-r1"),), nodes())


def test_a_taint_ends_after_as_long_as_a_limit_may_hold_and_may_come_again_after_that():
    made, desk, _ = acts(switch())
    for hours, hot in ((0.0, ["west-r1"]), (0.9, ["west-r1"]), (1.1, ["west-r1"]), (1.2, []), (1.3, ["west-r1"])):
        made.turn(NOW + timedelta(hours=hours), LAYOUT, hot, (), (), enforced=True)
    assert [bool(wanted) for wanted in desk.wanted] == [True, True, False, False, True]
    assert desk.wanted[0] == dict.fromkeys(["west-0", "west-1", "west-2", "west-3"], "west-r1")


def test_a_taint_ends_when_it_would_have_under_the_leader_that_set_it():
    on = [replace(one, overheated="west-r1", overheated_since=NOW - timedelta(minutes=50)) for one in nodes()]
    made, desk, _ = acts(switch())
    for minutes in (0, 9, 11):
        layout = lay_out((), (thermal_zone("west-r1"),), on)
        made.turn(NOW + timedelta(minutes=minutes), layout, ["west-r1"], (), (), enforced=True)
    assert [bool(wanted) for wanted in desk.wanted] == [True, True, False]


@pytest.mark.parametrize(("error", "asked"), [(TooLongError("64 MiB"), 1), (QueryError("it is away"), 3)])
def test_a_past_that_is_too_long_to_be_read_is_asked_for_once(error: QueryError, asked: int):
    asks: list[float] = []

    class Tables:
        def series(self, *_: object) -> tuple[()]:
            return ()

    def learn(now_s: float) -> None:
        asks.append(now_s)
        raise error

    heat: Any = HeatDesk(Tables())  # type: ignore[arg-type]  # it is asked for no range
    ends = iter([False, False, False, True])
    heat.learn, heat._stop = learn, SimpleNamespace(wait=lambda _seconds: next(ends))
    heat._run()
    assert len(asks) == asked


@pytest.mark.parametrize(("celsius", "stays"), [(31.8, True), (25.0, False)])
def test_a_new_leader_keeps_the_taint_of_the_one_before_it_while_the_zone_is_hot(celsius: float, stays: bool):
    inlet = Reading(value=celsius, age_s=1.0, quality=Quality.FRESH)
    seen = {"west-r1": ZoneReadings(by_role={Role.INLET: inlet})}
    readings = Readings(grid_power_kw={}, inlets={}, supplies={}, problems={}, zones=seen)
    sensor = {"name": "inlet", "role": "Inlet", "unit": "Celsius", "query": "inlet"}
    zone = thermal_zone("west-r1", sensors=[sensor], limits={"inletHardCelsius": 32})
    on = [replace(one, overheated="west-r1") for one in nodes() if one.name.startswith("west")]
    made, desk, _ = acts(switch())
    heat = HeatDesk(acts=made)
    for turn in range(3):
        heat.turn(NOW + timedelta(seconds=15 * turn), [zone], readings, {"west-r1": 20.0}, {})
        heat.remember(assembled(view=view(on=on), thermal_zones=(zone,)))
    assert [bool(wanted) for wanted in desk.wanted] == [stays, stays]


@pytest.mark.parametrize("held_by", [switch(locked=True), switch(readable=False)], ids=["locked", "unreadable"])
def test_nothing_is_done_to_nodes_while_an_uninstall_may_be_under_way(held_by: Switch):
    made, desk, caps = acts(held_by)
    made.turn(NOW, LAYOUT, ["west-r1"], [order()], [load()], enforced=True)
    assert desk.wanted == [{}]
    assert caps.wanted == [{}]


def test_in_shadow_nothing_is_done_to_nodes():
    made, desk, caps = acts(switch())
    made.turn(NOW, LAYOUT, ["west-r1"], [order()], [load()], enforced=False)
    assert desk.wanted == [{}]
    assert caps.wanted == [{}]


def load(key: str = "a", *, knee_w: float = 420.0, capable: bool = True) -> HeatLoad:
    return HeatLoad(
        key=key, zone="west-r1", nodes=("west-0",), gpus=8, power_kw=5.0, started_at=NOW, rated_w=700.0, knee_w=knee_w,
        capable=capable,
    )  # fmt: skip


def order(key: str = "a", watts: float = 500.2) -> CapOrder:
    expires = NOW + timedelta(minutes=10)
    return CapOrder(key=key, nodes=("west-0",), watts_per_gpu=watts, expires=expires, reason="33.0 °C")


def test_a_node_gets_the_highest_cap_of_its_work_and_never_less_than_any_knee():
    caps = by_node([order("a", 430.0), order("b", 300.0), order("c", 600.0)], [load("a"), load("b", knee_w=450.4)])
    assert set(caps) == {"west-0"}, "an order about unknown work is nobody's"
    assert (caps["west-0"].cap_w, caps["west-0"].knee_w) == (451, 451)
    assert by_node([order("a")], [load("a", capable=False)]) == {}
    assert by_node([order("a")], [load("a")])["west-0"].cap_w == 501


@pytest.mark.parametrize(("capacity_kw", "kept_w"), [(500, {}), (5, {"west-0": 430})])
def test_a_cap_of_a_leader_before_us_goes_up_only_where_the_zone_carries_it(capacity_kw: int, kept_w: dict[str, int]):
    caps = Caps({"west-0": 430})
    heat = HeatDesk(acts=HeatActs(caps=caps, taints=Desk(), switch=switch(), max_taint_s=3600.0))
    train = job("train", held=False)
    pods = [running_pod("train-pod", "west-0", gpus=8, job_uid=train.key.uid)]
    zone = thermal_zone("west-r1", cooling={"capacityKilowatts": capacity_kw})
    found = [node("west-0", **{names.POWER_CAP_AGENT_LABEL: "true"}), node("west-1")]
    made = assembled(view=view(train, pods=pods, on=found), thermal_zones=(zone,))
    heat.remember(made, heat_loads(made, [train], pods, NOW))
    heat.turn(NOW, [zone], Readings(grid_power_kw={}, inlets={}, supplies={}, problems={}), {"west-r1": 5.0}, {})
    assert {name: cap.cap_w for name, cap in caps.wanted[0].items()} == kept_w


def test_what_is_capped_already_counts_with_what_its_cap_leaves_it():
    made, _, _ = acts(switch())
    held = HeatActs(caps=Caps({"west-0": 420}), taints=Desk(), switch=switch(), max_taint_s=3600.0)
    (found,) = held.as_capped([load()], NOW)
    assert (found.cap_w, found.power_kw) == (420, pytest.approx(8 * 0.42))
    assert held.capped(NOW) == {"west-0"}
    assert made.as_capped([load()], NOW) == (load(),)


class Listing:
    """An API server with PowerCaps, or without an answer."""

    def __init__(self, *caps: dict[str, Any], fails: bool = False) -> None:
        self.caps, self.fails, self.asked = caps, fails, 0

    def list_all(self, path: str) -> list[dict[str, Any]]:  # noqa: ARG002 - that of KubeClient
        self.asked += 1
        if self.fails:
            raise ApiError(0, "Unreachable", "no answer")
        return list(self.caps)


def power_cap(name: str, minutes: int, *, ours: bool = True) -> dict[str, Any]:
    labels = {names.MANAGED_BY_LABEL: names.FIELD_MANAGER} if ours else {}
    spec = {"capWatts": 430, "kneeWatts": 420, "expiryTime": format_time(NOW + timedelta(minutes=minutes))}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


def test_the_caps_that_stand_are_ours_and_have_not_ended_and_none_are_known_while_nobody_answers():
    server = Listing(power_cap("west-0", 5), power_cap("west-1", -5), power_cap("west-2", 5, ours=False))
    made = PowerCaps(server)  # type: ignore[arg-type]  # all that it asks
    assert made.standing(NOW) == made.standing(NOW) == {"west-0": 430}
    assert server.asked == 1
    silent = Listing(power_cap("west-0", 5), fails=True)
    made = PowerCaps(silent)  # type: ignore[arg-type]  # all that it asks
    assert made.standing(NOW) == made.standing(NOW) == {}
    assert silent.asked == 1, "nor asked again before there is something to write"


def test_a_load_is_capped_as_its_nodes_are_once_all_of_them_are():
    wide = replace(load(), nodes=("west-0", "west-1"))
    for standing, cap_w in (({"west-0": 430}, None), ({"west-0": 430, "west-1": 500}, 500)):
        made = HeatActs(caps=Caps(standing), taints=Desk(), switch=switch(), max_taint_s=3600.0)
        assert made.as_capped([wide], NOW)[0].cap_w == cap_w


def test_only_work_that_opted_in_on_nodes_with_an_agent_can_be_capped():
    agent = {names.POWER_CAP_AGENT_LABEL: "true"}
    found = [node("west-0", **agent), node("west-1"), node("west-2", **agent), node("west-3", **agent)]
    probe = bare_pod("probe", held=False, gpus=4)
    records = [job(n, held=False) for n in ("a", "b", "c")]
    pods = [running_pod(f"{r.key.name}-pod", f"west-{k}", gpus=4, job_uid=r.key.uid) for k, r in enumerate(records)]
    pods.append(running_pod("probe", "west-3", gpus=4, uid=probe.key.uid))
    records.append(probe)
    stranger = running_pod("rigid", "west-2", gpus=4)
    made = assembled(view=view(*records, pods=[*pods, stranger], on=found), thermal_zones=(thermal_zone("west-r1"),))
    loads = heat_loads(made, records, [*pods, stranger], NOW)
    assert {one.key: one.capable for one in loads} == {
        "uid-research-a": True, "uid-research-b": False, "uid-research-c": False, "uid-research-probe": True,
    }  # fmt: skip


def test_our_own_taint_closes_a_node_for_now_and_is_no_lasting_barrier():
    raw = {
        "metadata": {"name": "west-0", "labels": {ROW: "west-r1"}},
        "spec": {
            "taints": [
                {"key": names.OVERHEATED, "value": "west-r1", "effect": "NoSchedule", "timeAdded": format_time(NOW)}
            ]
        },
        "status": {"allocatable": {"nvidia.com/gpu": "8"}, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    found = parse_node(raw)
    assert found is not None
    assert (found.schedulable, found.taints, found.overheated) == (False, (), "west-r1")
    assert found.overheated_since == NOW
    assert lay_out((), (), [found]).overheated == {"west-0": "west-r1"}


def test_the_words_of_the_api_are_those_of_the_heat_code():
    # Two rooms that may not import each other; what is written in a spec must mean something to the models.
    for theirs, ours in ((SensorRole, Role), (SensorUnit, Unit), (LadderMeasure, Measure), (Claim, Side)):
        assert {str(word) for word in theirs} == {str(word) for word in ours}
