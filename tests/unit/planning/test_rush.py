# SPDX-License-Identifier: Apache-2.0
"""A turn's guard: nobody waits for cleaner hours where so much work waits that some of it could be late."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from snapshots import grid_zone_at, workload_at

from embellie.domain.plan import Action, Decision
from embellie.domain.power_orders import PowerOrder
from embellie.domain.reasons import Reason
from embellie.domain.snapshot import Cell, GridZoneState, RunningGang, Snapshot, Workload
from embellie.planning import plan
from embellie.planning.rush import pressing

NOW = datetime(2026, 7, 1, 13, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
SWING = [400.0] * 12 + [100.0] * 6 + [400.0] * 54
"""Clean hours from 12 to 18 h on."""


def grid_zone(name: str = "west", **changes: object) -> GridZoneState:
    return grid_zone_at(NOW, SWING, name, **changes)


def cell(name: str = "west", free: int = 8) -> Cell:
    return Cell(name=name, grid_zone=name, thermal_zone=None, gpus_total=8, node_free_gpus=(free,), pue=1.0)


def held(name: str, *, hours: float = 2.0, gpus: int = 8, slack_h: float = 24.0, **changes: object) -> Workload:
    return replace(
        workload_at(NOW, name, gpus_per_pod=gpus),
        created_at=NOW,
        latest_start=NOW + slack_h * HOUR,
        duration_p50_s=hours * 3600.0,
        duration_p90_s=hours * 3600.0,
        **changes,  # type: ignore[arg-type]
    )


def site(*workloads: Workload, **changes: object) -> Snapshot:
    base = Snapshot(
        now=NOW,
        turn_s=15.0,
        workloads=workloads,
        cells=(cell(),),
        grid_zones=(grid_zone(),),
        thermal_zones=(),
        running=(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def names(seen: Snapshot) -> list[str]:
    return [key.name for key in pressing(seen, 1.0)]


def decided(seen: Snapshot) -> dict[str, Decision]:
    return {d.key.name: d for d in plan(seen).decisions}


def test_work_that_would_still_start_in_time_after_others_may_wait_for_cleaner_hours() -> None:
    found = decided(site(*(held(f"j{i}") for i in range(3))))
    assert {d.reason for d in found.values()} == {Reason.CLEANER_WINDOW}


def test_where_work_would_be_late_if_all_waited_the_first_starts_at_once_and_says_why() -> None:
    # Eight runs of two hours on one node: the last would begin after 15 h, and two fifths of 24 h are kept.
    found = decided(site(*(held(f"j{i}") for i in range(8))))
    started = [d for d in found.values() if d.action is Action.RELEASE]
    assert [d.reason for d in started] == [Reason.SLACK_SPENT]
    assert "miss its latest start" in started[0].message
    assert {d.reason for d in found.values() if d.action is Action.HOLD} == {Reason.WAITING_FOR_GPUS}


def test_what_must_not_wait_starts_one_after_the_other_not_all_in_the_clean_hours() -> None:
    found = decided(site(*(held(f"j{i}") for i in range(8))))
    starts = sorted((d.start - NOW).total_seconds() / 3600.0 for d in found.values())
    assert starts[-1] < 18.0


def test_the_largest_goes_last_where_not_all_can_be_in_time() -> None:
    large = held("large", hours=30.0, slack_h=4.0)
    small = [held(f"small-{i}", slack_h=6.0) for i in range(3)]
    seen = site(large, *small)
    assert names(seen) == ["small-0", "small-1", "small-2", "large"]
    assert decided(seen)["large"].action is Action.HOLD


def test_work_that_only_one_cell_may_take_is_pressed_by_what_waits_there_not_elsewhere() -> None:
    cells, zones = (cell("west"), cell("east")), (grid_zone("west"), grid_zone("east"))
    here = [held(f"west-{i}", allowed_cells=frozenset({"west"})) for i in range(8)]
    free = held("anywhere", allowed_cells=frozenset({"west", "east"}))
    seen = site(*here, free, cells=cells, grid_zones=zones)
    assert sorted(names(seen)) == [f"west-{i}" for i in range(8)]


def test_a_contract_that_feeds_half_of_the_gpus_counts_as_half_of_them() -> None:
    work = [held(f"j{i}", gpus=4) for i in range(8)]
    assert names(site(*work)) == []
    kw = work[0].worst_power_kw
    fed = site(*work, grid_zones=(grid_zone(contracted_power_kw=10.0 + 1.01 * kw),))
    assert len(names(fed)) == 8


def test_an_order_that_holds_takes_room_until_it_ends_and_no_longer() -> None:
    work = [held(f"j{i}", gpus=4) for i in range(8)]
    for_one_kw = 10.0 + 1.01 * work[0].worst_power_kw

    def pressed(begins_h: float, ends_h: float, kw: float = for_one_kw) -> int:
        order = PowerOrder(begins=NOW + begins_h * HOUR, ends=NOW + ends_h * HOUR, power_kw=kw)
        return len(names(site(*work, grid_zones=(grid_zone(orders=(order,)),))))

    assert pressed(-1, 1) == pressed(-1, 1, kw=0.0) == 0
    assert pressed(-1, 20) == pressed(-1, 20, kw=0.0) == 8
    assert pressed(-1, 0) == pressed(1, 2) == 0


def test_of_orders_that_hold_each_gives_its_room_back_at_its_own_end() -> None:
    work = [held(f"j{i}", gpus=4) for i in range(8)]
    for_one_kw = 10.0 + 1.01 * work[0].worst_power_kw

    def pressed(none_until_h: float, one_until_h: float) -> int:
        orders = (
            PowerOrder(begins=NOW - HOUR, ends=NOW + none_until_h * HOUR, power_kw=0.0),
            PowerOrder(begins=NOW - 2 * HOUR, ends=NOW + one_until_h * HOUR, power_kw=for_one_kw),
        )
        return len(names(site(*work, grid_zones=(grid_zone(orders=orders),))))

    assert pressed(1, 2) == 0
    assert pressed(1, 20) == pressed(20, 2) == 8


def test_runs_that_go_on_count_until_their_expected_end() -> None:
    busy = RunningGang(
        cell="west",
        gpus=8,
        power_kw=4.0,
        worst_power_kw=5.0,
        expected_end_p50=NOW + 20 * HOUR,
        expected_end_p90=NOW + 30 * HOUR,
        started_at=NOW - HOUR,
    )
    seen = site(held("j"), cells=(cell(free=0),), running=(busy,))
    assert names(seen) == ["j"]
    soon = replace(seen, running=(replace(busy, expected_end_p50=NOW + 2 * HOUR),))
    assert names(soon) == []


def test_work_counts_with_its_expected_length_however_long_it_was_allowed() -> None:
    usually_short = [replace(held(f"j{i}", hours=6.0), duration_p50_s=3600.0) for i in range(4)]
    assert names(site(*usually_short)) == []
    assert len(names(site(*(held(f"j{i}", hours=6.0) for i in range(4))))) == 4


def test_a_gang_that_no_cell_can_ever_hold_hurries_nobody() -> None:
    assert names(site(held("giant", gpus=64), held("j"))) == []


def test_shadow_work_hurries_nobody_and_is_not_hurried() -> None:
    assert names(site(*(held(f"j{i}", enforced=False) for i in range(20)))) == []


def test_the_longer_work_has_waited_the_less_is_kept_of_what_is_left() -> None:
    waited = held("j", hours=2.0)
    waited = replace(waited, created_at=NOW - timedelta(hours=20), latest_start=NOW + 4 * HOUR)
    assert names(site(waited)) == []


def test_work_past_its_bound_that_can_start_at_once_does_not_go_last():
    overdue, due = held("a", gpus=4, slack_h=-1.0), held("b", slack_h=2.0)
    assert names(site(overdue, due)) == ["a", "b"]
