# SPDX-License-Identifier: Apache-2.0
"""Each decision names what binds it, tenants share waiting and room, and policies weigh hours as they say."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest
from snapshots import gang_at, thermal_zone_state, workload_at

from embellie.cli.explain import explain
from embellie.cli.plan_tenants import evenness, table, use_of
from embellie.cli.words import grams
from embellie.cluster.plans import KnownPlan
from embellie.cluster.records import UNCONSTRAINED, WorkloadRecord
from embellie.control.work.tenants import tenant_use
from embellie.domain.forecast import Forecast
from embellie.domain.heat import HeatOutlook
from embellie.domain.plan import Action, Decision
from embellie.domain.reasons import Reason, Rung, SignalKind
from embellie.domain.snapshot import (
    Cell,
    GridZoneState,
    Snapshot,
    TenantUse,
    Weights,
    Workload,
    WorkloadKey,
    WorkloadKind,
)
from embellie.planning import plan
from embellie.planning.fairness import jain, standing

NOW = datetime(2026, 7, 1, 13, tzinfo=UTC)
HOUR = timedelta(hours=1)
WAVE = [400.0] * 6 + [100.0] * 2 + [150.0] * 2 + [400.0] * 38
UNEVEN = {"rich": TenantUse(gpu_h=90, waited_gpu_h=0), "poor": TenantUse(gpu_h=10, waited_gpu_h=30)}


work = partial(workload_at, NOW)


def scene(*workloads: Workload, nodes: int = 1, carbon: list[float] | None = None, **changes: object) -> Snapshot:
    mean = np.array(carbon or WAVE)
    told: dict[str, object] = {
        name: changes.pop(name) for name in ("price_per_mwh", "renewable_share") if name in changes
    }
    forecast = Forecast(
        **{  # type: ignore[arg-type]
            "zone": "west",
            "issued_at": NOW,
            "start": NOW,
            "step": HOUR,
            "quantile_levels": (0.5,),
            "carbon_intensity_g_per_kwh": mean[None],
            "carbon_intensity_mean_g_per_kwh": mean,
            "renewable_share": np.full((1, mean.size), 0.5),
            "signal_kind": SignalKind.AVERAGE_LIFECYCLE,
            "rung": Rung.LIVE,
            "model_id": "test",
            **told,
        }
    )
    grid = GridZoneState(
        name="west", contracted_power_kw=None, base_power_kw=0.0, measured_power_kw=None, forecast=forecast
    )
    limited = changes.pop("contracted_power_kw", None)
    if limited is not None:
        grid = replace(grid, contracted_power_kw=limited)  # type: ignore[arg-type]
    base = Snapshot(
        now=NOW,
        turn_s=15.0,
        workloads=workloads,
        cells=(
            Cell(
                name="west",
                grid_zone="west",
                thermal_zone="hall" if "thermal_zones" in changes else None,
                gpus_total=8 * nodes,
                node_free_gpus=(8,) * nodes,
                pue=1.0,
            ),
        ),
        grid_zones=(grid,),
        thermal_zones=(),
        running=(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def decisions(snapshot: Snapshot) -> dict[str, Decision]:
    return {d.key.name: d for d in plan(snapshot).decisions}


def why(decision: Decision) -> str:
    """Return what `kubectl embellie why` prints for the decision."""
    status = {"state": "Held", "reason": str(decision.reason), "message": decision.message}
    job = {
        "kind": "Job",
        "metadata": {
            "name": "a",
            "namespace": "team",
            "labels": {"embellie.io/flex": "patient", "embellie.io/held": "true"},
        },
    }
    held = {"spec": {"latestStartTime": decision.latest_start.isoformat()}, "status": status}
    return "\n".join(explain(held, job, now=NOW))


def test_waiting_for_a_cleaner_window_says_only_that() -> None:
    one = decisions(scene(work()))["a"]
    assert (one.action, one.reason) == (Action.HOLD, Reason.CLEANER_WINDOW)
    assert "goes to other work" not in one.message


def test_the_sentence_and_the_plans_whole_grams_are_rounded_to_the_same_kilograms() -> None:
    one = decisions(scene(work(), carbon=[600.0] * 6 + [3804.7 / 8] * 42))["a"]
    assert one.best is not None
    assert f"{one.best.expected_g:.1f}" == "3804.7"
    assert f" {grams(round(one.best.expected_g))} (21 % less)" in one.message


@pytest.mark.parametrize(
    ("short", "limits"),
    [
        ("GPUs are short", {}),
        ("the power that its zone may draw is short", {"nodes": 2, "contracted_power_kw": 6.0}),
        ("cooling is short", {"nodes": 2, "thermal_zones": (thermal_zone_state(cooling_capacity_kw=6.0),)}),
    ],
)
def test_who_gets_no_room_in_the_cleanest_hours_is_told_which_row_is_dear(
    short: str, limits: dict[str, object]
) -> None:
    found = decisions(scene(*(work(name) for name in "ab"), **limits))  # type: ignore[arg-type]
    at = sorted(d.start for d in found.values())
    assert at[0] == NOW + 6 * HOUR
    pushed = [d for d in found.values() if d.start != at[0] and d.reason is Reason.CLEANER_WINDOW]
    assert pushed
    assert all(short in d.message and "2026-07-01 19:00 UTC, goes to other work" in d.message for d in pushed)
    assert short in why(pushed[0])


def test_no_gpus_until_names_the_hour_of_the_first_room() -> None:
    busy = gang_at(NOW, expected_end_p50=NOW + 3 * HOUR, expected_end_p90=NOW + 3 * HOUR)
    cells = (Cell(name="west", grid_zone="west", thermal_zone=None, gpus_total=8, node_free_gpus=(0,), pue=1.0),)
    one = decisions(scene(work(), carbon=[200.0] * 48, cells=cells, running=(busy,)))["a"]
    assert one.reason is Reason.WAITING_FOR_GPUS
    assert "no allowed zone has 8 GPUs free for its whole run before 2026-07-01 16:00 UTC" in one.message
    assert "before 16:00 UTC" in why(one)


def test_saving_too_little_is_said() -> None:
    one = decisions(scene(work(minimum_saving_percent=5.0), carbon=[200.0] * 6 + [195.0] * 42))["a"]
    assert (one.action, one.reason) == (Action.RELEASE, Reason.MINIMUM_SAVING)


def test_room_that_is_short_goes_first_to_the_tenant_that_got_less_and_the_other_is_told() -> None:
    first = work("first", tenant="rich", created_at=NOW - 2 * HOUR)
    second = work("second", tenant="poor")
    flat = [200.0] * 48
    alike = decisions(scene(first, second, carbon=flat))
    assert alike["first"].action is Action.RELEASE
    found = decisions(scene(first, second, carbon=flat, tenants=UNEVEN))
    assert found["second"].action is Action.RELEASE
    assert (found["first"].action, found["first"].reason) == (Action.HOLD, Reason.TENANT_SHARE)
    assert "rich had 90 % of the recent GPU-hours and 0 % of the waiting" in found["first"].message
    assert "others first" in why(found["first"])
    assert found["first"].start <= first.latest_start


def test_a_tenant_that_has_waited_more_than_others_waits_no_longer_for_a_little() -> None:
    carbon = [200.0] * 10 + [180.0] * 38
    assert decisions(scene(work(tenant="poor"), carbon=carbon))["a"].action is Action.HOLD
    one = decisions(scene(work(tenant="poor"), carbon=carbon, tenants=UNEVEN))["a"]
    assert (one.action, one.reason) == (Action.RELEASE, Reason.TENANT_SHARE)
    assert "waiting would save 10.0 %" in one.message
    assert decisions(scene(work(tenant="poor"), tenants=UNEVEN))["a"].action is Action.HOLD, "much is still worth it"


def test_shares_price_tenants_and_jain_tells_how_even_they_waited() -> None:
    found = standing(UNEVEN)
    assert found.excess == {"rich": 0.875, "poor": -0.875}
    assert found.jain == pytest.approx(0.5)
    assert plan(scene(work(), tenants=UNEVEN)).jain == found.jain
    assert standing({"only": TenantUse(gpu_h=9, waited_gpu_h=9)}).jain is None
    assert standing({"a": TenantUse(gpu_h=9, waited_gpu_h=0), "b": TenantUse(gpu_h=1, waited_gpu_h=0)}).excess == {}
    odd = {"a": TenantUse(gpu_h=float("nan"), waited_gpu_h=-1), "b": TenantUse(gpu_h=1, waited_gpu_h=1)}
    assert standing(odd).excess == {}
    assert jain([1.0, 1.0, 1.0]) == 1.0
    assert jain([3.0, 0.0, 0.0]) == pytest.approx(1 / 3)
    assert jain([0.0, 0.0]) == 1.0


def test_what_tenants_had_is_read_from_their_jobs_and_the_history_of_their_plans() -> None:
    def job(name: str, namespace: str, **changes: object) -> WorkloadRecord:
        base = WorkloadRecord(
            key=WorkloadKey(namespace=namespace, name=name, kind=WorkloadKind.JOB, uid=name),
            created_at=NOW - 5 * HOUR,
            flex="patient",
            held=False,
            waiting=False,
            finished=False,
            pods=1,
            gpus_per_pod=8,
            annotations={},
            labels={},
            constraints=UNCONSTRAINED,
            started_at=NOW - HOUR,
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def held_for(reason: str) -> KnownPlan:
        history = [
            {"time": "2026-07-01T09:00:00Z", "state": "Held", "reason": reason},
            {"time": "2026-07-01T12:00:00Z", "state": "Released", "reason": "BestNow"},
        ]
        return KnownPlan(
            latest_start=NOW,
            policy="",
            mode="enforce",
            state="Released",
            reason="BestNow",
            cell="",
            planned_start="",
            generation=None,
            kept=json.dumps({"history": history}).encode(),
            signature=None,
        )

    records = [
        job("a", "one"),
        job("b", "two", waiting=True, held=True, started_at=None),
        job("c", "two", flex="", started_at=NOW - HOUR),
        job("d", "one", finished=True, started_at=NOW - 300 * HOUR, completed_at=NOW - 299 * HOUR),
        job("e", "one", finished=True),
    ]
    use = tenant_use(records, {"a": held_for("CleanerWindow"), "b": held_for("WaitingForGpus")}, NOW, lambda t: t)
    assert use["one"].gpu_h == pytest.approx(8 * 0.98, abs=0.02)
    assert use["one"].waited_gpu_h == pytest.approx(8 * 3 * 0.9, abs=0.5)
    assert use["two"] == TenantUse(gpu_h=0.0, waited_gpu_h=0.0)


def test_cost_decides_where_the_policy_says_so_and_not_where_nobody_knows_it() -> None:
    price = np.full(48, 90.0)
    price[2:4] = 10.0
    dear = work(weights=Weights(carbon=0.0, cost=1.0))
    assert decisions(scene(dear, price_per_mwh=price))["a"].start == NOW + 2 * HOUR
    assert "prefers (cost 1)" in decisions(scene(dear, price_per_mwh=price))["a"].message
    assert decisions(scene(dear))["a"].start == NOW + 6 * HOUR, "without prices emissions decide"
    assert decisions(scene(work(), price_per_mwh=price))["a"].start == NOW + 6 * HOUR


def test_renewable_share_decides_where_the_policy_says_so() -> None:
    share = np.full((1, 48), 0.2)
    share[0, 8:10] = 0.9
    found = decisions(scene(work(weights=Weights(carbon=0.0, renewable=1.0)), renewable_share=share))["a"]
    assert found.start == NOW + 8 * HOUR
    found = decisions(scene(work(weights=Weights(carbon=0.0, renewable=1.0)), renewable_share=None))["a"]
    assert found.start == NOW + 6 * HOUR, "where nobody tells the share emissions decide"


def test_the_bound_is_about_emissions_whatever_the_weights() -> None:
    price = np.full(48, 90.0)
    price[2:4] = 10.0
    jobs = [work("a", weights=Weights(carbon=0.0, cost=1.0)), work("b"), work("c", weights=Weights(cost=1.0))]
    found = plan(scene(*jobs, price_per_mwh=price))
    assert found.lower_bound_g is not None
    assert found.lower_bound_g <= found.objective_g


def test_an_hour_in_which_cooling_takes_more_power_counts_as_dirtier() -> None:
    pue = np.full(24, 1.1)
    pue[3:9] = 1.9
    looking = HeatOutlook(start=NOW, step=HOUR, removable_kw=np.full(24, np.inf), pue=pue)
    carbon = [200.0] * 3 + [170.0] * 6 + [180.0] * 39
    assert decisions(scene(work(), carbon=carbon))["a"].start == NOW + 3 * HOUR
    found = decisions(scene(work(), carbon=carbon, thermal_zones=(thermal_zone_state(outlook=looking),)))["a"]
    assert found.start == NOW + 9 * HOUR


def test_starts_are_spread_over_slots_where_the_power_of_a_zone_may_rise_only_slowly() -> None:
    several = [work(f"w{i}", duration_p50_s=3600.0, duration_p90_s=3600.0) for i in range(6)]
    # 10 kW an hour: two of these gangs, at 5 kW each in the worst case.
    slow = thermal_zone_state(start_ramp_kw_per_min=10.0 / 60.0)
    found = plan(scene(*several, nodes=8, thermal_zones=(slow,)))
    starts = [d.start for d in found.decisions]
    assert max(starts.count(start) for start in starts) == 2
    assert sorted(start.hour for start in starts)[:4] == [19, 19, 20, 20]
    assert found.lower_bound_g is not None
    assert found.lower_bound_g <= found.objective_g
    free = plan(scene(*several, nodes=8, thermal_zones=(thermal_zone_state(),)))
    assert {d.start.hour for d in free.decisions} == {19}


def test_who_could_start_but_for_the_ramp_is_told_so() -> None:
    several = [work(f"w{i}") for i in range(6)]
    slow = thermal_zone_state(start_ramp_kw_per_min=10.0 / 60.0)
    found = plan(scene(*several, nodes=8, carbon=[400.0] * 48, thermal_zones=(slow,)))
    reasons = [d.reason for d in found.decisions]
    assert (reasons.count(Reason.BEST_NOW), reasons.count(Reason.START_RAMP)) == (2, 4)


def test_how_tenants_stand_is_told_from_the_same_objects_as_in_the_operator() -> None:
    def job(tenant: str, started_h: float) -> dict[str, object]:
        limits = {"resources": {"limits": {"nvidia.com/gpu": "8"}}}
        return {
            "metadata": {
                "namespace": tenant,
                "name": "j",
                "uid": tenant,
                "labels": {"embellie.io/flex": "patient"},
                "creationTimestamp": (NOW - 9 * HOUR).isoformat(),
            },
            "spec": {"template": {"spec": {"containers": [limits]}}},
            "status": {"startTime": (NOW - started_h * HOUR).isoformat()},
        }

    history = [
        {"time": (NOW - 9 * HOUR).isoformat(), "state": "Held", "reason": "CleanerWindow"},
        {"time": (NOW - 1 * HOUR).isoformat(), "state": "Released", "reason": "BestNow"},
    ]
    waited = {
        "spec": {"workloadRef": {"uid": "poor"}, "latestStartTime": NOW.isoformat()},
        "status": {"state": "Released", "reason": "BestNow", "history": history},
    }
    use = use_of([job("rich", 8), job("poor", 1)], [], [waited], NOW)
    header, lines = table(use)
    assert [line[0] for line in lines] == ["rich", "poor"]
    assert header[3] == "EXCESS"
    assert lines[0][3:] == ["+0.875", "others go first where room is short"]
    assert lines[1][3:] == ["-0.875", "an hour of waiting must save 4.4 % of what an hour of work emits"]
    assert "Jain's index" in evenness(use)
    assert "nothing to share out" in evenness({})
