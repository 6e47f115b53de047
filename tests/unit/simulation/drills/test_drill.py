# SPDX-License-Identifier: Apache-2.0
"""Drills: what is counted, how orders take effect, and the command."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from embellie.cli.thermal_drill import drill as drill_command
from embellie.simulation.drill import count
from embellie.simulation.drill.commission import node_base_kw, worst_pue
from embellie.simulation.drill.jobs import DrillJob, throughput
from embellie.simulation.drill.operator import OperatorPolicy
from embellie.simulation.drill.resumes import resume
from embellie.simulation.drill.rig import Drill, Log, Rig, prepare
from embellie.simulation.drill.run import run_drills
from embellie.simulation.drill.scenarios import NAMES, Kind, course
from embellie.simulation.drill.site import DAY_S, PAUSE_S, Site
from embellie.simulation.drill.vary import varied
from embellie.simulation.plant import PlantSpec
from embellie.simulation.plant.spec import HallSpec, LoopSpec


def job(name: str = "j", **changes: Any) -> DrillJob:
    base: dict[str, Any] = {
        "id": name, "submit_s": 0.0, "work_s": 600.0, "pods": 1, "gpus_per_pod": 8, "watts": 640.0, "stated_s": 900.0,
        "latest_start_s": 7200.0, "priority": 1, "pausable": True, "checkpoint_s": 60.0, "checkpoint_every_s": 300.0,
    }  # fmt: skip
    return DrillJob(**(base | changes))


def log_of(drill: Drill, **truth: Any) -> Log:
    turns = len(next(iter(truth.values())))
    cool = {
        "inlet_c": np.full((turns, 1, 3), 20.0),
        "return_c": np.full((turns, 1), 20.0),
        "level": np.zeros((turns, 1, 3), dtype=np.int8),
        "slowed": np.zeros((turns, 1, 3), dtype=bool),
        "waiting": np.ones((turns, 1), dtype=bool),
    }
    flat = ("facility_kw", "rejected_kw", "delivered_kw", "demand_kw")
    arrays = cool | {name: np.zeros((turns, 1)) for name in flat} | {"heat_kw": np.zeros((turns, 1, 3))} | truth
    return Log(turn_s=60.0, **arrays)


ZONES = ("row-a", "row-b", "loop")


def test_a_stretch_over_a_limit_counts_once_and_short_breaks_do_not_split_it():
    drill = prepare("heatwave", 0, PlantSpec())
    inlet = np.full((60, 1, 3), 20.0)
    inlet[5:10, 0, 0] = inlet[12:14, 0, 0] = inlet[40:41, 0, 0] = 33.0
    found = count.violations(drill, log_of(drill, inlet_c=inlet), 0, ZONES)
    assert [(v.what, v.begin_s, v.end_s) for v in found] == [("row-a inlet", 300, 840), ("row-a inlet", 2400, 2460)]
    assert count.worst_margin_c(drill, log_of(drill, inlet_c=inlet), 0, ZONES) == pytest.approx(-1.0)


def test_a_contract_is_a_mean_of_a_quarter_of_an_hour_and_starts_anew_when_it_changes():
    drill = prepare("contract-lowered", 0, PlantSpec())
    (cut,) = [t for t in drill.course.troubles if t.kind is Kind.CONTRACT]
    turns = int(cut.begin_s / 60) + 120
    power = np.full((turns, 1), 0.9 * drill.contract_kw)
    power[20:25] = 1.2 * drill.contract_kw
    (found,) = count.violations(drill, log_of(drill, facility_kw=power), 0, ZONES)
    assert found.what == "contracted power"
    assert cut.begin_s + 840 <= found.begin_s <= cut.begin_s + 960


def test_only_starts_after_the_onset_are_blamed_for_a_loss_of_cooling_and_all_for_a_heatwave():
    loss, heat = prepare("loss-of-crac", 0, PlantSpec()), prepare("heatwave", 0, PlantSpec())
    begin = loss.course.troubles[0].begin_s
    over = count.Violation(what="row-a inlet", begin_s=begin + 600, end_s=begin + 900)
    assert count.later_than_s(loss, over) == begin
    assert count.later_than_s(heat, over) == 0.0


def test_a_measure_that_comes_back_within_a_quarter_of_an_hour_flaps():
    level = np.zeros((100, 1, 3), dtype=np.int8)
    level[10:20, 0, 0] = level[25:30, 0, 0] = 1
    level[60:70, 0, 0] = 1
    assert count.flaps(log_of(prepare("heatwave", 0, PlantSpec()), level=level), 0) == 1


def test_a_floor_counts_only_in_hours_in_which_the_network_would_take_it():
    drill = prepare("heatwave", 0, PlantSpec())
    given, demand = np.full((180, 1), 200.0), np.full((180, 1), 300.0)
    given[60:120] = 100.0
    demand[120:] = 0.0
    found = count.delivery(drill, log_of(drill, delivered_kw=given, demand_kw=demand), 0, np.ones(180, dtype=bool))
    assert (found.possible, found.met) == (2, 1)
    assert found.delivered_kwh == pytest.approx(200 + 100 + 200)


def test_a_paused_job_goes_on_drawing_power_through_checkpoint_and_grace_and_keeps_its_work():
    site = Site(PlantSpec(), [job(work_s=3000.0)])
    site.advance(0.0)
    assert site.start(site.waiting["j"], "row-a", 0.0, forced=False)
    assert site.added_kw.sum() == 0.0
    site.advance(30.0)
    full_kw = site.added_kw.sum()
    assert full_kw == pytest.approx(8 * 0.5 * 1.03)
    site.pause("j", 630.0)
    site.advance(660.0)
    assert site.added_kw.sum() == pytest.approx(full_kw)
    site.advance(630.0 + 60.0 + 120.0)
    assert site.added_kw.sum() == 0.0
    assert site.paused["j"].left_s == pytest.approx(3000.0 - 600.0)
    assert site.tally.lost_gpu_s == pytest.approx(180.0 * 8)


def test_pods_that_start_do_nothing_useful_yet_nor_do_those_that_are_told_to_pause_meanwhile():
    site = Site(PlantSpec(), [job(name, work_s=3000.0) for name in ("runs", "paused", "late")])
    site.advance(0.0)
    site.start(site.waiting["runs"], "row-a", 0.0, forced=False)
    site.start(site.waiting["paused"], "row-a", 0.0, forced=False)
    site.advance(20.0)
    site.pause("paused", 20.0)
    for now_s in (30.0, 140.0, 600.0):
        site.advance(now_s)
    site.start(site.waiting["late"], "row-a", 600.0, forced=False)
    site.advance(620.0)
    site.settle()
    assert site.tally.starting_gpu_s == pytest.approx((30.0 + 20.0 + 20.0) * 8)
    assert site.tally.useful_gpu_s == pytest.approx((620.0 - 30.0) * 8)


def test_what_runs_took_is_kept_but_of_those_that_were_paused():
    site = Site(PlantSpec(), [job("long", work_s=5400.0, stated_s=3600.0), job("paused", stated_s=3600.0)])
    site.advance(0.0)
    for name in ("long", "paused"):
        site.start(site.waiting[name], "row-a", 0.0, forced=False)
    site.advance(60.0)
    site.pause("paused", 60.0)
    site.advance(600.0)
    site.start(site.paused["paused"].job, "row-a", 600.0, forced=False)
    site.advance(630.0)
    site.advance(5460.0)
    assert not site.running
    assert site.tally.took == [(3600.0, 5460.0)]


class FullRoom:
    """A desk whose shield refuses everything, and its controller."""

    b, no_forced_from_s, starts_until_s = 0, float("inf"), float("inf")

    def __init__(self, site: Site) -> None:
        self.site, self.jobs = site, self
        self.back: list[str] = []

    def refuses(self, *_: object) -> bool:
        return True

    def worst_kw(self, _: DrillJob) -> float:
        return 5.0

    def resumed(self, key: str) -> None:
        self.back.append(key)


def full_room() -> Any:
    """A full room that paused its job `j`, which ran on row-a, at 60 s."""
    site = Site(PlantSpec(), [job(work_s=80_000.0)])
    site.advance(0.0)
    site.start(site.waiting["j"], "row-a", 0.0, forced=False)
    site.advance(60.0)
    site.pause("j", 60.0)
    site.advance(600.0)
    return FullRoom(site)


def test_a_pause_lasts_four_hours_at_most_and_comes_once_a_day():
    full = full_room()
    site = full.site
    resume(full, ["j"], 600.0, full)
    resume(full, [], 60.0 + PAUSE_S - 30.0, full)
    assert "j" in site.paused
    resume(full, [], 60.0 + PAUSE_S, full)
    run = site.running["j"]
    assert (run.zone, full.back) == ("row-a", ["0|j"])
    assert not run.may_pause(60.0 + PAUSE_S)
    assert run.may_pause(60.0 + DAY_S)


def test_without_what_bounds_force_a_pause_in_a_full_room_does_not_end():
    full = full_room()
    full.no_forced_from_s = 600.0
    resume(full, [], 60.0 + 2.0 * PAUSE_S, full)
    assert "j" in full.site.paused


@pytest.mark.parametrize(("no_forced_from_s", "started", "forced"), [(np.inf, 3, 2), (120.0, 3, 2), (0.0, 1, 0)])
def test_of_starts_that_are_due_in_one_turn_only_those_that_fit_beside_each_other_are_not_forced(
    no_forced_from_s: float, started: int, forced: int
):
    small = PlantSpec(hall=HallSpec(rows=1, racks_per_row=1, nodes_per_rack=4), loop=LoopSpec(nodes=0))
    due = tuple(job(name, latest_start_s=0.0) for name in "abc")
    drill = replace(prepare("heatwave", 0, small), jobs=due)
    # Each of them alone would keep the contract, and no two.
    base_kw = 4 * node_base_kw(small, liquid=False)
    rig = Rig([replace(drill, contract_kw=(base_kw + 8.0) * worst_pue(small))])
    rig.run(OperatorPolicy(rig, no_forced_from_s=[no_forced_from_s]), 240.0)
    (site,) = rig.sites
    assert (len(site.running), len(site.tally.forced)) == (started, forced)


def test_an_eviction_without_a_checkpoint_loses_the_work_since_the_last_one():
    site = Site(PlantSpec(), [job(work_s=3000.0), job("k", work_s=3000.0, pausable=False)])
    site.advance(0.0)
    for name in ("j", "k"):
        site.start(site.waiting[name], "row-a", 0.0, forced=False)
    site.advance(30.0)
    for name in ("j", "k"):
        site.pause(name, 430.0, orderly=False)
    site.advance(600.0)
    assert site.paused["j"].left_s == pytest.approx(2600.0 + 130.0)
    assert site.paused["k"].left_s == pytest.approx(3000.0)


def test_a_cap_lowers_power_at_once_and_speed_little_until_the_knee():
    site = Site(PlantSpec(), [job(work_s=3000.0)])
    site.advance(0.0)
    site.start(site.waiting["j"], "loop", 0.0, forced=False)
    site.advance(30.0)
    site.cap("j", 420.0, 60.0)
    assert site.added_kw.sum() == pytest.approx(8 * 0.28 * 1.03)
    assert 1.0 == throughput(700.0, 640.0) > throughput(450.0, 640.0) > 0.7 > throughput(220.0, 640.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_is_the_same_for_the_same_seed_and_another_for_another(name: str):
    one, same, other = course(name, 3), course(name, 3), course(name, 4)
    assert one.troubles == same.troubles
    assert one.weather.dry_c.tolist() == same.weather.dry_c.tolist()
    assert (one.troubles, one.weather.dry_c.tolist()) != (other.troubles, other.weather.dry_c.tolist())
    assert all(t.begin_s < one.span_s for t in one.troubles)


def test_the_room_that_is_drilled_differs_from_its_drawing_but_not_in_what_can_be_counted():
    spec = PlantSpec()
    built = varied(spec, np.random.default_rng(1))
    assert built.hall.crac_coil_kw_per_k != spec.hall.crac_coil_kw_per_k
    assert abs(built.loop.dry_cooler_kw_per_k / spec.loop.dry_cooler_kw_per_k - 1) <= spec.spread
    assert (built.hall.crac_units, built.limits, built.sensors) == (spec.hall.crac_units, spec.limits, spec.sensors)


def test_the_command_names_what_it_does_not_know(tmp_path: Path):
    done = CliRunner().invoke(drill_command, ["--scenario", "earthquake"])
    assert done.exit_code == 2
    assert "'earthquake' is not one of heatwave" in done.output
    bad = tmp_path / "plant.yaml"
    bad.write_text("hall: {fans: 3}")
    done = CliRunner().invoke(drill_command, ["--scenario", "heatwave", "--plant", str(bad)])
    assert done.exit_code == 1
    assert "hall.fans" in done.output


def test_a_policy_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="policy must be one of"):
        run_drills(["heatwave"], [0], "luck", PlantSpec())
