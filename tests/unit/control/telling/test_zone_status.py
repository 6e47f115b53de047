# SPDX-License-Identifier: Apache-2.0
"""What zones and policies say about themselves: each condition that is not good says how to mend it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embellie.api.conditions import Condition
from embellie.api.energypolicy import EnergyPolicyStatus
from embellie.api.gridstatus import GridZoneStatus
from embellie.api.thermalzone import ThermalZoneStatus
from embellie.control.acting.switch_keeper import ON
from embellie.control.deciding.turn import decide
from embellie.control.recording.prices import Prices
from embellie.control.telling.thermal_status import thermal_zone_status
from embellie.control.telling.zone_status import best_window, grid_zone_status, policy_status
from embellie.domain.forecast import OnSitePower
from embellie.domain.reasons import Rung
from embellie.domain.snapshot import Quality, Reading
from embellie.telemetry.intensity import IntensityFolder
from embellie.telemetry.tariffs import TariffFolder
from embellie_testbed.views import (
    NOW,
    ZONE,
    assembled,
    forecast,
    grid_zone,
    job,
    nodes,
    policy,
    thermal_zone,
    view,
)

WALL = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
YOUNG = "2026-02-01T00:00:00Z"
HOT = Reading(value=33.4, age_s=1.0, quality=Quality.FRESH)
SENSORS = [{"name": n, "role": r, "unit": "Celsius", "query": "q"} for n, r in (("in", "Inlet"), ("out", "Supply"))]


def condition(status: Any, type_: str) -> Condition:
    return next(c for c in status.conditions if c.type == type_)


def grid(name: str = "west", problems: dict[str, str] | None = None, **changes: Any) -> GridZoneStatus:
    made = assembled(**changes)
    zone = next(z for z in made.grid_zones if z.metadata.name == name)
    return grid_zone_status(zone, made, problems or {}, WALL)


def thermal(spec: dict[str, Any] | None = None, problems: dict[str, str] | None = None, **changes: Any):
    made = assembled(thermal_zones=(thermal_zone("west-r1", **(spec or {})),), **changes)
    return thermal_zone_status(made.thermal_zones[0], made, problems or {}, WALL)


def energy_policy(name: str, *policies: Any, workloads: Any = ()) -> EnergyPolicyStatus:
    made = assembled(*workloads, policies=policies)
    records = decide(made, workloads, {}, frozenset(), 100).records
    return policy_status(next(p for p in policies if p.metadata.name == name), made.table, records, WALL, ON)


def test_a_share_that_no_source_tells_is_absent_and_not_zero():
    untold = replace(forecast("west"), renewable_share=None)
    assert grid(forecasts={"west": untold}).renewable_percent is None


def test_a_good_zone_says_what_it_has_and_when_it_is_clean():
    status = grid()
    assert (status.nodes, status.gpus, status.gpus_free) == (4, 32, 32)
    assert (status.carbon_intensity_grams_per_kilowatt_hour, status.renewable_percent) == (500, 30)
    assert status.next_best_window is not None
    assert status.next_best_window.start_time == datetime(2026, 7, 1, 19, tzinfo=UTC)
    assert {c.type: str(c.status) for c in status.conditions} == {
        "Ready": "True",
        "ForecastAvailable": "True",
        "NodesExclusive": "True",
        "PowerReadable": "Unknown",
        "PromisesKept": "True",
    }


def test_a_forecast_of_hours_ago_tells_this_hour_and_no_window_that_is_over():
    begun = NOW.replace(minute=0) - timedelta(hours=3)
    status = grid(forecasts={"west": forecast("west", [50.0] * 3 + [400.0, 300.0] + [350.0] * 20, start=begun)})
    assert status.carbon_intensity_grams_per_kilowatt_hour == 400
    assert status.next_best_window is not None
    assert status.next_best_window.start_time == begun + timedelta(hours=4)


def test_a_zone_that_selects_no_node_says_how_to_mend_it():
    status = grid(view=view(on=()))
    ready = condition(status, "Ready")
    assert (str(ready.status), ready.reason) == ("False", "NoNodes")
    assert "kubectl get nodes --show-labels" in ready.message
    assert "spec.nodeSelector" in ready.message


def test_zones_that_share_nodes_both_say_so_and_only_the_oldest_counts_them():
    zones = (grid_zone("west"), grid_zone("young", created=YOUNG, nodeSelector={ZONE: "west"}))
    statuses = {name: grid(name, grid_zones=zones) for name in ("west", "young")}
    for status in statuses.values():
        shared = condition(status, "NodesExclusive")
        assert (str(shared.status), shared.reason) == ("False", "SharedNodes")
        assert "west-0" in shared.message
        assert "labels of one zone only" in shared.message
    assert (statuses["west"].gpus, statuses["young"].gpus) == (32, 0)
    assert str(condition(statuses["young"], "Ready").status) == "False"


def test_without_a_region_or_a_forecast_a_zone_says_that_nothing_waits():
    without = grid(grid_zones=(grid_zone("west", gridRegion=None),), forecasts={})
    assert condition(without, "ForecastAvailable").reason == "NoGridRegion"
    missing = condition(grid(forecasts={}), "ForecastAvailable")
    assert (str(missing.status), missing.reason) == ("False", "NoForecast")
    assert "US-CISO" in missing.message
    assert grid(forecasts={}).forecast is None


def test_a_zone_with_a_feed_and_without_a_region_says_how_its_forecast_stands():
    fed = grid_zone("west", gridRegion=None, sources={"primary": {"kind": "EIA", "area": "CISO"}})
    assert condition(grid(grid_zones=(fed,)), "ForecastAvailable").reason == "Forecast"
    missing = condition(grid(grid_zones=(fed,), forecasts={}), "ForecastAvailable")
    assert missing.reason == "NoForecast"
    assert "for west:" in missing.message


@pytest.mark.parametrize(
    ("rung", "reason"), [(Rung.LIVE, "Forecast"), (Rung.LAST_GOOD, "Forecast"), (Rung.CLIMATOLOGY, "Degraded")]
)
def test_the_rung_of_the_ladder_is_told(rung: Rung, reason: str):
    status = grid(forecasts={"west": replace(forecast("west"), rung=rung)})
    assert condition(status, "ForecastAvailable").reason == reason
    assert status.forecast is not None
    assert str(status.forecast.rung) == str(rung)


def test_no_forecast_file_can_make_a_status_that_cannot_be_written():
    strange = replace(forecast("west"), skill_percent=10**9, model_id="")
    status = grid(forecasts={"west": strange})
    assert status.forecast is not None
    assert (status.forecast.skill_percent, status.forecast.model_name) == (100, None)
    later = replace(forecast("west"), start=NOW + timedelta(minutes=30))
    assert grid(forecasts={"west": later}).carbon_intensity_grams_per_kilowatt_hour == 500


def test_a_power_meter_that_cannot_be_read_says_why():
    zones = (grid_zone("west", powerSensor={"query": "q", "unit": "Kilowatt"}),)
    broken = condition(grid(problems={"gridzone/west/power": "no series"}, grid_zones=zones), "PowerReadable")
    assert (str(broken.status), broken.message) == ("False", "no series")
    assert str(condition(grid(grid_zones=zones), "PowerReadable").status) == "True"


def test_a_condition_keeps_its_time_until_its_status_changes():
    made = assembled()
    zone = made.grid_zones[0]
    first = grid_zone_status(zone, made, {}, WALL)
    later = WALL + timedelta(hours=1)
    again = grid_zone_status(zone.model_copy(update={"status": first}), made, {}, later)
    assert condition(again, "Ready").last_transition_time == WALL
    gone = assembled(view=view(on=()))
    changed = grid_zone_status(zone.model_copy(update={"status": first}), gone, {}, later)
    assert condition(changed, "Ready").last_transition_time == later
    assert condition(changed, "Ready").observed_generation == 1


def test_a_window_shorter_than_four_slots_is_none():
    assert best_window(forecast("west", [100.0] * 3), 0) is None
    assert best_window(forecast("west", [100.0] * 4), 1) is None


def test_a_thermal_zone_in_order_says_its_headroom_and_what_binds():
    inlet = Reading(value=24.2, age_s=1.0, quality=Quality.FRESH)
    status = thermal({"sensors": SENSORS, "cooling": {"capacityKilowatts": 50}}, inlets={"west-r1": inlet}, supplies={})
    assert isinstance(status, ThermalZoneStatus)
    assert (str(status.state), status.inlet_celsius, status.supply_celsius) == ("Normal", 25, None)
    assert (status.headroom_kilowatts, status.binding_limit) == (37, "CoolingCapacity")
    assert str(condition(status, "SensorsTrusted").status) == "True"


def test_sensors_that_cannot_be_trusted_are_named_with_their_reasons():
    problems = {
        "thermalzone/west-r1/in": "no series",
        "thermalzone/west-r1/out": "900 is absurd",
        "thermalzone/west-r10/in": "another zone's",
    }
    missing = Reading(value=None, age_s=0.0, quality=Quality.MISSING)
    status = thermal({"sensors": SENSORS}, problems, inlets={"west-r1": missing})
    trusted = condition(status, "SensorsTrusted")
    assert (str(trusted.status), str(status.state)) == ("False", "Unknown")
    assert "in: no series; out: 900 is absurd" in trusted.message
    assert "another" not in trusted.message
    assert "worst case" in trusted.message


def test_a_zone_without_sensors_says_that_the_worst_case_holds():
    status = thermal()
    assert str(condition(status, "SensorsTrusted").status) == "Unknown"
    assert status.headroom_kilowatts is None


def test_a_zone_over_its_hard_limit_says_so():
    status = thermal({"sensors": SENSORS}, inlets={"west-r1": HOT})
    assert (str(status.state), status.inlet_celsius) == ("OverLimit", 34)
    assert str(condition(status, "WithinLimit").status) == "False"
    assert status.binding_limit == "InletReading"


def test_thermal_zones_that_share_nodes_both_say_so():
    zones = (thermal_zone("west-r1"), thermal_zone("hall", created=YOUNG, nodeSelector={ZONE: "west"}))
    made = assembled(thermal_zones=zones)
    for zone in zones:
        status = thermal_zone_status(zone, made, {}, WALL)
        assert str(condition(status, "NodesExclusive").status) == "False"


def test_a_thermal_zone_without_nodes_counts_at_its_worst_and_says_what_to_mend_and_other_zones_go_on():
    inlet = Reading(value=24.0, age_s=1.0, quality=Quality.FRESH)
    spec = {"sensors": SENSORS, "cooling": {"capacityKilowatts": 500}}
    zones = (thermal_zone("empty", nodeSelector={ZONE: "nowhere"}, **spec), thermal_zone("west-r1", **spec))
    made = assembled(thermal_zones=zones, inlets={"empty": inlet, "west-r1": inlet}, supplies={})
    empty, fine = (thermal_zone_status(zone, made, {}, WALL) for zone in zones)
    for type_ in ("Ready", "AdmissionOpen"):
        told = condition(empty, type_)
        assert str(told.status) == "False"
        assert "spec.nodeSelector" in told.message
        assert "--show-labels" in told.message
        assert str(condition(fine, type_).status) == "True"
    assert (str(empty.state), empty.headroom_kilowatts, empty.nodes) == ("Limited", 0, 0)
    assert str(fine.state) == "Normal"
    assert fine.headroom_kilowatts > 0


def test_a_spec_that_contradicts_itself_closes_its_zone_in_words_also_where_nothing_was_learnt():
    status = thermal({"limits": {"inletSoftCelsius": 33, "inletHardCelsius": 32}})
    told = condition(status, "AdmissionOpen")
    assert str(told.status) == "False"
    assert "spec.limits.inletSoftCelsius" in told.message
    assert status.headroom_kilowatts <= 0
    assert status.binding_limit == "AdmissionClosed"


def test_the_loser_of_two_policies_names_the_winner_and_the_winner_holds():
    loser, winner = policy("loser"), policy("winner", priority=1)
    work = (job(duration="2h"),)
    lost = energy_policy("loser", loser, winner, workloads=work)
    won = energy_policy("winner", loser, winner, workloads=work)
    overlap = condition(lost, "Overlapping")
    assert (str(overlap.status), "winner" in overlap.message) == ("True", True)
    assert str(condition(won, "Overlapping").status) == "False"
    assert (lost.workloads_held, won.workloads_held, won.gpus_held) == (0, 1, 8)


@pytest.mark.parametrize(("mode", "holding"), [("enforce", ("True", "SwitchOn")), ("shadow", ("Unknown", "Shadow"))])
def test_a_policy_says_whether_new_work_is_held_under_it(mode: str, holding: tuple[str, str]):
    said = condition(energy_policy("one", policy("one", mode=mode)), "Holding")
    assert (str(said.status), said.reason) == holding


def test_many_winners_with_long_names_still_make_a_status():
    winners = [policy(f"{'w' * 240}-{i:03}", priority=1) for i in range(9)]
    overlap = condition(energy_policy("loser", policy("loser"), *winners), "Overlapping")
    assert len(overlap.message) <= 1024


def test_a_policy_that_selects_no_namespace_says_so():
    status = energy_policy("nobody", policy("nobody", namespaceSelector={"matchNames": ["nowhere"]}))
    ready = condition(status, "Ready")
    assert (str(ready.status), ready.reason, status.namespaces) == ("False", "NoNamespaces", 0)


def test_a_policy_over_everything_says_so_and_what_it_never_includes():
    status = energy_policy("all", policy("all"))
    assert status.namespaces == 2
    message = condition(status, "Ready").message
    assert message == "It applies in every namespace; kube-system and our own are never included."
    some = energy_policy("some", policy("some", namespaceSelector={"matchNames": ["research"]}))
    assert condition(some, "Ready").message.startswith("It applies in its namespaces;")


def test_a_shared_node_is_named_even_among_many():
    zones = (grid_zone("west"), grid_zone("young", created=YOUNG, nodeSelector={ZONE: "west"}))
    status = grid(grid_zones=zones, view=view(on=nodes(("west",), each=500)))
    message = condition(status, "NodesExclusive").message
    assert message.startswith("500 nodes")
    assert len(message) < 300


def test_a_zone_names_whose_data_it_rests_on_and_why_its_forecast_is_no_better():
    told = replace(
        forecast("west"),
        attribution=("RTE, éCO2mix",),
        reasons=("electricitymaps stands in for eco2mix: 503", "x" * 5000),
        on_site=(OnSitePower(name="roof", kind="Solar", rung=Rung.LIVE, power_kw=np.full((3, 48), 120.4)),),
    )
    status = grid(forecasts={"west": told})
    assert status.forecast is not None
    assert status.forecast.attribution == ("RTE, éCO2mix",)
    assert len(status.forecast.reasons) == 2
    assert status.on_site_kilowatts == 120
    assert condition(status, "ForecastAvailable").message.endswith("Electricitymaps stands in for eco2mix: 503.")
    low = replace(told, rung=Rung.CALENDAR)
    assert "503" in condition(grid(forecasts={"west": low}), "ForecastAvailable").message
    assert grid().on_site_kilowatts is None


def test_the_best_window_is_four_hours_long_whatever_the_forecasts_step() -> None:
    whole = forecast("west")
    fine = replace(
        whole,
        step=whole.step / 4,
        **{
            name: np.repeat(getattr(whole, name), 4, axis=-1)
            for name in ("carbon_intensity_g_per_kwh", "carbon_intensity_mean_g_per_kwh", "renewable_share")
        },
        ambient_temperature_c=None,
    )
    one, two = best_window(whole, 0), best_window(fine, 0)
    assert one is not None
    assert two is not None
    assert one == two
    assert two.end_time - two.start_time == timedelta(hours=4)


@pytest.mark.parametrize("minutes", [60, 30, 15])
def test_accounts_take_the_slot_of_a_forecast_that_an_interval_lies_in(minutes: int, tmp_path: Path) -> None:
    step = timedelta(minutes=minutes)
    values = [10.0 * (k + 1) for k in range(96)]
    told = replace(forecast("west", values), step=step)
    snapshot = assembled().snapshot
    zone = replace(snapshot.grid_zones[0], name="west", forecast=told)
    prices = Prices(IntensityFolder(tmp_path), TariffFolder(tmp_path))
    prices.observe(replace(snapshot, grid_zones=(zone,)))
    for k in range(12):
        begin = snapshot.now + k * timedelta(minutes=5)
        (price,) = prices.of("west", begin, begin + timedelta(minutes=5))
        assert price.g_per_kwh == values[(begin - told.start) // step]
