# SPDX-License-Identifier: Apache-2.0
"""The operator's plan brings work into hours that need its heat, says so, and proves its bound with it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest
from snapshots import gang_at, grid_zone_at, thermal_zone_state, workload_at

from embellie.domain.heat import HeatOutlook
from embellie.domain.plan import Action, Decision
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Cell, Snapshot, ThermalZoneState, Weights, Workload
from embellie.planning import plan

NOW = datetime(2026, 1, 14, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
NIGHT = slice(7, 15)
"""20:00 to 4:00."""

work = partial(workload_at, NOW)


def network(floor_kw: float, g_per_kwh: float = 224.0, hours: slice = NIGHT, **changes: object) -> ThermalZoneState:
    """A zone whose heat a network is owed in these hours."""
    floor = np.zeros(48)
    floor[hours] = floor_kw
    looking = HeatOutlook(
        start=NOW,
        step=HOUR,
        removable_kw=np.full(48, np.inf),
        pue=np.ones(48),
        floor_kw=floor,
        floor_g_per_kwh=g_per_kwh,
    )
    return replace(thermal_zone_state(outlook=looking), **changes)  # type: ignore[arg-type]


def scene(*workloads: Workload, zone: ThermalZoneState | None, nodes: int = 8, **changes: object) -> Snapshot:
    """A day on which the afternoon is a little cleaner than the night."""
    carbon = [100.0] * 7 + [150.0] * 8 + [200.0] * 33
    base = Snapshot(
        now=NOW,
        turn_s=15.0,
        workloads=workloads,
        cells=(
            Cell(
                name="west",
                grid_zone="west",
                thermal_zone="hall",
                gpus_total=8 * nodes,
                node_free_gpus=(8,) * nodes,
                pue=1.0,
            ),
        ),
        grid_zones=(grid_zone_at(NOW, carbon, base_power_kw=0.0),),
        thermal_zones=() if zone is None else (zone,),
        running=(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def decided(snapshot: Snapshot) -> list[Decision]:
    found = plan(snapshot)
    assert found.lower_bound_g is not None
    assert found.lower_bound_g <= found.objective_g * (1 + 1e-9)
    return list(found.decisions)


def in_the_night(decision: Decision) -> bool:
    return NIGHT.start <= (decision.start - NOW) / HOUR < NIGHT.stop


def test_a_job_waits_for_a_night_that_needs_its_heat_and_says_how_much_that_spares() -> None:
    (alone,) = decided(scene(work(), zone=None))
    assert (alone.action, alone.reason) == (Action.RELEASE, Reason.BEST_NOW)
    (found,) = decided(scene(work(), zone=network(8.0)))
    assert (found.action, found.reason) == (Action.HOLD, Reason.HEAT_DELIVERY)
    assert found.start == NOW + 7 * HOUR
    # 4 kW for two hours, each kWh of which spares 224 g; the run itself emits 150 instead of 100 g/kWh.
    assert "spares it 1.79 kg CO2e, 1.79 kg more than" in found.message
    assert "emits 1.2 kg then and 800 g now" in found.message
    assert found.start <= found.likely_start_p90 <= found.latest_start


def test_what_the_network_burns_decides() -> None:
    assert decided(scene(work(), zone=network(8.0, g_per_kwh=40.0)))[0].reason is Reason.BEST_NOW
    assert decided(scene(work(), zone=network(8.0, g_per_kwh=0.0)))[0].reason is Reason.BEST_NOW
    # Waiting must save what the policy asks of the first start: here 13 of 100 g/kWh.
    asked = work(minimum_saving_percent=15.0)
    assert decided(scene(asked, zone=network(8.0, g_per_kwh=63.0)))[0].action is Action.RELEASE
    asked = work(minimum_saving_percent=12.0)
    assert decided(scene(asked, zone=network(8.0, g_per_kwh=63.0)))[0].action is Action.HOLD


def test_work_that_would_wait_for_cleaner_hours_starts_where_heat_is_short_now() -> None:
    dirty_now = grid_zone_at(NOW, [150.0] * 7 + [100.0] * 41, base_power_kw=0.0)
    (alone,) = decided(scene(work(), zone=None, grid_zones=(dirty_now,)))
    assert alone.reason is Reason.CLEANER_WINDOW
    (found,) = decided(scene(work(), zone=network(8.0, hours=slice(0, 4)), grid_zones=(dirty_now,)))
    assert (found.action, found.reason) == (Action.RELEASE, Reason.HEAT_DELIVERY)
    assert "burns 1.79 kg CO2e less than for the start that the grid alone would choose." in found.message


def test_the_words_are_true_for_a_policy_that_weighs_other_things_than_carbon() -> None:
    asked = work(weights=Weights(carbon=1.0, renewable=1.0))
    (found,) = decided(scene(asked, zone=network(8.0)))
    assert found.reason is Reason.HEAT_DELIVERY
    assert "its policy alone (carbon 1 : renewable share 1) would choose" in found.message


def test_no_more_work_waits_for_the_night_than_the_network_needs() -> None:
    jobs = [work(f"w{i}") for i in range(8)]
    found = decided(scene(*jobs, zone=network(8.0, hours=slice(7, 9))))
    assert sum(in_the_night(d) for d in found) == 2
    assert {d.reason for d in found} == {Reason.HEAT_DELIVERY, Reason.BEST_NOW}


def test_what_runs_and_what_idle_nodes_draw_already_serves_the_network() -> None:
    running = gang_at(NOW, expected_end_p50=NOW + 30 * HOUR, expected_end_p90=NOW + 40 * HOUR)
    assert decided(scene(work(), zone=network(4.0), running=(running,)))[0].reason is Reason.BEST_NOW
    short = replace(running, expected_end_p50=NOW + 5 * HOUR)
    assert decided(scene(work(), zone=network(4.0), running=(short,)))[0].reason is Reason.HEAT_DELIVERY
    assert decided(scene(work(), zone=network(4.0, base_power_kw=4.0)))[0].reason is Reason.BEST_NOW


def test_the_latest_start_and_every_limit_come_before_heat() -> None:
    soon = work(latest_start=NOW + 5 * HOUR)
    assert decided(scene(soon, zone=network(100.0, g_per_kwh=2000.0)))[0].reason is Reason.BEST_NOW
    at_bound = work(latest_start=NOW)
    (now,) = plan(scene(at_bound, zone=network(100.0, g_per_kwh=2000.0))).decisions
    assert (now.action, now.reason) == (Action.RELEASE, Reason.BOUND_REACHED)
    tight = network(100.0, g_per_kwh=2000.0)
    assert tight.outlook is not None
    removable = np.full(48, 100.0)
    removable[NIGHT] = 4.9
    closed = replace(tight, outlook=replace(tight.outlook, removable_kw=removable))
    assert decided(scene(work(), zone=closed))[0].reason is Reason.BEST_NOW


def test_the_objective_counts_what_the_network_burns_for_what_it_lacks() -> None:
    found = plan(scene(work(), zone=network(8.0)))
    # 4 kW of what is owed for eight hours, less the 8 kWh that the job gives; and the job in dirtier hours. The other 4
    # kW no work here could give.
    assert found.objective_g == pytest.approx(1200.0 + 224.0 * (32.0 - 8.0))
    assert found.lower_bound_g == pytest.approx(found.objective_g, rel=1e-6)


def test_a_run_that_starts_in_the_middle_of_an_hour_serves_the_network_to_its_end() -> None:
    snapshot = scene(work(duration_p50_s=7200.0, duration_p90_s=7200.0), zone=network(8.0, hours=slice(0, 8)))
    found = plan(replace(snapshot, now=NOW + HOUR / 2))
    assert found.decisions[0].action is Action.RELEASE
    # 4 kW of what is owed for seven and a half hours, less the 8 kWh of the run.
    assert found.objective_g == pytest.approx(800.0 + 224.0 * (30.0 - 8.0))


@pytest.mark.parametrize("minutes", [0, 20, 59])
def test_the_bound_holds_in_the_middle_of_an_hour_and_for_odd_durations(minutes: int) -> None:
    snapshot = scene(
        *(work(f"w{i}", duration_p50_s=3000.0 + 977.0 * i, duration_p90_s=4000.0 + 1400.0 * i) for i in range(9)),
        zone=network(12.0),
        nodes=3,
    )
    found = plan(replace(snapshot, now=NOW + timedelta(minutes=minutes)))
    assert found.lower_bound_g is not None
    assert 0.9 * found.objective_g < found.lower_bound_g <= found.objective_g * (1 + 1e-9)


def test_an_outlook_without_a_value_of_heat_is_refused() -> None:
    with pytest.raises(ValueError, match="floor_g_per_kwh"):
        network(8.0, g_per_kwh=-1.0)
